"""What a scheduler answers: for how many steps a candidate begins, and which one is trained further.

A strategy says *which* architectures are tried, a scheduler says *for how long*: any of the one kind goes
with any of the other. A candidate is judged at the rungs of a ladder of training steps. Each rung that it
reaches is a trial of its own, at the fidelity of that rung, whose memo names the trial in which the candidate
began.

    @schedulers.add
    class Mine(Scheduler):
        name = "mine"

        def begin(self) -> Beginning: ...
        def promotion(self) -> Promotion | None: ...
        def tell(self, trial: Trial) -> None: ...

Scores after few steps are not those of a whole training. What they would become is predicted from the
learning curves of all candidates (`nas.schedulers.curves`), with an error: a strategy hears *that*, and so
compares like with like, however long each was trained (`Scheduler.believed`).

Decisions depend on what was told, in its order, and on nothing else: so a search that was stopped, and whose
trials are told again, decides what it would have decided.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar, TypeAlias

from foundation.errors import SettingError
from foundation.registry import Registry
from foundation.wording import argument
from nas.schedulers.curves import LearningCurves
from nas.study.plan import Plan
from nas.study.plan_objectives import scored_names
from nas.study.trial import PREDICTED, Trial, TrialState, Value

RUNGS = 3
"""Rungs of a ladder whose plan names none."""

PointOf: TypeAlias = Callable[[Trial], tuple[float, ...]]
"""The objectives of a complete trial, turned so that smaller is better."""


@dataclass(frozen=True)
class Ladder:
    """The training steps of the rungs, increasing; the share `keep` of a rung reaches the next."""

    steps: tuple[int, ...]
    keep: float = 1 / 3

    @property
    def full(self) -> int:
        """The steps of the last rung: a whole training."""
        return self.steps[-1]

    def reached(self, begun: Mapping[int, int]) -> list[int]:
        """How many candidates reach each rung, where so many begin at each (by the rung, from 0)."""
        counts = [begun.get(0, 0)]
        for rung in range(1, len(self.steps)):
            counts.append(quota(counts[-1], self.keep) + begun.get(rung, 0))
        return counts

    def cost(self, begun: Mapping[int, int]) -> int:
        """Training steps of candidates of which so many begin at each rung; no step is done twice."""
        counts, before, total = self.reached(begun), 0, 0
        for rung, steps in enumerate(self.steps):
            new = begun.get(rung, 0)
            total, before = total + new * steps + (counts[rung] - new) * (steps - before), steps
        return total


def quota(candidates: int, keep: float) -> int:
    """How many of so many go on."""
    return int(candidates * keep + 1e-9)


@dataclass(frozen=True)
class Beginning:
    """The first training of a new candidate; the scheduler finds `memo` in its trials again."""

    steps: int
    memo: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Promotion:
    """The candidate of a trial that is to be trained further, for `steps` in all."""

    trial: Trial
    steps: int


class Scheduler(ABC):
    """Decides how long candidates are trained; see the module.

    `trials` is how many candidates the search may have in all, `point_of` gives the objectives of a trial.
    `scores` are the objectives that training improves.
    """

    name: ClassVar[str]

    def __init__(self, ladder: Ladder, *, trials: int, point_of: PointOf, scores: Sequence[str] = ()) -> None:
        self.ladder, self.trials, self.point_of = ladder, trials, point_of
        self._curves = {name: LearningCurves(ladder.full) for name in scores}
        self._latest: dict[int, Trial] = {}
        self._fits = 0

    @abstractmethod
    def begin(self) -> Beginning:
        """How a new candidate begins."""

    def promotion(self) -> Promotion | None:
        """The next candidate to be trained further, which is then `told` as RUNNING; None where none is."""
        return None

    def tell(self, trial: Trial) -> None:
        """Hear of a trial that begins (RUNNING) or has ended; of one that is not scored only its end."""
        if trial.state is TrialState.COMPLETE and trial.reused is None:
            for name, curves in self._curves.items():
                value = trial.values[name]
                curves.add(trial.candidate, {**dict(value.curve), trial.fidelity.steps: value.value})
            self._latest[trial.candidate] = trial

    def believed(self, trial: Trial) -> Trial:
        """The trial with its scores as they would be after a whole training, with the errors of that."""
        if trial.state is not TrialState.COMPLETE or trial.fidelity.steps >= self.ladder.full:
            return trial
        source, values = f"{PREDICTED[0]} from {trial.fidelity.steps} steps", dict(trial.values)
        for name, curves in self._curves.items():
            mean, error = curves.final(trial.candidate if trial.reused is None else trial.reused)
            values[name] = Value(mean, error, source)
        return replace(trial, values=values)

    def revised(self) -> Sequence[Trial]:
        """What is believed now of all candidates, where that has changed since the last call; else nothing.

        Each is under the number with which it began.
        """
        fits = sum(curves.fits for curves in self._curves.values())
        if fits == self._fits:
            return ()
        self._fits = fits
        latest = [trial for trial in self._latest.values() if trial.fidelity.steps < self.ladder.full]
        return [replace(self.believed(trial), number=trial.candidate) for trial in latest]

    def without_prospects(self) -> Sequence[Trial]:
        """Trials, each once, whose candidates will never be trained further: nobody needs their weights."""
        return ()

    @classmethod
    def usual_rungs(cls, full: int, keep: float) -> tuple[int, ...]:
        """Those of a plan that names none: steps grow as candidates become fewer, at about equal cost."""
        return tuple(sorted({max(1, round(full * keep**rung)) for rung in range(RUNGS)}))

    @classmethod
    @abstractmethod
    def cost(cls, ladder: Ladder, candidates: int) -> float:
        """Training steps that so many candidates take in all."""

    @classmethod
    def whole_trainings(cls, ladder: Ladder, candidates: int) -> int:
        """How many of so many candidates are trained to the end."""
        return candidates


schedulers: Registry[type[Scheduler]] = Registry("scheduler", folder="nas.schedulers")


def ladder_of(plan: Plan) -> Ladder:
    """The rungs of a plan, the last of which is a whole training.

    Raises:
        SettingError: they do not increase, or there is no room for them.
    """
    full = plan.train_steps
    if plan.scheduler == "full":
        if plan.rungs:
            raise SettingError(
                f"{argument('rungs', plan.rungs)} are for a scheduler that uses them: add"
                f" {argument('scheduler', 'halving')}, or leave them out"
            )
        return Ladder((full,), plan.keep)
    rungs = plan.rungs or schedulers[plan.scheduler].usual_rungs(full, plan.keep)
    rungs = rungs if rungs[-1] == full else (*rungs, full)
    if list(rungs) != sorted(set(rungs)):
        raise SettingError(
            f"{argument('rungs')} must increase and end below {argument('train_steps', full)}, got"
            f" {','.join(map(str, plan.rungs))}"
        )
    if len(rungs) < 2:
        raise SettingError(
            f"scheduler {plan.scheduler} needs a rung before {argument('train_steps', full)}: train longer,"
            f" or give {argument('rungs')}"
        )
    return Ladder(rungs, plan.keep)


def training_steps(plan: Plan, candidates: int) -> float:
    """How many steps of training so many candidates of a plan take in all."""
    return schedulers[plan.scheduler].cost(ladder_of(plan), candidates)


def looks_of(ladder: Ladder) -> tuple[int, ...]:
    """Steps after which a training is looked at on the way to its next rung, for the sake of its curve."""
    return tuple(sorted({steps // part for steps in ladder.steps for part in (2, 4)} - {0, *ladder.steps}))


def make_scheduler(plan: Plan, point_of: PointOf, size: float = math.inf) -> Scheduler:
    """The scheduler of a plan, for a space of so many architectures.

    Raises:
        UnknownName: there is none of this name.
        SettingError: its rungs make no sense.
    """
    kind, ladder, scores = schedulers[plan.scheduler], ladder_of(plan), scored_names(plan)
    return kind(ladder, trials=int(min(plan.trials, size)), point_of=point_of, scores=scores)


def check_scheduler(plan: Plan) -> None:
    """Refuse at once a scheduler that the rest of a plan does not go with.

    Raises:
        UnknownName: there is none of this name.
        SettingError: its rungs make no sense, or the plan trains no candidates one by one.
    """
    kind, ladder = schedulers[plan.scheduler], ladder_of(plan)
    if kind.name != "full" and plan.evaluator != "scratch":
        raise SettingError(
            f"scheduler {kind.name} trains each candidate for a time of its own: add"
            f" {argument('evaluator', 'scratch')}"
        )
    if plan.trials and kind.whole_trainings(ladder, plan.trials) < 1:
        least = next(n for n in count(plan.trials) if kind.whole_trainings(ladder, n))
        fewer = f", or begin a study with fewer {argument('rungs')}" if len(ladder.steps) > 2 else ""
        raise SettingError(
            f"of {argument('trials', plan.trials)} none would be trained to the end with the rungs"
            f" {','.join(map(str, ladder.steps))}: give at least {least} trials{fewer}"
        )
