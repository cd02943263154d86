"""A study as it was after some of its trials, out of what is in memory: nothing is read a second time.

Numbers are those that the search had: what was measured later, mostly of the front, would not compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Known, Reading
from dashboards.facts.scored import Mask, Scored
from nas.pareto import nondominated_mask


def until(known: Known, after: int | None) -> Known:
    """The networks of the trials up to a number, as the search knew them; all that is known for None."""
    if after is None:
        return known
    kept: Mask = np.asarray(known.scored.numbers <= after)
    scored = known.scored.where(kept)
    return Known(scored, {}, scored, {})


def front_of(scored: Scored, objectives: Sequence[Quantity]) -> list[int]:
    """The numbers of the trials that no other one dominates in these, in the order of the numbers.

    Networks of which one of them is unknown are left out.
    """
    costs = scored.costs(objectives)
    known = np.flatnonzero(np.isfinite(costs).all(axis=1))
    kept = known[np.flatnonzero(nondominated_mask(costs[known]))]
    return [int(number) for number in scored.numbers[kept]]


def members_after(reading: Reading, after: int) -> list[int]:
    """The numbers of the trials that were on the front in all objectives, the best of the first one first."""
    scored = until(reading.known, after).scored
    front = scored.where(np.isin(scored.numbers, front_of(scored, reading.objectives)))
    costs = front.costs(reading.objectives)
    return [int(front.numbers[i]) for i in sorted(range(len(front)), key=lambda i: tuple(costs[i]))]


def last_number(reading: Reading) -> int:
    """The number of the last network that was scored; 0 where there is none."""
    numbers = reading.scored.numbers
    return int(numbers[-1]) if len(numbers) else 0
