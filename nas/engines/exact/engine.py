"""Exact choice: every block scored once by itself, and the best network under budgets by integer programming.

Bercovich et al. 2024, arXiv:2411.19146 (Puzzle). From the best of the largest networks, the parent:
alternatives may first learn to do what the parent's blocks do (`align` steps); each sublayer that may stand
somewhere, at each width and at its bits, is scored by how far the parent's predictions move; costs come
from the study's own objectives; and the sum of scores is minimised, exactly, under the study's constraints
and under many budgets on its objectives (`points`, each with the `next_best`).

That scores add up is not assumed. On `networks` random networks the sums are compared with real divergences;
where Kendall's tau is below `least_tau`, the engine reports that, also on the study's record under "exact",
and leaves the search to the strategy `auto`. Solutions are scored like every trial, from the study's own
shared weights; aligned ones serve to choose.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

from evaluators.blockwise.additive_part import additive_part
from evaluators.blockwise.alignment import align
from evaluators.blockwise.replacement import Replacements
from evaluators.supernet.evaluator import FromSupernet
from evaluators.tasks.base import Task
from foundation.errors import SettingError, SpaceError
from foundation.settings import MANY, setting
from nas.engines.base import PROPOSED_BY, Engine, FoundThenRandom, Prepared, Setup, engines
from nas.engines.exact.additivity import MIN_TAU, Additivity, additivity, rank_correlation
from nas.engines.exact.claims import SCORES, claims
from nas.engines.exact.costs import Costs
from nas.engines.exact.parent import best_parent
from nas.engines.exact.slots import Solution
from nas.engines.exact.sweep import front, sweep
from nas.engines.exact.tables import ScoredSpace, deviation, random_networks, scored_space
from nas.engines.exact.uniform import best_at_cost_of, uniform_networks
from nas.objectives.base import objectives
from nas.strategies.base import Proposal, Strategy, make_strategy
from nas.study.known_costs import KnownCosts
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.claims import Claims
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.sublayers import sublayers_in

MAX_SUBLAYERS = 20_000
"""Sublayers that are scored at most; more would take hours."""

MAX_COST_ERROR = 0.01
"""The relative error up to which the sum of its parts stands for a cost."""

RANDOM_SHARE = 0.25
"""The share of the trials that is left to random choice."""

INSTEAD = "auto"
"""The strategy that searches where scores do not add up."""

Fact = dict[str, Any]


@engines.add
@dataclass(frozen=True, kw_only=True)
class Exact(Engine):
    """Every block is scored by itself, and the sum of scores is minimised under budgets."""

    name = "exact"

    align: int = setting(
        0, help="Steps that blocks are aligned before; 0: as the supernet left them.", least=0, most=MANY
    )
    batch: int = setting(8, help="Windows that are read in a step of alignment.", least=1, most=10**6)
    windows: int = setting(24, help="Windows by which blocks are scored.", least=2, most=10**6)
    points: int = setting(64, help="Budgets.", least=1, most=10**4)
    next_best: int = setting(1, help="Further solutions for each budget.", least=0, most=1000)
    networks: int = setting(
        24, help="Random networks on which it is checked that scores add up.", least=3, most=10**6
    )
    least_tau: float = setting(
        MIN_TAU,
        help="Kendall's tau of that check below which the strategy auto searches instead.",
        least=-1,
        most=1,
    )
    seconds: float = setting(30.0, help="Time for one solution.", above=0, most=1e6, unit="s")

    def require_read(self, given: Collection[str]) -> None:
        """Without alignment there are no steps that read a batch."""
        if "batch" in given and not self.align:
            raise SettingError(
                "engine exact: without steps of alignment batch counts for nothing: set align, or leave it"
                " out"
            )

    @property
    def gradient_steps(self) -> int:
        """Of alignment."""
        return self.align

    @property
    def sequences(self) -> int:
        """The windows of a step."""
        return self.batch

    def check(self, space: Space, plan: Plan) -> None:
        """Raise where effects do not add up, an objective cannot be counted, or too much is to be scored."""
        for name in plan.objectives:
            if name not in objectives or objectives[name].scored_by:
                raise SettingError(f"engine exact: the function {name} cannot say what a block costs")
        additive_part(space)  # raises where there is none
        count = sum(1 for _ in islice(sublayers_in(space), MAX_SUBLAYERS + 1))
        if count > MAX_SUBLAYERS:
            raise SettingError(
                f"engine exact would score over {MAX_SUBLAYERS:,} sublayers in {space.name}: leave fewer"
                " values open, or use another engine"
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
        measured, fact = self._additivity(setup, evaluator, replacements, scored)
        if not measured.holds(self.least_tau):
            warning = (
                f"engine exact: block scores do not add up, so the strategy {INSTEAD} searches instead:"
                f" {measured}; wanted tau {self.least_tau:g}"
            )
            setup.progress.say(warning)
            setup.note(self.name, {**fact, "searched_by": INSTEAD, "warning": warning})
            return Prepared(Instead(setup))
        uniform = (
            []
            if setup.plan.parent is None
            else costs.kept(uniform_networks(setup.space, replacements.parent))
        )
        networks = self._solve(setup, scored, costs, fact, uniform)
        return Prepared(FoundThenRandom(setup, networks, engine=self.name, uniform=uniform))

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
        parent, supernet = best_parent(setup, evaluator), evaluator.supernet
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
        apart = setup.plan.seed if setup.plan.parent is not None else None
        return Replacements(supernet, parent, task, windows=self.windows, training=apart)

    def _additivity(
        self, setup: Setup, evaluator: FromSupernet, replacements: Replacements, scored: ScoredSpace
    ) -> tuple[Additivity, Fact]:
        """Whether the sums predict whole networks; and the fact so far, for the record.

        `orders_trials` is the rank correlation of the sums with the scores that trials will have.
        """
        specs = random_networks(scored, self.networks, seed=setup.plan.seed)
        if len(specs) < 3:
            raise SpaceError(f"{setup.space.name} has too few networks whose blocks can be scored")
        predicted = [scored.predicted(spec) for spec in specs]
        real = [replacements.divergence(spec).kl for spec in specs]
        measured = additivity(predicted, real, seed=setup.plan.seed)
        setup.progress.say(f"exact: {measured}")
        scores = [evaluator.score(spec, setup.plan.train_steps, setup.plan.seed).value for spec in specs]
        fact = {
            "parent": to_json(replacements.parent),
            "scored": len(scored.scores),
            "additivity": measured.to_json(),
            "orders_trials": rank_correlation(predicted, scores),
            "networks": [list(entry) for entry in zip(predicted, real, scores, strict=True)],
        }
        return measured, fact

    def _solve(
        self, setup: Setup, scored: ScoredSpace, costs: Costs, fact: Fact, uniform: Sequence[Genotype]
    ) -> list[Genotype]:
        """What costs no more than each `uniform` network, the front of the sums, spread, and the rest."""
        worst = deviation(scored, costs.totals, seed=setup.plan.seed)
        adding = {name for name, error in worst.items() if error <= MAX_COST_ERROR}
        over = [name for name in costs.traded if name in adding]
        bounds = {name: bound for name, bound in costs.bounds.items() if name in adding}
        solutions = sweep(
            scored.problem,
            over,
            points=self.points,
            budgets=bounds,
            seed=setup.plan.seed,
            next_best=self.next_best,
            seconds=self.seconds,
        )
        best = front(solutions, over)
        matched = best_at_cost_of(scored, uniform, over, bounds, seconds=self.seconds)
        ordered = [*matched, *spread(best), *(solution for solution in solutions if solution not in best)]
        found = [each for each in dict.fromkeys(map(scored.genotype, ordered)) if each not in uniform]
        room = max(1, setup.plan.trials - round(RANDOM_SHARE * setup.plan.trials) - len(uniform))
        setup.note(
            self.name,
            {
                **fact,
                "searched_by": self.name,
                "costs": worst,
                "swept": over,
                "checked_only": sorted(set(worst) - adding),
                "found": len(found),
                "on_the_front": len(best),
                "proven": all(solution.proven for solution in solutions),
            },
        )
        return found[:room]


class Instead(Strategy):
    """The strategy `auto`, where scores do not add up; its trials say so."""

    name = INSTEAD

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup.space, setup.goals, seed=setup.plan.seed)
        self.inner = make_strategy(INSTEAD, setup.space, setup.goals, seed=setup.plan.seed, settings={})

    def inform(self, known: KnownCosts) -> None:
        """What is known is passed on to it."""
        self.inner.inform(known)

    def propose(self, number: int, dice: Random) -> Proposal:
        """What it proposes."""
        proposal = self.inner.ask(number)
        return replace(proposal, memo={**proposal.memo, PROPOSED_BY: self.name})

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """It moves its proposals itself: they keep the genes that are silent."""
        return self.inner.moved(proposal, genotype, spec)

    def take_up(self, trial: Trial) -> None:
        """It remembers what is being scored."""
        self.inner.take_up(trial)

    def tell(self, trial: Trial) -> None:
        """The outcome is passed on to it."""
        self.inner.tell(trial)


def spread(solutions: Sequence[Solution]) -> list[Solution]:
    """The same, ordered so that every beginning is spread over the whole: ends first, then middles."""
    order: dict[int, None] = dict.fromkeys((0, len(solutions) - 1)) if solutions else {}
    gap = len(solutions) - 1
    while gap > 1:
        gap = -(-gap // 2)
        order |= dict.fromkeys(range(0, len(solutions), gap))
    order |= dict.fromkeys(range(len(solutions)))
    return [solutions[i] for i in order]
