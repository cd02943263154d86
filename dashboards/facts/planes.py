"""The front of a study in each pair of its objectives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from dashboards.facts.front import FrontFacts, front_facts
from dashboards.facts.networks import one_line_of, quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.scored import Scored
from nas.study.study import Study
from nas.study.trial import Trial, Value


def planes(
    study: Study,
    scored: Scored | Sequence[Trial],
    front: Sequence[Trial],
    *,
    objectives: Sequence[str],
    one_lines: Mapping[str, str],
    finalists: Collection[str] = (),
    measured: Mapping[str, Mapping[str, Value]] | None = None,
) -> tuple[FrontFacts, ...]:
    """The front in each pair of objectives, the first two first; `one_lines` holds lines by digest."""
    quantities = tuple(quantity(name, study) for name in objectives)
    members = study.undominated_as_measured(front, measured or {}) if len(quantities) > 2 else []
    left = {trial.number for trial in members}
    return tuple(
        front_facts(
            scored,
            *_axes(first, second),
            describe=lambda trial: one_lines.get(trial.digest) or one_line_of(study, trial),
            measured=measured,
            members=left,
            former={trial.number for trial in front} - left if left else (),
            finalists=finalists,
            objectives=quantities,
        )
        for first, second in combinations(quantities, 2)
        if len(scored)
    )


def _axes(first: Quantity, second: Quantity) -> tuple[Quantity, Quantity]:
    """Costs on the horizontal axis, quality on the vertical one."""
    return (second, first) if first.scored else (first, second)
