"""What a study can be asked to trade off, and to respect: named numbers with units.

Most numbers are cheap: computed analytically or predicted from a latency table, in microseconds, before
anything is trained. Those without a `cheap` function are scored by an evaluator on a worker. A new number is
one new file in this folder that adds one `Objective`. The score of every task is an objective by itself.

A function of the architecture is declared by `nas.objective`, see `nas.objectives.declared`. Below that,
`@objectives.add` on a function is enough: the number that it returns is minimised, and the first line of its
docstring says what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from evaluators.tasks.base import Task, tasks
from foundation.errors import SettingError, UnknownName
from foundation.registry import Registry, nearest
from hw_profiles.latency.table import LatencyTable
from hw_profiles.roofline.roofline import Roofline
from nas.objectives.functions import Computed, OwnObjective, Told
from nas.objectives.functions import ObjectiveFunction as ObjectiveFunction
from nas.study.plan import SCENARIO_MARK
from nas.study.source_files import MAIN, is_of_project
from nas.study.trial import Value
from search_spaces.scenario import Scenario

Predictor: TypeAlias = LatencyTable | Roofline
"""What predicts latency: measured blocks, or, where that is asked for, an estimate."""


@dataclass(frozen=True)
class CostModel:
    """What costs are computed from besides the architecture: a scenario, and what predicts its latency.

    In a study that has several scenarios, that is the first one, and `by_scenario` has those of all.
    """

    scenario: Scenario
    table: Predictor | None = None
    by_scenario: Mapping[str, CostModel] = field(default_factory=dict)

    @classmethod
    def of(
        cls, scenarios: Sequence[Scenario], tables: Mapping[Scenario, Predictor] | None = None
    ) -> CostModel:
        """The cost model of a study with these scenarios and, where there are some, their tables."""
        models = [cls(scenario, (tables or {}).get(scenario)) for scenario in scenarios]
        return (
            models[0]
            if len(models) == 1
            else cls(scenarios[0], by_scenario={model.scenario.name: model for model in models})
        )

    def under(self, scenario: str) -> CostModel:
        """The cost model of a scenario.

        Raises:
            SettingError: the study has no scenario of this name.
        """
        if scenario in self.by_scenario:
            return self.by_scenario[scenario]
        if scenario == self.scenario.name:
            return self
        names = self.by_scenario or [self.scenario.name]
        raise SettingError(
            f"no scenario {scenario!r} in this study; {nearest(scenario, filter(None, names))}"
        )

    def variants_of(self, objective: Objective) -> list[Objective]:
        """The objective under each scenario, where there are several and it differs between them."""
        several = self.by_scenario if objective.per_scenario else {}
        return [objective.under(name) for name in several] or [objective]

    def ready(self, objective: Objective) -> bool:
        """Whether a cheap objective can be computed: it needs no table, or there is one."""
        where = self.under(objective.scenario) if objective.scenario else self
        return not objective.needs_table or where.table is not None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A named number about an architecture.

    `cheap` computes it at once; None means that a scorer must score it. Smaller is better unless
    `maximise`. `needs_table` says that the study must measure a latency table first. What is
    `per_scenario` differs between scenarios, and may be asked `under` one of them; what is `on_request`
    takes longer than microseconds, and is computed only where a study asks for it. What is scored is the
    score of a `task` (see `evaluators.tasks`), or, where it is `zero_cost`, of the initial weights (see
    `evaluators.zero_cost`), or what a `function` of the architecture returns on a worker. It is never smaller
    than the objective named by `at_least`. Numbers of decoders alone say so by `of_decoders`; `least` and
    `most` are bounds on every study that asks for it.
    """

    name: str
    unit: str
    about: str
    cheap: Callable[[Any, CostModel], Value] | None = None
    maximise: bool = False
    needs_table: bool = False
    per_scenario: bool = False
    on_request: bool = False
    zero_cost: bool = False
    task: str = ""
    function: ObjectiveFunction | None = None
    at_least: str = ""
    of_decoders: bool = False
    least: float | None = None
    most: float | None = None

    def __call__(self, spec: Any) -> Any:
        """What its function returns for an architecture: one that was declared may be called like it.

        Raises:
            SettingError: it is none of a function alone.
        """
        if self.function is None:
            raise SettingError(f"{self.name} is no function of the architecture alone")
        return self.function(spec)

    @property
    def scored_by(self) -> ObjectiveFunction | None:
        """The function that scores it on a worker; None where it is cheap, or the score of a task."""
        return None if self.cheap or self.function is None else OwnObjective(self.name, self.function)

    @property
    def bounds(self) -> tuple[str, ...]:
        """Its own bounds as constraints: `weight<=30.0`."""
        signed = ((">=", self.least), ("<=", self.most))
        return tuple(f"{self.name}{sign}{bound!r}" for sign, bound in signed if bound is not None)

    @property
    def when_known(self) -> str:
        """When what is not cheap is known."""
        return "only known after training" if self.task else "only known once it was scored: declare it cheap"

    @property
    def scenario(self) -> str:
        """The name of the scenario that it is asked under; empty where that is the study's own."""
        return self.name.partition(SCENARIO_MARK)[2]

    def under(self, scenario: str) -> Objective:
        """The same under a scenario of this name."""
        cheap = self.cheap
        return replace(
            self,
            name=f"{self.name}{SCENARIO_MARK}{scenario}",
            about=f"{self.about}, in the scenario {scenario}",
            cheap=cheap and (lambda spec, cost_model: cheap(spec, cost_model.under(scenario))),
        )

    def of_networks(self, cost_model: CostModel) -> Callable[[Sequence[Any]], list[float]]:
        """The objective as a function of many architectures, which a latency table predicts all at once.

        Raises:
            SettingError: it is not cheap.
        """
        cheap = self.cheap
        if cheap is None:
            raise SettingError(f"{self.name} is {self.when_known}")

        def values(specs: Sequence[Any]) -> list[float]:
            where = cost_model.under(self.scenario) if self.scenario else cost_model
            if self.needs_table and isinstance(where.table, LatencyTable):
                where.table.predict_many(specs)  # interpolates all unknown parts together, and caches them
            return [cheap(spec, cost_model).value for spec in specs]

        return values

    @property
    def label(self) -> str:
        """How an axis is titled."""
        words = self.name.replace("_ms", "").replace("_", " ")
        return f"{words} ({self.unit})" if self.unit and self.unit not in words else words


class Objectives(Registry[Objective]):
    """Objectives by name; those that differ between scenarios also as `NAME@SCENARIO`.

    A function is added as an objective of its name, and its first line says what it is. The score of a task
    is there with the task.
    """

    def __init__(self, kind: str, folder: str) -> None:
        super().__init__(kind, folder)
        self._scores: dict[str, type[Task]] = {}

    def __getitem__(self, name: str) -> Objective:
        plain, at, scenario = name.partition(SCENARIO_MARK)
        objective = super().__getitem__(plain)
        if not at:
            return objective
        if not objective.per_scenario or not scenario:
            raise UnknownName(f"{plain} is the same in every scenario: write it without {at}{scenario}")
        return objective.under(scenario)

    def __contains__(self, name: object) -> bool:
        plain, at, scenario = str(name).partition(SCENARIO_MARK)
        if not super().__contains__(plain):
            return False
        return not at or bool(scenario and super().__getitem__(plain).per_scenario)

    def _fill(self) -> None:
        super()._fill()
        for name, task in tasks.items():
            score = task.score_name
            if score in self._things and self._scores.get(score) is task:
                continue
            known = self._things.get(score)
            if known is not None and known.task != name:
                raise SettingError(f"the score of the task {name} is named {score}, as another objective is")
            if known is None or score in self._scores:
                self._things[score] = Objective(
                    name=score, unit=task.score_unit, about=task.score_help, task=name, of_decoders=True
                )
                self._added_by[score] = task.__module__
            self._scores[score] = task

    def declare(self, objective: Objective, module: str) -> Objective:
        """Register what `nas.objective` makes in a module; where that declares it again, the new one counts.

        Raises:
            SettingError: another objective, or one of another module, has the name.
        """
        self._fill()
        name = objective.name
        if name in self._things and not self._is_declared_again(objective, module):
            raise SettingError(
                f"there is another objective {name!r}, of {self._added_by[name]}: choose another name"
            )
        self._things[name], self._added_by[name] = objective, module
        return objective

    def _is_declared_again(self, objective: Objective, module: str) -> bool:
        """Whether its module is run again, or, as a program or notebook, says it anew."""
        taken, added_by = self._things[objective.name], self._added_by[objective.name]
        same = super()._is_same(taken.function, objective.function)  # type: ignore[arg-type]
        return self.makes_way(objective.name) or (added_by == module and (same or module == MAIN))

    def _is_same(self, taken: Objective, thing: Objective) -> bool:
        return bool(taken.task and taken.task == thing.task) or super()._is_same(taken, thing)

    def _entry(self, thing: Any) -> Objective:
        if isinstance(thing, Objective):
            cheap, module = thing.cheap, getattr(thing.cheap, "__module__", "nas")
            if cheap is None or is_of_project(module):
                return thing
            return replace(thing, cheap=Told(thing.name, cheap, module))
        about = (thing.__doc__ or "").strip().partition("\n")[0].rstrip(".") or "the user's own"
        computed = Computed(OwnObjective(thing.__name__, thing))
        told = Told(thing.__name__, computed, thing.__module__)
        return Objective(
            name=thing.__name__, unit="", about=about, cheap=told, function=thing, on_request=True
        )


objectives: Objectives = Objectives("objective", folder="nas.objectives")
