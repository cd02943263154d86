"""What every strategy that is a sampler of Optuna shares; see `OptunaStrategy`.

    --strategy optuna:TPESampler --setting n_startup_trials=20 --setting group=true

Trials are told to an in-memory study of Optuna in the order of their numbers. Its parameters are the
questions that an architecture asks, as they come up: whole numbers where the answers are numbers (the
place in their order), else categories. What fails is told as failed, what breaks a constraint as pruned, and
constraints that can be computed as Optuna's constraints. Candidates that are being scored are running
trials, which samplers with a constant liar count as bad ones.

Every proposal has a sampler of its own, made with a seed of (seed, trial number), as every process has in a
distributed study of Optuna. What a sampler writes down in numbers beside its trials (a generation, the
place in a sequence) is in their memos. So a search that was stopped asks what it would have asked, where
the sampler keeps nothing else; `FORGETFUL` are those that do.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from random import Random
from typing import Any, ClassVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState as State
from optuna.trial import create_trial

from foundation.errors import UnknownName
from foundation.registry import nearest
from foundation.settings import Settings
from nas.strategies.base import Proposal, Strategy, strategies
from nas.strategies.memory import Remembering
from nas.strategies.rehearsal import rehearse
from nas.strategies.sampler_settings import SamplerSettings, quiet, settings_of
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.variation import mutant

NOTES = "sampler"
"""In a trial's memo: what the sampler noted of the trial and of the study, numbers by name."""

CONSTRAINTS = "constraints"

ORDERED = {"QMCSampler"}
"""Samplers of a sequence that their seed names: it is the same for all proposals."""

FORGETFUL = {
    "CmaEsSampler": "it begins its steps anew",
    "NSGAIIISampler": "it selects other parents (nsga3 does not)",
    "NSGAIISampler": "with several workers it may select other parents (nsga2 does not)",
}
"""Samplers that may ask otherwise after a stop than they would have asked, and why."""


class OptunaStrategy(Remembering):
    """Proposes what a sampler suggests, or what differs from that in one gene, should it not be new."""

    settings_kind = SamplerSettings
    settings: SamplerSettings

    hears_all: ClassVar[bool] = False
    """Whether the sampler itself hears of trials which this process has not asked for."""

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That a search with it cannot be stopped without a trace."""
        assert isinstance(settings, SamplerSettings)
        reason = FORGETFUL.get(type(settings).make.__name__)
        return f"{cls.name} may go on otherwise after a stop: {reason}" if reason else ""

    def prepare(self) -> None:
        """A study of Optuna, in memory."""
        super().prepare()
        self._storage = optuna.storages.InMemoryStorage()
        directions = [StudyDirection.MAXIMIZE if most else StudyDirection.MINIMIZE for _, most in self.goals]
        with quiet():
            self._study = optuna.create_study(storage=self._storage, directions=directions)
        # some samplers end a study, which is the driver's to decide
        self._study.stop = lambda: None  # type: ignore[method-assign]
        self._distributions = {
            gene.path: _distribution(gene.labels) for gene in self.space.genes if len(gene.labels) > 1
        }
        self._ladders = {gene.path: _ladder(gene.labels) for gene in self.space.genes}
        self._heard: dict[int, Trial] | None = {}  # by number, the newest before the first proposal
        self._numbers: dict[int, int] = {}  # Optuna's numbers of trials that are being scored, by ours
        self._newest = -1
        rehearse(self.settings, tuple(directions))

    def sampler(self, number: int) -> BaseSampler:
        """The sampler that proposes for this trial."""
        ordered = type(self.settings).make.__name__ in ORDERED
        digest = hashlib.sha256(f"{self.seed}/{'' if ordered else number}".encode()).digest()
        return self.settings.sampler(int.from_bytes(digest[:4], "big"))

    def propose(self, number: int, dice: Random) -> Proposal:
        """What the sampler suggests, made new and allowed."""
        self._begin()
        with quiet():
            self._study.sampler = self.sampler(number)
            asked = self._study.ask()
            suggested = self.space.draw(partial(self._suggest, asked))
        tried = 0

        def child() -> tuple[Genotype, Any, None]:
            nonlocal tried
            tried += 1
            # farther and farther away from what was suggested
            near = suggested if tried == 1 else mutant(self.space, suggested[0], dice, 1 + tried // 10)
            return *near, None

        genotype, spec, _ = self.fresh(child, dice)
        self._newest, self._numbers[number] = number, asked.number
        notes = self._notes(asked.number)
        if genotype != suggested[0]:
            self._replace(number, genotype)
        return Proposal(genotype, {PARENTS: [], **({NOTES: notes} if notes else {})}, spec)

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture, of which the sampler hears."""
        if self._newest in self._numbers:  # else it was given, and the sampler has not suggested it
            self._replace(self._newest, genotype)
        return super().moved(proposal, genotype, spec)

    def take_up(self, trial: Trial) -> None:
        """A trial that is running."""
        super().take_up(trial)
        self.learn(trial)

    def learn(self, trial: Trial) -> None:
        """Tell the sampler's study; before the first proposal it is put off, for the order of the numbers."""
        if self._heard is not None:
            self._heard[trial.number] = trial
            return
        number = self._numbers.pop(trial.number, None)
        if number is None:
            self._add(trial)
            return
        state, values = self._outcome(trial)
        with quiet():
            if trial_constraints := self._constraints(trial):
                self._storage.set_trial_system_attr(self._id(number), CONSTRAINTS, trial_constraints)
            self._study.tell(number, values, state)

    def _begin(self) -> None:
        """Tell what was heard before the first proposal."""
        if self._heard is not None:
            heard, self._heard = self._heard, None
            for number in sorted(heard):
                self._add(heard[number])

    def _add(self, trial: Trial) -> None:
        """A trial that this process has not asked for."""
        notes = trial.memo.get(NOTES)
        for name, value in _numbers(notes, "study").items():
            self._storage.set_study_system_attr(self._study._study_id, name, value)
        state, values = self._outcome(trial)
        attributes: dict[str, Any] = _numbers(notes, "trial")
        if trial_constraints := self._constraints(trial):
            attributes[CONSTRAINTS] = trial_constraints
        number = self._record(trial.genotype, state, values, attributes)
        if state is State.RUNNING:
            self._numbers[trial.number] = number
        elif self.hears_all:
            with quiet():
                frozen = self._storage.get_trial(self._id(number))
                self.sampler(trial.number).after_trial(self._study, frozen, state, values)

    def _replace(self, number: int, genotype: Genotype) -> None:
        """Let the sampler know that another architecture is being scored than it suggested."""
        suggested = self._numbers[number]
        attributes = self._notes(suggested).get("trial", {})
        with quiet():
            self._study.tell(suggested, state=State.FAIL)
        self._numbers[number] = self._record(genotype, State.RUNNING, None, attributes)

    def _record(
        self, genotype: Genotype, state: State, values: list[float] | None, attributes: Mapping[str, Any]
    ) -> int:
        """Add a trial to Optuna's study; its number there."""
        known = {path: label for path, label in genotype.genes.items() if path in self._distributions}
        params = {
            path: self._ladders[path].index(label) if self._ladders[path] else label
            for path, label in known.items()
        }
        distributions = {path: self._distributions[path] for path in known}
        with quiet():
            trial = create_trial(
                state=state,
                values=values,
                params=params,
                distributions=distributions,
                system_attrs=dict(attributes),
            )
            self._study.add_trial(trial)
        return self._storage.get_n_trials(self._study._study_id) - 1

    def _suggest(self, asked: optuna.Trial, path: str, labels: tuple[Label, ...]) -> Label:
        ladder = self._ladders[path]
        if ladder:
            return ladder[asked.suggest_int(path, 0, len(ladder) - 1)]
        chosen: Label = labels[0] if len(labels) == 1 else asked.suggest_categorical(path, labels)
        return chosen

    def _outcome(self, trial: Trial) -> tuple[State, list[float] | None]:
        """State and values of a trial, as Optuna has them."""
        match trial.state:
            case TrialState.COMPLETE:
                return State.COMPLETE, [trial.values[name].value for name, _ in self.goals]
            case TrialState.RUNNING:
                return State.RUNNING, None
            case TrialState.INFEASIBLE if self._constraints(trial):
                return State.PRUNED, None
        return State.FAIL, None

    def _constraints(self, trial: Trial) -> list[float]:
        """By how much a trial breaks each constraint; empty where that is not known."""
        bounds = self.known.constraints
        if trial.state is TrialState.RUNNING or any(bound.name not in trial.values for bound in bounds):
            return []
        return [min(bound.excess(trial.values[bound.name].value), 1e300) for bound in bounds]

    def _notes(self, number: int) -> dict[str, dict[str, float]]:
        """What the sampler has noted of a trial and of the study; its notes of values are taken back.

        TPE and GP note what they suggested for parameters which the trial does not ask, too.
        """
        own = self._id(number)
        attributes = self._storage.get_trial_system_attrs(own)
        for name in attributes:
            if ":relative_params" in name:
                self._storage.set_trial_system_attr(own, name, "")
        notes = {
            "trial": {name: value for name, value in attributes.items() if _is_number(value)},
            "study": {
                name: value
                for name, value in self._storage.get_study_system_attrs(self._study._study_id).items()
                if _is_number(value)
            },
        }
        return {name: noted for name, noted in notes.items() if noted}

    def _id(self, number: int) -> int:
        """What the storage calls a trial; reading all trials for it takes the longer the more there are."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


@strategies.add_family("optuna")
@cache
def sampler_strategy(name: str) -> type[Strategy]:
    """The strategy `optuna:NAME`.

    Raises:
        UnknownName: Optuna has no such sampler.
        SettingError: it needs what no setting can say.
    """
    known = {
        each: kind
        for each, kind in vars(optuna.samplers).items()
        if inspect.isclass(kind) and issubclass(kind, BaseSampler) and not inspect.isabstract(kind)
    }
    if name not in known:
        raise UnknownName(f"unknown sampler of Optuna {name!r}; {nearest(name, known)}")
    return strategy_of(known[name], f"optuna:{name}")


def strategy_of(
    make: type[BaseSampler], name: str, base: type[OptunaStrategy] = OptunaStrategy
) -> type[Strategy]:
    """A strategy that is a sampler."""
    body = {
        "name": name,
        "settings_kind": settings_of(make, f"strategy {name}"),
        "__doc__": inspect.getdoc(make),
        "__module__": make.__module__,
    }
    return type(make.__name__, (base,), body)


def _ladder(labels: Sequence[Label]) -> list[Any]:
    """Answers that are numbers, in their order; else, or where there is only one, nothing."""
    numbers = len(labels) > 1 and all(type(label) in (int, float) for label in labels)
    return sorted(labels) if numbers else []


def _distribution(labels: Sequence[Label]) -> BaseDistribution:
    return IntDistribution(0, len(labels) - 1) if _ladder(labels) else CategoricalDistribution(labels)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def _numbers(notes: Any, of: str) -> dict[str, Any]:
    """The notes of a memo, of which nothing is believed but numbers by name."""
    noted = notes.get(of) if isinstance(notes, Mapping) else None
    if not isinstance(noted, Mapping):
        return {}
    return {name: value for name, value in noted.items() if isinstance(name, str) and _is_number(value)}
