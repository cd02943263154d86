"""Does the front beat the baselines, by how much, and beyond the noise?

    for verdict in verdicts(study):
        print(verdict)      # at no more decode_ms the front beats lfm2 by 0.081 ± 0.012 bits per byte ...

A baseline is compared at equal cost: with the best of those members of the front that were trained as long,
and cost no more (within the error, where the cost is measured). Of each baseline the longest training counts
at which there is such a member, and of its sizes the one that does best against the front. Scores are
compared window by window (`nas.study.significance`); every network was trained once, so the luck of a seed is
no part of the errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from foundation.text import listed, with_error
from nas.study.baselines import STAGE, rungs_of
from nas.study.given_networks import given_name
from nas.study.significance import SIGNIFICANT, paired
from nas.study.study import Study
from nas.study.trial import Trial, TrialState, Value

Known = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Gap:
    """A network of a baseline, and the best member of the front that costs no more.

    `gain` is by how much the member scores better, with its standard error; None where none is known.
    """

    baseline: str
    network: Trial
    member: Trial
    gain: float
    error: float | None

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
    """All baselines at equal `cost`; `cheaper` ones cost less than every member that was trained as long."""

    cost: str
    unit: str
    gaps: tuple[Gap, ...]
    cheaper: tuple[str, ...] = ()

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
        return f"at no more {self.cost} {self.result}"

    @property
    def result(self) -> str:
        """What follows `at equal cost` in a sentence."""
        beyond, clauses = f"{self.unit}, beyond the noise", list[str]()
        if self.beaten:
            clauses.append(f"the front beats {self._told(self.beaten)} {beyond}")
        if self.better:
            subject = "it" if self.beaten else "the front"
            clauses.append(f"{subject} is beaten by {self._told(self.better)} {beyond}")
        if self.tied:
            tied = listed(f"{gap.baseline} ({gap.signed}{self._after(gap)})" for gap in self.tied)
            clauses.append(f"{tied} {_are(self.tied)} within the noise")
        if self.cheaper:
            than = "cheaper than every network of the front that was trained as long"
            clauses.append(f"{listed(self.cheaper)} {_are(self.cheaper)} {than}")
        return "; ".join(clauses) + self._steps

    @property
    def _steps(self) -> str:
        """How long all were trained, where that is the same."""
        steps = {gap.steps for gap in self.gaps}
        return f" (after {steps.pop():,} steps)" if len(steps) == 1 else ""

    def _told(self, gaps: Sequence[Gap]) -> str:
        return listed(f"{gap.baseline} by {gap.size}{self._after(gap)}" for gap in gaps)

    def _after(self, gap: Gap) -> str:
        return "" if self._steps else f" after {gap.steps:,} steps"


def _are(several: Sequence[object]) -> str:
    return "is" if len(several) == 1 else "are"


def verdicts(study: Study) -> list[Verdict]:
    """One for each cost that the study trades off, and for the stored bytes; none without baselines."""
    if study.quality is None or not (trials := baseline_trials(study)):
        return []
    costs = [o.name for o in study.objectives if o.name != study.quality.name and not o.maximise]
    known = study.measured()
    found = (verdict(study, cost, trials, known) for cost in dict.fromkeys([*costs, "weight_bytes"]))
    return [each for each in found if each.gaps or each.cheaper]


def baseline_trials(study: Study) -> list[Trial]:
    """The trials of baselines that are complete."""
    return [trial for trial in study.trials(STAGE) if trial.state is TrialState.COMPLETE]


def verdict(study: Study, cost: str, trials: Sequence[Trial], known: Known) -> Verdict:
    """All baselines at equal cost."""
    assert study.quality is not None
    names = dict.fromkeys(given_name(trial.genotype) for trial in trials)
    costs, found = _Costs(cost, known), dict[str, Gap | None]()
    for rung in reversed(rungs_of(study)):  # the longest training first
        alike = [trial for trial in trials if trial.fidelity == rung.fidelity]
        for name in names:
            networks = [trial for trial in alike if given_name(trial.genotype) == name]
            if networks and found.get(name) is None:
                gaps = list(_gaps(networks, rung.members, costs, study.quality.name))
                found[name] = min(gaps, key=lambda gap: gap.gain, default=None)
    priced = {given_name(trial.genotype) for trial in trials if costs.of(trial) is not None}
    gaps = [gap for gap in found.values() if gap is not None]
    cheaper = [name for name, gap in found.items() if gap is None and name in priced]
    return Verdict(cost, study.quality.unit, tuple(gaps), tuple(cheaper))


@dataclass(frozen=True)
class _Costs:
    """What networks cost: as it was measured, where it was."""

    name: str
    known: Known

    def of(self, trial: Trial) -> Value | None:
        return self.known.get(trial.digest, {}).get(self.name) or trial.values.get(self.name)

    def no_more(self, member: Trial, network: Trial) -> bool:
        """Whether a member costs no more than a network, as far as both costs are known in the same way."""
        mine, theirs = self.of(member), self.of(network)
        if mine is None or theirs is None or mine.is_predicted != theirs.is_predicted:
            return False
        noise = SIGNIFICANT * math.hypot(mine.error or 0.0, theirs.error or 0.0)
        return mine.value <= theirs.value + noise


def _gaps(networks: Sequence[Trial], members: Sequence[Trial], costs: _Costs, quality: str) -> Iterator[Gap]:
    for network in networks:
        affordable = [m for m in members if quality in m.values and costs.no_more(m, network)]
        if affordable and quality in network.values:
            best = min(affordable, key=lambda member: member.values[quality].value)
            gain, error = paired(network.values[quality], best.values[quality])
            yield Gap(given_name(network.genotype), network, best, gain, error)
