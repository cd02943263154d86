"""Shell commands about a study, quoted, for readers to copy."""

from __future__ import annotations

import shlex

from dashboards.facts import StudyFacts
from nas.default_paths import DEFAULT_STORE


def target(study: StudyFacts, *words: str) -> str:
    """The arguments that select a study, with its store where that is not the default one."""
    return " ".join([shlex.join([study.name, *words]), *store_option(study)])


def store_option(study: StudyFacts) -> list[str]:
    """The option `--store`, quoted; empty for the default store."""
    return [] if study.store == DEFAULT_STORE else ["--store", shlex.quote(study.store)]


def export(study: StudyFacts, digest: str) -> str:
    """The command that exports a network as a plain model."""
    return f"nas export {target(study, digest, '-o', f'{study.name}-{digest}')}"
