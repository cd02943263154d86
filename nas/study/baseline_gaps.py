"""Does the front beat the baselines, by how much, and beyond the noise?

    for verdict in verdicts(study):
        print(verdict)      # at equal decode_ms the front beats lfm2 by 0.081 ± 0.012 bits per byte ...

A baseline is compared at equal cost with members of the front that were trained as long. The front beats it
with a member that costs no more and scores better. It beats the front where the best member that costs no
more scores worse, and one of them costs at least four fifths of it, or where a member that costs no less
scores worse. Otherwise a trade-off is left, and nothing is said. Costs that were measured are equal within
their errors. Of each baseline the longest training counts that can be judged so, and of its sizes the one
that does best.

Scores are compared window by window (`nas.study.significance`). Where both networks were trained with several
seeds, the gap is the mean over these, and its error that of the windows and that of the seeds, added in
squares; where they were trained once, the luck of a seed is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from foundation.statistics import mean_and_error
from foundation.text import listed, with_error
from nas.objectives.base import Objective
from nas.study.baselines import STAGE, rungs_of
from nas.study.given_networks import given_name
from nas.study.significance import SIGNIFICANT, paired
from nas.study.study import Study
from nas.study.trial import Trial, TrialState, Value

EQUAL = 1.25
"""How many times a member's cost a baseline may have that beats it at equal cost."""

Known = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Gap:
    """A network of a baseline, and the member of the front that it is held against.

    `gain` is by how much the member scores better, with its standard error; None where none is known.
    """

    baseline: str
    network: Trial
    member: Trial
    gain: float
    error: float | None
    seeds: int = 1

    @property
    def steps(self) -> int:
        """How long both were trained."""
        return self.network.fidelity.steps

    @property
    def significant(self) -> bool:
        """Whether the gain is beyond the noise."""
        return self.error is not None and abs(self.gain) >= SIGNIFICANT * self.error and self.gain != 0

    @property
    def size(self) -> str:
        """The absolute gain with its error: `0.081 ± 0.012`."""
        return with_error(abs(self.gain), self.error or 0.0)

    @property
    def signed(self) -> str:
        """The same with its sign: `+0.004 ± 0.010` where the front is ahead."""
        return f"{'-' if self.gain < 0 else '+'}{self.size}"


@dataclass(frozen=True)
class Verdict:
    """All baselines at equal `cost`; `apart` are those that no member which was trained as long can judge."""

    cost: str
    unit: str
    gaps: tuple[Gap, ...]
    apart: tuple[str, ...] = ()

    @property
    def beaten(self) -> tuple[Gap, ...]:
        """Those that the front beats."""
        return tuple(gap for gap in self.gaps if gap.significant and gap.gain > 0)

    @property
    def better(self) -> tuple[Gap, ...]:
        """Those that beat the front."""
        return tuple(gap for gap in self.gaps if gap.significant and gap.gain < 0)

    @property
    def tied(self) -> tuple[Gap, ...]:
        """Those within the noise."""
        return tuple(gap for gap in self.gaps if not gap.significant)

    def __str__(self) -> str:
        return f"at equal {self.cost} {self.result}"

    @property
    def result(self) -> str:
        """What follows `at equal cost` in a sentence."""
        beyond, clauses = "beyond the noise", list[str]()
        if self.beaten:
            clauses.append(f"the front beats {self._told(self.beaten)}, {beyond}")
        if self.better:
            subject = "it" if self.beaten else "the front"
            clauses.append(f"{subject} is beaten by {self._told(self.better)}, {beyond}")
        if self.tied:
            tied = listed(f"{gap.baseline} ({gap.signed}{self._after(gap)})" for gap in self.tied)
            clauses.append(f"{tied} {_are(self.tied)} within the noise")
        if self.apart:
            clauses.append(f"no network of the front at the cost of {_or(self.apart)} was trained as long")
        return "; ".join(clauses) + self._steps

    @property
    def _steps(self) -> str:
        """How long all were trained, where that is the same."""
        steps, seeds = {gap.steps for gap in self.gaps}, {gap.seeds for gap in self.gaps}
        of = f", {max(seeds)} seeds each" if len(seeds) == 1 and max(seeds) > 1 else ""
        return f" (after {steps.pop():,} steps{of})" if len(steps) == 1 else ""

    def _told(self, gaps: Sequence[Gap]) -> str:
        if self._steps:
            return f"{listed(f'{gap.baseline} by {gap.size}' for gap in gaps)} {self.unit}"
        return listed(f"{gap.baseline} by {gap.size} {self.unit}{self._after(gap)}" for gap in gaps)

    def _after(self, gap: Gap) -> str:
        return "" if self._steps else f" after {gap.steps:,} steps"


def _or(names: Sequence[str]) -> str:
    return listed(names).replace(" and ", " or ")


def _are(several: Sequence[object]) -> str:
    return "is" if len(several) == 1 else "are"


def verdicts(study: Study) -> list[Verdict]:
    """One for each cost that the study trades off, and for the stored bytes; none without baselines."""
    if study.quality is None or not (trials := baseline_trials(study)):
        return []
    costs = [o.name for o in study.objectives if not o.task and not o.maximise]
    known = study.measured()
    found = (
        verdict(study, cost, trials, known, quality=quality)
        for quality in study.scores
        for cost in dict.fromkeys([*costs, "weight_bytes"])
    )
    return [each for each in found if each.gaps or each.apart]


def baseline_trials(study: Study) -> list[Trial]:
    """The trials of baselines that are complete."""
    return [trial for trial in study.trials(STAGE) if trial.state is TrialState.COMPLETE]


def verdict(study: Study, cost: str, trials: Sequence[Trial], known: Known, *, quality: Objective) -> Verdict:
    """All baselines at equal cost, by one of the scores."""
    names = dict.fromkeys(given_name(trial.genotype) for trial in trials)
    costs, found = _Costs(cost, known), dict[str, Gap | None]()
    repeats = [trial for trial in study.trials("repeat") if trial.state is TrialState.COMPLETE]
    for rung in reversed(rungs_of(study)):  # the longest training first
        alike = [trial for trial in trials if trial.fidelity == rung.fidelity]
        for name in names:
            networks = [trial for trial in alike if given_name(trial.genotype) == name]
            if networks and found.get(name) is None:
                gaps = list(_gaps(networks, rung.members, costs, quality.name))
                found[name] = min(gaps, key=lambda gap: gap.gain, default=None)
    priced = {given_name(trial.genotype) for trial in trials if costs.of(trial) is not None}
    gaps = [_over_seeds(gap, repeats, quality.name) for gap in found.values() if gap is not None]
    apart = [name for name, gap in found.items() if gap is None and name in priced]
    return Verdict(cost, quality.unit, tuple(gaps), tuple(apart))


def _over_seeds(gap: Gap, repeats: Sequence[Trial], quality: str) -> Gap:
    """The gap as the mean over all seeds that both networks were trained with as long."""
    alike = [trial for trial in repeats if trial.fidelity == gap.network.fidelity and quality in trial.values]
    both = [
        {t.seed: t.values[quality] for t in alike if t.digest == one.digest}
        for one in (gap.network, gap.member)
    ]
    pairs = [(gap.network.values[quality], gap.member.values[quality])]
    pairs += [(both[0][seed], both[1][seed]) for seed in sorted(both[0].keys() & both[1].keys())]
    if len(pairs) == 1:
        return gap
    found = [paired(*pair) for pair in pairs]
    mean, of_seeds = mean_and_error([gain for gain, _ in found])
    errors = [error for _, error in found if error is not None]
    # the windows are the same for all seeds, so that their error does not become smaller with more of them
    of_windows = sum(errors) / len(errors) if errors else 0.0
    return replace(gap, gain=mean, error=math.hypot(of_windows, of_seeds), seeds=len(pairs))


@dataclass(frozen=True)
class _Costs:
    """What networks cost: as it was measured, where it was."""

    name: str
    known: Known

    def of(self, trial: Trial) -> Value | None:
        return self.known.get(trial.digest, {}).get(self.name) or trial.values.get(self.name)

    def no_more(self, one: Trial, other: Trial, times: float = 1.0) -> bool:
        """Whether one costs no more than so many times the other, both known in the same way."""
        mine, theirs = self.of(one), self.of(other)
        if mine is None or theirs is None or mine.is_predicted != theirs.is_predicted:
            return False
        noise = SIGNIFICANT * math.hypot(mine.error or 0.0, theirs.error or 0.0)
        return mine.value <= times * theirs.value + noise


def _gaps(networks: Sequence[Trial], members: Sequence[Trial], costs: _Costs, quality: str) -> Iterator[Gap]:
    members = [member for member in members if quality in member.values]
    for network in networks:
        if quality in network.values and (gap := _gap(network, members, costs, quality)) is not None:
            yield gap


def _gap(network: Trial, members: Sequence[Trial], costs: _Costs, quality: str) -> Gap | None:
    """The network against the front at its cost; None where that is a trade-off."""

    def against(some: Sequence[Trial]) -> Gap | None:
        """The gap to the best of some members."""
        best = min(some, key=lambda member: member.values[quality].value, default=None)
        if best is None:
            return None
        gain, error = paired(network.values[quality], best.values[quality])
        return Gap(given_name(network.genotype), network, best, gain, error)

    affordable = [member for member in members if costs.no_more(member, network)]
    below = against(affordable)
    if below is not None and (
        below.gain > 0 or any(costs.no_more(network, member, EQUAL) for member in affordable)
    ):
        return below
    above = against([member for member in members if costs.no_more(network, member)])
    return above if above is not None and above.gain < 0 else None
