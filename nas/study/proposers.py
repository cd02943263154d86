"""What proposed the candidates of a study, and how well a model predicted them: from the memos of trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foundation.text import count
from nas.study.trial import FALLBACK, PROPOSER, SKILL, Trial

WORDS = {
    "model": "the model",
    "evolution": "evolution",
    "start": "extreme and random points to begin with",
    "chance": "chance",
    "seeds": "other studies or the zoo",
}
"""What a reader is told of proposers; others go by their names."""


@dataclass(frozen=True)
class Skill:
    """Before a trial, by objective: the rank correlation of values with those predicted without them."""

    number: int
    of: Mapping[str, float]


@dataclass(frozen=True)
class Proposers:
    """How many architectures each proposer named, and the skill of the model over time.

    `promotions` is how often a scheduler had a candidate trained further, which nothing proposed. `fallbacks`
    are proposals that the model did not make because its skill was below `least`.
    """

    counts: Mapping[str, int]
    skill: tuple[Skill, ...] = ()
    fallbacks: int = 0
    least: float | None = None
    promotions: int = 0

    @property
    def lines(self) -> list[str]:
        """Who proposed, how well the model predicts, and that it was not asked, where that is so."""
        parts = [f"{number:,} by {WORDS.get(name, name)}" for name, number in self.counts.items()]
        further = f"; {count(self.promotions, 'promotion')} to a longer training" if self.promotions else ""
        lines = [f"proposed: {', '.join(parts)}{further}"]
        if self.skill:
            skill = ", ".join(f"{name} {value:.2f}" for name, value in self.skill[-1].of.items())
            lines.append(f"skill of the model (rank correlation, cross-validated): {skill}")
        if self.fallbacks:
            lines.append(
                f"before {count(self.fallbacks, 'proposal')} the skill of the model was below {self.least:g}:"
                " the search fell back to evolution"
            )
        return lines


def proposers_of(trials: Iterable[Trial]) -> Proposers | None:
    """Who proposed the architectures of these trials, each once; None where the strategy does not say."""
    told = [trial for trial in trials if isinstance(trial.memo.get(PROPOSER), str)]
    if not told:
        return None
    named = [trial for trial in told if not trial.goes_on]
    first = {trial.digest: trial.memo[PROPOSER] for trial in reversed(named)}
    skill = tuple(Skill(t.number, t.memo[SKILL]) for t in named if _are_numbers(t.memo.get(SKILL)))
    limits = [t.memo[FALLBACK] for t in named if _is_number(t.memo.get(FALLBACK))]
    return Proposers(
        dict(Counter(first.values()).most_common()),
        skill,
        fallbacks=len(limits),
        least=limits[-1] if limits else None,
        promotions=len(told) - len(named),
    )


def _are_numbers(skill: Any) -> bool:
    return isinstance(skill, Mapping) and bool(skill) and all(map(_is_number, skill.values()))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
