"""Exact choice: every block scored once by itself, and the best network under budgets by integer programming.

Bercovich et al. 2024, arXiv:2411.19146 (Puzzle). From the best of the largest networks, the parent:
alternatives may first learn to do what the parent's blocks do (`align` steps); each sublayer that may stand
somewhere, at each width and at its bits, is scored by how far the parent's predictions move; costs come
from the study's own objectives; and the sum of scores is minimised, exactly, under the study's constraints
and under many budgets on its objectives (`points`, each with the `next_best`).

That scores add up is not assumed. On `networks` random networks the sums are compared with real divergences;
where Kendall's tau is below `least_tau`, the engine says so, aloud and on the study's record under "exact",
and leaves the search to evolution. What was found is scored like every trial, from the study's own shared
weights; aligned ones serve to choose.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

from evaluators.blockwise.additive_part import additive_part
from evaluators.blockwise.alignment import align, digest_of
from evaluators.blockwise.replacement import Replacements
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.sandwich import sandwich
from evaluators.tasks.base import Task
from foundation.errors import SettingError, SpaceError
from foundation.settings import setting
from hw_profiles.latency.table import LatencyTable
from nas.engines.base import BY, Engine, Found, Prepared, Setup, engines
from nas.engines.exact.additivity import MIN_TAU, Additivity, additivity, rank_correlation
from nas.engines.exact.claims import SCORES, claims
from nas.engines.exact.slots import Solution
from nas.engines.exact.sweep import front, sweep
from nas.engines.exact.tables import ScoredSpace, deviation, random_networks, scored_space
from nas.objectives.base import CostModel, Objective, objectives
from nas.strategies.base import Proposal, Strategy, make_strategy
from nas.study.constraints import Constraint, first_violation
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.claims import Claims
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.network.additive_cost import Total
from search_spaces.network.decoder import Decoder
from search_spaces.network.sublayers import sublayers_in

PARENTS = 12
"""Networks of the largest sizes of which the best is the parent."""

MOST = 20_000
"""Sublayers that are scored at most; more would take hours."""

ADDS_UP = 0.01
"""The relative error up to which the sum of its parts stands for a cost."""

KEPT_RANDOM = 0.25
"""The share of the trials that stays with random choice."""

Fact = dict[str, Any]


@engines.add
@dataclass(frozen=True, kw_only=True)
class Exact(Engine):
    """Every block is scored by itself, and the sum of scores is minimised under budgets."""

    name = "exact"

    align: int = setting(
        0, help="Steps that blocks are aligned before; 0: as the supernet left them.", least=0
    )
    batch: int = setting(8, help="Windows that are read in a step of alignment.", least=1)
    windows: int = setting(24, help="Windows by which blocks are scored.", least=2)
    points: int = setting(64, help="Budgets.", least=1)
    next_best: int = setting(1, help="Further solutions for each budget.", least=0)
    networks: int = setting(24, help="Random networks on which it is checked that scores add up.", least=3)
    least_tau: float = setting(
        MIN_TAU,
        help="Kendall's tau of that check below which evolution searches instead.",
        least=-1,
        most=1,
    )
    seconds: float = setting(30.0, help="Time for one solution.", above=0, unit="s")

    def check(self, space: Space, plan: Plan) -> None:
        """Raise where effects do not add up, an objective cannot be counted, or too much is to be scored."""
        for name in plan.objectives:
            if name not in objectives:
                raise SettingError(f"engine exact: the cost of a block cannot be told by the function {name}")
        additive_part(space)  # raises where there is none
        count = sum(1 for _ in islice(sublayers_in(space), MOST + 1))
        if count > MOST:
            raise SettingError(
                f"engine exact would score over {MOST:,} sublayers in {space.name}: leave fewer values"
                " open, or use another engine"
            )

    def prepare(self, setup: Setup) -> Prepared:
        """Parent, alignment, scores, additivity, solutions; each is kept or is fast to repeat."""
        evaluator, task = setup.shared_weights
        replacements = self._replacements(setup, evaluator, task)
        wanted = len(set(replacements.wanted()))
        with setup.progress.bar("scoring blocks", wanted) as bar:
            scores = replacements.measure(
                setup.folder / SCORES, on_score=lambda done, total: bar.update(done)
            )
        costs = Costs(setup)
        scored = scored_space(
            setup.space,
            replacements.parent,
            scores,
            costs.totals,
            allows=lambda s: costs.violation(s) is None,
        )
        adding, fact = self._adding(setup, evaluator, replacements, scored)
        if not adding.holds(self.least_tau):
            told = (
                f"engine exact: block scores do not add up, so evolution searches instead: {adding};"
                f" wanted tau {self.least_tau:g}"
            )
            setup.progress.say(told)
            setup.note(self.name, {**fact, "searched_by": "evolution", "warning": told})
            return Prepared(Evolution(setup))
        found = self._solve(setup, scored, costs, fact)
        return Prepared(Found(setup, found, by=self.name))

    @classmethod
    def claims(cls, study: Study, truths: Sequence[Trial] = ()) -> Claims | None:
        """Whether sums of block scores order networks as their real scores do."""
        fact = study.facts.get(cls.name)
        return None if fact is None else claims(study, fact, truths, study.folder / cls.name)

    @classmethod
    def effort(cls, study: Study) -> dict[str, int]:
        """What was scored to fill the tables, and to see whether scores add up."""
        fact = study.facts.get(cls.name, {})
        done = {
            "sublayers scored": fact.get("scored", 0),
            "random networks tried": len(fact.get("networks", ())),
        }
        return {what: count for what, count in done.items() if count}

    def _replacements(self, setup: Setup, evaluator: FromSupernet, task: Task) -> Replacements:
        """The parent, and the weights that it and its alternatives are read from."""
        parent, supernet = _parent(setup, evaluator), evaluator.supernet
        if self.align:
            with setup.progress.bar("aligning blocks", self.align) as bar:
                supernet = align(
                    supernet,
                    parent,
                    task,
                    steps=self.align,
                    seed=setup.plan.seed,
                    batch=self.batch,
                    recipe=evaluator.recipe,
                    folder=setup.folder / "aligned",
                    on_step=lambda step, error: bar.update(step, f"error {error:.2f}"),
                ).supernet
        return Replacements(supernet, parent, task, windows=self.windows)

    def _adding(
        self, setup: Setup, evaluator: FromSupernet, replacements: Replacements, scored: ScoredSpace
    ) -> tuple[Additivity, Fact]:
        """Whether the sums tell of whole networks; and what is known so far, for the record.

        `orders_trials` is the rank correlation of the sums with the scores that trials will have.
        """
        specs = random_networks(scored, self.networks, seed=setup.plan.seed)
        if len(specs) < 3:
            raise SpaceError(f"{setup.space.name} has too few networks whose blocks can be scored")
        predicted = [scored.predicted(spec) for spec in specs]
        real = [replacements.divergence(spec).kl for spec in specs]
        found = additivity(predicted, real, seed=setup.plan.seed)
        setup.progress.say(f"exact: {found}")
        scores = [evaluator.score(spec, setup.plan.steps, setup.plan.seed).value for spec in specs]
        fact = {
            "parent": to_json(replacements.parent),
            "scored": len(scored.scores),
            "additivity": found.to_json(),
            "orders_trials": rank_correlation(predicted, scores),
            "networks": [list(entry) for entry in zip(predicted, real, scores, strict=True)],
        }
        return found, fact

    def _solve(self, setup: Setup, scored: ScoredSpace, costs: Costs, fact: Fact) -> list[Genotype]:
        """The front of the sums, spread, and then the rest of what was found."""
        worst = deviation(scored, costs.totals, seed=setup.plan.seed)
        adding = {name for name, error in worst.items() if error <= ADDS_UP}
        over = [name for name in costs.traded if name in adding]
        bounds = {name: bound for name, bound in costs.bounds.items() if name in adding}
        found = sweep(
            scored.problem,
            over,
            points=self.points,
            budgets=bounds,
            seed=setup.plan.seed,
            next_best=self.next_best,
            seconds=self.seconds,
        )
        best = front(found, over)
        ordered = [*spread(best), *(one for one in found if one not in best)]
        room = max(1, setup.plan.trials - round(KEPT_RANDOM * setup.plan.trials))
        setup.note(
            self.name,
            {
                **fact,
                "searched_by": self.name,
                "costs": worst,
                "swept": over,
                "checked_only": sorted(set(worst) - adding),
                "found": len(ordered),
                "on_the_front": len(best),
                "proven": all(one.proven for one in found),
            },
        )
        return [scored.genotype(one) for one in ordered[:room]]


class Costs:
    """The objectives and constraints of a plan as costs of the choice: all are kept small.

    What is to be large, or is bounded from below, is turned round, under its name with a minus.
    """

    def __init__(self, setup: Setup) -> None:
        self.cost_model = setup.cost_model
        self.constraints = [Constraint.parse(text) for text in setup.plan.constraints]
        self.totals: dict[str, Total] = {}
        self.traded: list[str] = []
        for name, maximise in setup.goals:
            if name != setup.quality:
                self.traded.append(self._add(name, maximise))
        self.bounds: dict[str, float] = {}
        for constraint in self.constraints:
            turned = constraint.sign.startswith(">")
            name = self._add(constraint.name, turned)
            bound = -constraint.bound if turned else constraint.bound
            self.bounds[name] = min(bound, self.bounds.get(name, bound))

    def violation(self, spec: Decoder) -> str | None:
        """Why a network breaks a constraint, or None."""
        return first_violation(self.constraints, spec, self.cost_model)

    def _add(self, name: str, turned: bool) -> str:
        known = f"-{name}" if turned else name
        self.totals.setdefault(known, _total(objectives[name], self.cost_model, -1.0 if turned else 1.0))
        return known


class Evolution(Strategy):
    """NSGA-II, where scores do not add up; its trials say so."""

    name = "evolution"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup.space, setup.goals, seed=setup.plan.seed)
        self.inner = make_strategy("nsga2", setup.space, setup.goals, seed=setup.plan.seed, settings={})

    def propose(self, number: int, dice: Random) -> Proposal:
        """What evolution proposes."""
        proposal = self.inner.propose(number, dice)
        return replace(proposal, memo={**proposal.memo, BY: self.name})

    def tell(self, trial: Trial) -> None:
        """Hand it on."""
        self.inner.tell(trial)


def spread(found: Sequence[Solution]) -> list[Solution]:
    """The same, so ordered that every beginning is spread over the whole: ends first, then middles."""
    order: dict[int, None] = dict.fromkeys((0, len(found) - 1)) if found else {}
    gap = len(found) - 1
    while gap > 1:
        gap = -(-gap // 2)
        order |= dict.fromkeys(range(0, len(found), gap))
    order |= dict.fromkeys(range(len(found)))
    return [found[i] for i in order]


def _total(objective: Objective, cost_model: CostModel, sign: float) -> Total:
    """An objective as a cost of many networks at once."""
    cheap = objective.cheap
    assert cheap is not None
    count: Callable[[Any, CostModel], Any] = cheap

    def total(specs: Sequence[Decoder]) -> list[float]:
        where = cost_model.under(objective.scenario) if objective.scenario else cost_model
        if objective.needs_table and isinstance(where.table, LatencyTable):
            where.table.predict_many(specs)  # interpolates all unknown parts at once, and remembers them
        return [sign * count(spec, cost_model).value for spec in specs]

    return total


def _parent(setup: Setup, evaluator: FromSupernet) -> Decoder:
    """The best of some networks of the largest sizes; kept, because everything hangs on it.

    Raises:
        SpaceError: every network has shared weights, a router or an exit.
    """
    path = setup.folder / "parent.json"
    origin = {"weights": digest_of(evaluator.supernet), "seed": setup.plan.seed}
    if path.exists():
        known = json.loads(path.read_text())
        if known["origin"] == origin:
            parent: Decoder = from_json(json.dumps(known["parent"]))
            return parent
    additive, tried = additive_part(setup.space), dict[Decoder, None]()
    for i in range(4 * PARENTS):
        tried[sandwich(additive, Random(f"{setup.plan.seed}/parent/{i}"))[0]] = None
        if len(tried) == PARENTS:
            break
    deepest = max(len(spec.layers) for spec in tried)
    largest = [spec for spec in tried if len(spec.layers) == deepest]
    parent = min(largest, key=lambda spec: evaluator.score(spec, setup.plan.steps, setup.plan.seed).value)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name("parent.json.new")
    new.write_text(json.dumps({"origin": origin, "parent": json.loads(to_json(parent))}, indent=1))
    new.replace(path)
    return parent
