"""Commands as one would type them, quoted for a shell."""

from __future__ import annotations

import shlex

from dashboards.facts import StudyFacts
from nas.study.study import DEFAULT_STORE


def target(study: StudyFacts, *words: str) -> str:
    """The arguments that name a study, with its store where that is not the default one."""
    store = [] if study.store == DEFAULT_STORE else ["--store", study.store]
    return shlex.join([study.name, *words, *store])


def export(study: StudyFacts, digest: str) -> str:
    """The command that takes a network home."""
    return f"nas export {target(study, digest, '-o', f'{study.name}-{digest}')}"
