"""Zero-cost scores against training: how each ranks networks of this space, and whether any is worth more
than the number of parameters.

Every score is compared with the same trained networks. A score beats the parameter count where its tau is
higher in at least 97.5 % of the resamples of these networks, paired: with a dozen networks that takes a lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.tasks.base import Task
from evaluators.zero_cost.base import zero_cost_score, zero_costs
from foundation.errors import EvaluationFailed, IllegalArchitecture
from foundation.statistics import Tau, tau_difference
from foundation.text import listed
from nas.study.facts import VALIDATION, add_fact
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.agreement import Agreement, agreement
from nas.validation.errors import NothingToCompare

REFERENCE = "params_without_embeddings"
"""What the others have to beat."""


@dataclass(frozen=True)
class ZeroCostCheck:
    """How each score agrees with training in `quality`, or why that is not known; and the gains over one."""

    quality: str
    networks: int
    agreements: tuple[tuple[str, Agreement | str], ...]
    gains: tuple[tuple[str, Tau], ...]
    """By how much each tau is above that of `REFERENCE`."""

    @property
    def better(self) -> tuple[tuple[str, Tau], ...]:
        """The scores that beat the parameter count beyond chance, with their gains."""
        return tuple((name, gain) for name, gain in self.gains if gain.low > 0)

    @property
    def verdict(self) -> str:
        """Whether any score is worth more than the parameter count."""
        if not self.gains:
            return "zero-cost scores cannot be compared with the parameter count"
        if self.better:
            told = listed(f"{name} by {gain}" for name, gain in self.better)
            return f"zero-cost scores that rank better than the parameter count: {told}"
        name, gain = max(self.gains, key=lambda pair: pair[1].value)
        return f"no zero-cost score ranks better than the parameter count; first is {name}, by {gain}"

    @property
    def lines(self) -> list[str]:
        """All of it in words."""
        against = f"zero-cost scores against {self.quality} of {self.networks} trained networks"
        lines = [f"{against}, Kendall tau (1: the larger the score, the better the network):"]
        width = max(len(name) for name, _ in self.agreements)
        lines += [f"  {name:{width}}  {found}" for name, found in self.agreements]
        return [*lines, self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        ranked = {name: found.ranking() for name, found in self.agreements if isinstance(found, Agreement)}
        return {
            "quality": self.quality,
            "networks": self.networks,
            "rankings": ranked,
            "better": [name for name, _ in self.better],
            "verdict": self.verdict,
        }


def check_zero_cost(study: Study, truths: Sequence[Trial], task: Task) -> ZeroCostCheck:
    """Rank trained networks by every zero-cost score; the result is put on the study's record.

    Raises:
        NothingToCompare: there are too few networks, or they all score the same.
    """
    assert study.quality is not None
    quality, seed = study.quality.name, study.plan.seed
    trained = {trial.digest: trial.values[quality].value for trial in truths}
    if len(trained) < 3:
        raise NothingToCompare(f"zero-cost scores need at least 3 trained networks, got {len(trained)}")
    specs = {trial.digest: study.spec(trial) for trial in truths}
    scores = dict[str, dict[str, float] | str]()
    for digest, spec in specs.items():  # network by network, since scores share what they compute
        for name in zero_costs:
            known = scores.setdefault(name, {})
            if isinstance(known, str):
                continue
            try:
                known[digest] = zero_cost_score(name, spec, task, seed)
            except (EvaluationFailed, IllegalArchitecture) as error:
                scores[name] = f"none: {error}"
    agreements = tuple((name, _agreement(found, trained)) for name, found in scores.items())
    check = ZeroCostCheck(quality, len(trained), agreements, _gains(agreements, scores, trained))
    add_fact(study, VALIDATION, {**study.facts.get(VALIDATION, {}), "zero_cost": check.to_json()})
    return check


def _agreement(scores: dict[str, float] | str, trained: dict[str, float]) -> Agreement | str:
    """Smaller qualities are better, and larger scores are meant to be."""
    if isinstance(scores, str):
        return scores
    try:
        return agreement([(-scores[digest], value, digest) for digest, value in trained.items()])
    except NothingToCompare as error:
        return f"none: {error}"


def _gains(
    agreements: Sequence[tuple[str, Agreement | str]],
    scores: dict[str, dict[str, float] | str],
    trained: dict[str, float],
) -> tuple[tuple[str, Tau], ...]:
    ranked = [name for name, found in agreements if isinstance(found, Agreement)]
    if REFERENCE not in ranked:
        return ()
    columns = {name: [-_number(scores[name], digest) for digest in trained] for name in ranked}
    truth = list(trained.values())
    return tuple(
        (name, tau_difference(columns[name], columns[REFERENCE], truth))
        for name in ranked
        if name != REFERENCE
    )


def _number(scores: dict[str, float] | str, digest: str) -> float:
    assert not isinstance(scores, str)
    return scores[digest]
