"""The best choice of one option per slot, under budgets: an integer program, solved to a proven optimum.

    minimise    sum over slots p and options o of score[p, o] x[p, o]
    such that   sum over o of x[p, o] = 1                        one option per slot
                sum over p, o of cost[p, o] x[p, o] <= budget    for every budget
                x[p, o] <= sum over answers a allowed by o of y[g, a]    for every gene g that o depends on
                sum over a of y[g, a] = 1                        one answer per gene

Genes tie slots together: bits that two sublayers of a layer share, one width for all layers, a depth that
makes all later layers absent. An option names the answers under which it is allowed (`Option.when`); x and y
are 0 or 1. The tying rows are summed over all options of a slot whose answers lie within the same set, which
leaves the relaxation as little room as possible.

Scores and costs may be of any size and sign. The solver (HiGHS, by `scipy.optimize.milp`) keeps budgets up to
a millionth only: a solution is added up again, and cut off where it really exceeds a budget.

Choosing blocks by additive scores and an integer program is Puzzle's (Bercovich et al. 2024,
arXiv:2411.19146).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from foundation.errors import SettingError, SpaceError
from nas.engines.exact.milp import Program
from nas.engines.exact.slots import Budgets, Picks, Slot, Solution

SECONDS = 60.0
"""How long one solution may take."""

MAX_REJECTED = 50
"""How many solutions in a row may be forbidden, or exceed a budget by less than the solver can see."""


class Unreachable(SpaceError):
    """No choice keeps the budgets; `least` is the smallest that each cost can be by itself."""

    def __init__(self, message: str, least: Mapping[str, float]) -> None:
        super().__init__(message)
        self.least = dict(least)


class Unsolved(SpaceError):
    """No choice was found in time, or none that is allowed among the best."""


class ChoiceProblem:
    """Slots with their options, checked; each question is a call.

    What `allows` rejects is never the best: it is cut off, one choice at a time, so a rule that forbids much
    should be a budget or a gene.

    Raises:
        SettingError: a slot without options, two slots of one name, or a number that is not finite.
    """

    def __init__(
        self, slots: Sequence[Slot], *, allows: Callable[[Picks], bool] = lambda picks: True
    ) -> None:
        self.slots, self.allows = tuple(slots), allows
        names = [slot.name for slot in self.slots]
        if not names or len(set(names)) != len(names):
            raise SettingError(f"slots need names of their own, got {', '.join(names) or 'none'}")
        self.costs = tuple(dict.fromkeys(c for s in self.slots for o in s.options for c in o.costs))
        self.genes: dict[str, tuple[int, ...]] = {}
        for slot in self.slots:
            slot.check()
            for option in slot.options:
                for gene, allowed in option.when.items():
                    self.genes[gene] = tuple(sorted({*self.genes.get(gene, ()), *allowed}))

    def best(
        self, budgets: Budgets | None = None, *, without: Iterable[Picks] = (), seconds: float = SECONDS
    ) -> Solution:
        """The choice of the least score that keeps the budgets, other than those in `without`.

        Raises:
            Unreachable: there is none; the message says what can be reached.
            Unsolved: none was found in `seconds`.
            SettingError: no option has such a cost.
        """
        budgets, excluded = self._checked(budgets), list(without)
        for _ in range(MAX_REJECTED):
            solution = self._solve("", budgets, excluded, seconds)
            if solution is None:
                raise self._unreachable(budgets, bool(excluded), seconds)
            if not solution.exceeds(budgets) and self.allows(solution.picks):
                return solution
            excluded.append(solution.picks)
        raise Unsolved(
            f"the {MAX_REJECTED} best choices under {_text(budgets)} are forbidden: make the rule a budget"
        )

    def best_few(
        self, count: int, budgets: Budgets | None = None, *, seconds: float = SECONDS
    ) -> list[Solution]:
        """The `count` best choices, best first; fewer where there are no more.

        Raises:
            Unreachable: there is none at all.
        """
        solutions: list[Solution] = []
        while len(solutions) < count:
            try:
                solutions.append(self.best(budgets, without=[s.picks for s in solutions], seconds=seconds))
            except Unreachable:
                if not solutions:
                    raise
                break
        return solutions

    def least(self, cost: str, budgets: Budgets | None = None, *, seconds: float = SECONDS) -> Solution:
        """The choice of the least `cost` that keeps the other budgets.

        Raises:
            Unreachable: no choice keeps them.
        """
        budgets = self._checked({**(budgets or {}), cost: math.inf})
        solution = self._solve(cost, budgets, [], seconds)
        if solution is None:
            raise self._unreachable(budgets, False, seconds)
        return solution

    def totals(self, picks: Sequence[int]) -> tuple[float, dict[str, float]]:
        """Score and costs of a choice."""
        options = [slot.options[i] for slot, i in zip(self.slots, picks, strict=True)]
        costs = {cost: math.fsum(option.amount(cost) for option in options) for cost in self.costs}
        return math.fsum(option.score for option in options), costs

    def allowed(self, picks: Sequence[int]) -> bool:
        """Whether the genes allow these options together."""
        left = {gene: frozenset(answers) for gene, answers in self.genes.items()}
        for slot, i in zip(self.slots, picks, strict=True):
            for gene, allowed in slot.options[i].when.items():
                left[gene] &= allowed
        return all(left.values())

    def _checked(self, budgets: Budgets | None) -> dict[str, float]:
        for name, bound in (budgets or {}).items():
            if name not in self.costs:
                raise SettingError(
                    f"no option has a cost {name!r}; the costs are {', '.join(self.costs) or 'none'}"
                )
            if math.isnan(bound):
                raise SettingError(f"the budget of {name} must be a number, got {bound}")
        return dict(budgets or {})

    def _solve(
        self, objective: str, budgets: Budgets, excluded: Sequence[Picks], seconds: float
    ) -> Solution | None:
        """The least score, or cost where one is named; None where nothing keeps the budgets."""
        bounded = {name: bound for name, bound in budgets.items() if bound < math.inf}
        program = Program(self.slots, self.genes, objective, bounded, excluded)
        result = program.solve(seconds)
        if result.status == 2:
            return None
        if result.x is None:
            raise Unsolved(f"no choice was found in {seconds:g} s: {result.message}")
        picks, answers = program.read(result.x)
        return Solution(picks, answers, *self.totals(picks), proven=result.status == 0)

    def _unreachable(self, budgets: Budgets, excluded: bool, seconds: float) -> Unreachable:
        """Why there is no choice: the costs that are too large by themselves, or all of them together."""
        if self._solve("", {}, [], seconds) is None:
            return Unreachable("no options are allowed together: their genes exclude each other", {})
        least = {name: self.least(name, seconds=seconds).costs[name] for name in budgets}
        over = [name for name, bound in budgets.items() if least[name] > bound]
        if over:
            reasons = [f"{name} is at least {least[name]:.6g}, not {budgets[name]:.6g}" for name in over]
            return Unreachable(f"no choice keeps the budgets: {', '.join(reasons)}", least)
        if excluded and self._solve("", budgets, [], seconds) is not None:
            return Unreachable(f"no further choice keeps the budgets {_text(budgets)}", least)
        reasons = [self._least_beside(name, budgets, seconds) for name in budgets]
        return Unreachable(
            f"no choice keeps the budgets {_text(budgets)} together: {'; '.join(reasons)}", least
        )

    def _least_beside(self, name: str, budgets: Budgets, seconds: float) -> str:
        others = {budget: bound for budget, bound in budgets.items() if budget != name}
        solution = self._solve(name, others, [], seconds)
        return (
            f"{name} is at least {solution.costs[name]:.6g} beside the others"
            if solution
            else f"not even without {name}"
        )


def _text(budgets: Budgets) -> str:
    if not budgets:
        return "no budget"
    return ", ".join(f"{name}<={bound:.6g}" for name, bound in budgets.items())
