"""The greedy choice: the baseline of the exact one.

Start from the best score in each slot. While a budget is exceeded, make the exchange in one slot that costs
the least score for what it takes off the overruns (each in units of its budget).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas.engines.exact.integer_program import ChoiceProblem
from nas.engines.exact.slots import Budgets, Slot, Solution

TINY = 1e-12


def greedy(problem: ChoiceProblem, budgets: Budgets) -> Solution | None:
    """A choice that keeps the budgets; None where no single exchange helps any more.

    Meant for slots that no gene ties together: exchanges that do not fit the others are left out.
    """
    picks = [_best_option(slot) for slot in problem.slots]
    if not problem.allowed(picks):
        return None
    while True:
        score, costs = problem.totals(picks)
        if _overrun(costs, budgets) <= 0.0:
            return Solution(tuple(picks), {}, score, costs, proven=False)
        exchanges = list(_exchanges(problem, picks, costs, budgets))
        if not exchanges:
            return None
        _, picks = min(exchanges, key=lambda exchange: exchange[0])


def _best_option(slot: Slot) -> int:
    return min(range(len(slot.options)), key=lambda i: slot.options[i].score)


def _exchanges(
    problem: ChoiceProblem, picks: Sequence[int], costs: Mapping[str, float], budgets: Budgets
) -> Iterator[tuple[float, list[int]]]:
    """Exchanges in one slot that take something off the overruns: score for each unit, and the choice."""
    over = _overrun(costs, budgets)
    for number, slot in enumerate(problem.slots):
        old = slot.options[picks[number]]
        for i, new in enumerate(slot.options):
            changed = [*picks[:number], i, *picks[number + 1 :]]
            moved = {name: cost + new.amount(name) - old.amount(name) for name, cost in costs.items()}
            gain = over - _overrun(moved, budgets)
            if gain > TINY and problem.allowed(changed):
                yield (new.score - old.score) / gain, changed


def _overrun(costs: Mapping[str, float], budgets: Budgets) -> float:
    return sum(max(0.0, costs[name] - bound) / max(abs(bound), TINY) for name, bound in budgets.items())
