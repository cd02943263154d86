"""Engines: the ways to search one set of shared weights, by name (`nas search --engine NAME`).

An engine gets ready, which may take minutes (it aligns, relaxes, scores, solves), and hands over a strategy.
The driver does the rest: the networks that an engine found become trials like all others, scored by the same
evaluator in the same store, so that the fronts of several engines can be laid over each other.

    @engines.add
    @dataclass(frozen=True, kw_only=True)
    class Mine(Engine):
        name = "mine"
        points: int = setting(4, help="Networks to find.", least=1)

        def prepare(self, setup: Setup) -> Prepared:
            networks = ...                                 # genotypes, best first; kept in setup.folder
            return Prepared(FoundThenRandom(setup, networks, engine=self.name))

`FoundThenRandom` proposes what was found and then random architectures: random choice from the same weights
always runs beside an engine that claims to choose better.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from evaluators.scoring.base import Evaluator
from evaluators.supernet.evaluator import FromSupernet
from evaluators.tasks.base import Task
from foundation.errors import SettingError
from foundation.registry import Registry
from foundation.settings import Settings, parse_values
from foundation.wording import argument
from nas.objectives.base import CostModel, objectives
from nas.progress import Progress
from nas.strategies.base import Proposal, Strategy, strategies
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of, scored_names
from nas.study.study import Study
from nas.study.trial import PARENTS, Trial
from nas.validation.claims import Claims
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space

PROPOSED_BY = "by"
"""In a trial's memo: the engine that found it, or `RANDOM`."""

UNIFORM = "uniform"
"""The proposer of a network that is changed alike in all its layers."""

RANDOM = "random"
"""The proposer of an architecture that was drawn at random beside those of an engine."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What an engine works with: the study's space, settings, tables, and its trained shared weights.

    `folder` is the engine's own: what took long is kept there, so that a killed search continues from it.
    `quality` is the objective that `evaluator` scores by `task`; all three are None in a study that trains
    nothing. `note` puts a fact (plain values) on the study's record, which the report shows.
    """

    space: Space
    plan: Plan
    goals: Sequence[tuple[str, bool]]
    cost_model: CostModel
    folder: Path
    quality: str | None = None
    task: Task | None = None
    evaluator: FromSupernet | None = None
    progress: Progress = field(default_factory=Progress)
    note: Callable[[str, Any], None] = lambda name, fact: None

    @property
    def shared_weights(self) -> tuple[FromSupernet, Task]:
        """The trained supernet and the task that it learned.

        Raises:
            SettingError: the study trains none.
        """
        if self.evaluator is None or self.task is None:
            raise SettingError(f"engine {self.plan.engine} needs an objective that is learned")
        return self.evaluator, self.task


@dataclass(frozen=True)
class Prepared:
    """What proposes the trials, and, where it is not the study's own evaluator, what scores them."""

    strategy: Strategy
    evaluator: Evaluator | None = None


@dataclass(frozen=True, kw_only=True)
class Engine(Settings, ABC):
    """A way to search; its fields are its settings (`--setting`)."""

    name: ClassVar[str]
    needs_supernet: ClassVar[bool] = True
    """Whether it works on shared weights, and so needs the evaluator "supernet"."""

    asks_strategy: ClassVar[bool] = False
    """Whether the plan's strategy proposes, with the plan's settings, rather than the engine."""

    def __init_subclass__(cls) -> None:
        cls.title = f"engine {cls.name}"

    @property
    def gradient_steps(self) -> int:
        """Steps of gradients that it takes while it gets ready."""
        return 0

    @property
    def sequences(self) -> int:
        """Sequences that each of them reads."""
        return 0

    def check(self, space: Space, plan: Plan) -> None:
        """Refuse at once, from the space and the plan alone, what would end a search after minutes.

        Raises:
            SettingError: the engine cannot work under this plan.
            SpaceError: it cannot search this space.
        """

    def require_read(self, given: Collection[str]) -> None:
        """Raise `SettingError` where one of these settings, which a user wrote, counts for nothing here."""

    @abstractmethod
    def prepare(self, setup: Setup) -> Prepared:
        """Do the long work, or continue it where it stopped; then the strategy that proposes what was found.

        Raises:
            SpaceError: nothing in the space satisfies the constraints.
        """

    @classmethod
    def claims(cls, study: Study, truths: Sequence[Trial] = ()) -> Claims | None:
        """What the engine predicted, against what came out; None where it predicts nothing.

        `truths` are networks of the study that were trained from scratch.
        """
        return None

    @classmethod
    def effort(cls, study: Study) -> dict[str, int]:
        """How much was done before the first trial, e.g. `{"random networks scored": 24}`."""
        return {}


engines: Registry[type[Engine]] = Registry("engine", folder="nas.engines")


def make_engine(plan: Plan) -> Engine:
    """The engine of a plan with its settings.

    Raises:
        UnknownName: no such engine, or no such setting of it.
        SettingError: the plan's evaluator, objectives or strategy do not go with it.
    """
    kind = engines[plan.engine]
    if kind.needs_supernet and plan.evaluator != "supernet":
        raise SettingError(
            f"engine {plan.engine} searches shared weights: leave out {argument('evaluator', plan.evaluator)}"
        )
    if kind.needs_supernet and quality_of(plan) is None:
        raise SettingError(
            f"engine {plan.engine} searches shared weights, so an objective must be learned: add one such as"
            " bits_per_byte"
        )
    if kind.needs_supernet and len(names := scored_names(plan)) > 1:
        raise SettingError(
            f"engine {plan.engine} chooses by the weights and the score of one task, not by"
            f" {' and '.join(names)}: search them with {argument('engine', 'ofa')}"
        )
    if kind.needs_supernet and any(
        name in objectives and objectives[name].zero_cost for name in plan.objectives
    ):
        raise SettingError(
            f"engine {plan.engine} knows scores and costs, not zero-cost scores: search them with"
            f" {argument('engine', 'ofa')}"
        )
    if kind.asks_strategy:
        return kind()
    if plan.strategy != Plan.strategy:
        raise SettingError(
            f"engine {plan.engine} proposes by itself: leave out {argument('strategy', plan.strategy)}"
        )
    engine = kind.from_plain(plan.settings)
    engine.require_read(plan.settings)
    return engine


def engine_title(plan: Plan) -> str:
    """How a plan searches, for a reader: its engine, with the strategy where the engine asks one."""
    asks = plan.engine in engines and engines[plan.engine].asks_strategy
    return f"{plan.engine} ({plan.strategy})" if asks else plan.engine


def parse_search_settings(engine: str, strategy: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Settings of an engine or, where the engine asks one, of a strategy, from their texts.

    Raises:
        UnknownName: no such engine or strategy, or no such setting of it.
        SettingError: a text cannot be read, or a value is out of range.
    """
    kind = engines[engine]
    return parse_values(strategies[strategy].settings_kind if kind.asks_strategy else kind, texts)


class FoundThenRandom(Strategy):
    """Proposes the networks that an engine found, in its order, and then random ones.

    Before them come those that are `uniform`, if any.
    """

    name = "found"

    def __init__(
        self,
        setup: Setup,
        networks: Sequence[Genotype],
        *,
        engine: str,
        uniform: Sequence[Genotype] = (),
    ) -> None:
        super().__init__(setup.space, setup.goals, seed=setup.plan.seed)
        self.networks, self.engine = tuple(dict.fromkeys((*uniform, *networks))), engine
        self.uniform = frozenset(uniform)

    def propose(self, number: int, dice: Random) -> Proposal:
        """Network number `number`, or a uniform draw."""
        if number < len(self.networks):
            network = self.networks[number]
            proposer = UNIFORM if network in self.uniform else self.engine
            return Proposal(network, {PROPOSED_BY: proposer, PARENTS: []})
        genotype, spec = self.space.propose_with_spec(lambda path, labels: dice.choice(labels))
        return Proposal(genotype, {PROPOSED_BY: RANDOM, PARENTS: []}, spec)
