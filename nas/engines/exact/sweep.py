"""Many budgets for a whole front: the best choice under each, and what is not dominated among them.

Between the least of a cost and the most that is worth paying for it (the corners of the payoff table: every
cost at its least, and the best score), budgets are spread by a Halton sequence, evenly in their logarithms
where costs are positive. A front of two costs is a surface, and no grid knows beforehand where it is dense.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from foundation.errors import SettingError
from nas.engines.exact.integer_program import SECONDS, ChoiceProblem, Unreachable, Unsolved
from nas.engines.exact.slots import Budgets, Solution

SLACK = 1e-9
"""How much larger, relatively, a budget at a corner is than its cost, so that the corner itself keeps it."""


def sweep(
    problem: ChoiceProblem,
    over: Sequence[str],
    *,
    points: int,
    budgets: Budgets | None = None,
    seed: int = 0,
    next_best: int = 0,
    seconds: float = SECONDS,
) -> list[Solution]:
    """What is best under `points` different budgets on the costs named in `over`, each choice once.

    `budgets` hold for all of them. With `next_best`, the so many next best under each budget come too. Sorted
    by score; dominated choices among them are left to the caller (see `front`). With no cost to sweep, they
    are the `points` best choices.

    Raises:
        Unreachable: nothing keeps `budgets`.
        SettingError: no such cost, or no points.
    """
    if points < 1:
        raise SettingError(f"a sweep needs at least one point, got {points}")
    fixed = dict(budgets or {})
    if not over:
        return problem.best_few(points, fixed, seconds=seconds)
    corners = [problem.best(fixed, seconds=seconds)]
    for name in over:
        with suppress(Unreachable, Unsolved):  # the cheapest of all may be forbidden
            corners.append(_best_at_least(problem, name, fixed, seconds))
    solutions = {corner.picks: corner for corner in corners}
    for bounds in _budgets(corners, over, points, seed):
        joint = {**fixed, **{name: min(b, fixed.get(name, math.inf)) for name, b in bounds.items()}}
        try:
            few = problem.best_few(1 + next_best, joint, seconds=seconds)
        except (Unreachable, Unsolved):  # each can be reached by itself, but not all together
            continue
        for solution in few:
            solutions.setdefault(solution.picks, solution)
    return sorted(solutions.values(), key=lambda solution: solution.score)


def front(solutions: Sequence[Solution], over: Sequence[str]) -> list[Solution]:
    """Those that no other dominates in score and the costs named in `over`, in their order."""
    if not solutions:
        return []
    points = np.array([[each.score, *(each.costs[name] for name in over)] for each in solutions])
    kept, seen = [], set[tuple[float, ...]]()
    for solution, point in zip(solutions, points, strict=True):
        dominating = (points <= point).all(1) & (points < point).any(1)
        if not dominating.any() and tuple(point) not in seen:
            seen.add(tuple(point))
            kept.append(solution)
    return kept


def _best_at_least(problem: ChoiceProblem, cost: str, budgets: Budgets, seconds: float) -> Solution:
    """The best score among those of the least `cost`."""
    least = problem.least(cost, budgets, seconds=seconds).costs[cost]
    return problem.best({**budgets, cost: _above(least)}, seconds=seconds)


def _budgets(
    corners: Sequence[Solution], over: Sequence[str], points: int, seed: int
) -> list[dict[str, float]]:
    low = np.array([min(corner.costs[name] for corner in corners) for name in over])
    high = np.array([max(corner.costs[name] for corner in corners) for name in over])
    if len(over) == 1:
        shares = np.linspace(0, 1, points + 2)[1:-1, None]
    else:
        shares = qmc.Halton(len(over), seed=np.random.default_rng(seed)).random(points)
    return [dict(zip(over, map(float, row), strict=True)) for row in _between(low, high, shares)]


def _between(
    low: NDArray[np.float64], high: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    positive = low > 0
    start, end = np.where(positive, low, 1.0), np.where(positive, high, 1.0)
    return np.where(positive, start * (end / start) ** shares, low + (high - low) * shares)


def _above(value: float) -> float:
    return value + SLACK * abs(value)
