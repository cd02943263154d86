"""What modifiers made of a study's networks at its end, beside what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dashboards.facts.networks import one_line_of, quantity
from dashboards.facts.quantities import Quantity
from nas.study.modified import STAGE, front_after, lines_of, record_lines, then_lines
from nas.study.study import Study
from nas.study.trial import Value

ABOUT = (
    "Modifiers were applied to the networks that were trained longest, and what came out was scored on the"
    " same validation windows and measured in the same scenario. The change of a score is a mean of"
    " differences on these windows, ± one standard error."
)


@dataclass(frozen=True, kw_only=True)
class ModifiedNetwork:
    """A member of the front behind the modifiers; `done` says what was done to which network, `steps` what
    each modifier changed; both are empty for a network as it was trained."""

    digest: str
    one_line: str
    done: str
    steps: tuple[str, ...]
    values: Mapping[str, Value]


@dataclass(frozen=True)
class ModifiedFacts:
    """The front behind the modifiers, what is shown of its members, and the rest in words."""

    networks: tuple[ModifiedNetwork, ...]
    quantities: tuple[Quantity, ...]
    lines: tuple[str, ...]


def modified_facts(study: Study) -> ModifiedFacts | None:
    """What was modified; None where nothing was."""
    front = front_after(study)
    lines = then_lines(study, front)
    if not lines:
        return None
    networks = tuple(
        ModifiedNetwork(
            digest=trial.digest,
            one_line=one_line_of(study, trial),
            done=lines_of(trial) if trial.stage == STAGE else "",
            steps=tuple(record_lines(trial)),
            values=trial.values,
        )
        for trial in front
    )
    return ModifiedFacts(networks, tuple(quantity(name, study) for name in front.columns), tuple(lines))
