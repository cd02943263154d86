"""The greedy choice: the baseline of the exact one.

Start from the best score at each place. While a budget is broken, take the exchange at one place that costs
the least score for what it takes off the overruns (each in units of its budget).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.engines.exact.integer_program import Budgets, Choice, Chosen

TINY = 1e-12


def greedy(choice: Choice, budgets: Budgets) -> Chosen | None:
    """A choice that keeps the budgets; None where no single exchange helps any more.

    Meant for places that no gene ties together: exchanges that do not fit the others are left out.
    """
    picks = [min(range(len(p.options)), key=lambda i, p=p: p.options[i].score) for p in choice.places]  # type: ignore[misc]
    if not choice.allowed(picks):
        return None
    while True:
        score, costs = choice.totals(picks)
        over = _overrun(costs, budgets)
        if over <= 0.0:
            return Chosen(tuple(picks), {}, score, costs, proven=False)
        best: tuple[float, list[int]] | None = None
        for p, place in enumerate(choice.places):
            for i in range(len(place.options)):
                changed = [*picks[:p], i, *picks[p + 1 :]]
                gain = over - _overrun(_moved(choice, costs, picks, p, i), budgets)
                if gain <= TINY or not choice.allowed(changed):
                    continue
                price = (place.options[i].score - place.options[picks[p]].score) / gain
                if best is None or price < best[0]:
                    best = price, changed
        if best is None:
            return None
        picks = best[1]


def _moved(
    choice: Choice, costs: Mapping[str, float], picks: Sequence[int], place: int, option: int
) -> dict[str, float]:
    options = choice.places[place].options
    old, new = options[picks[place]].costs, options[option].costs
    return {name: cost + new.get(name, 0.0) - old.get(name, 0.0) for name, cost in costs.items()}


def _overrun(costs: Mapping[str, float], budgets: Budgets) -> float:
    return sum(max(0.0, costs[name] - bound) / max(abs(bound), TINY) for name, bound in budgets.items())
