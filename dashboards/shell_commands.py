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


def network_commands(study: StudyFacts, digest: str, *, weights: bool) -> dict[str, str]:
    """What to type for a network, by what it does; only to show it where it has no `weights`."""
    which, folder = target(study, digest), f"{study.name}-{digest}"
    shown = {"Show it in the terminal": f"nas show {which}"}
    if not weights:
        return shown
    return {
        **shown,
        "Export it as a plain model": export(study, digest),
        "Let the export write a text": f"nas generate {shlex.quote(folder)}",
        "Go on training it": f"nas train {which} -o {shlex.quote(f'{folder}-trained')}",
        "Adapt it to a text of yours (TEXT), by few parameters": (
            f"nas adapt {which} --data TEXT -o {shlex.quote(f'{folder}-adapted')}"
        ),
        "Serve it by OpenAI's protocol": f"nas serve {which}",
    }
