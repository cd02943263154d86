"""What the page of the front asks for and says: the view of its controls, and lines about what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboards.app.panels import link_to, said
from dashboards.facts.density import is_wide
from dashboards.facts.explore import ExploreFacts, View
from dashboards.facts.progress import state_of
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.rescoring import Rescored
from foundation.text import count, listed

MANY_POINTS = 5000
"""A figure of more points is sent again only when its front changed or it grew by 5 %."""

MOST_SAID = 6
"""Numbers of the best network in its sentence."""


def bound_word(of: Quantity) -> str:
    """The word of a bound in the address."""
    return f"{'min' if of.maximise else 'max'}.{of.name}"


def view_of(reading: Reading, axes: Sequence[Any], log: Any, bounds: Mapping[str, float], pick: Any) -> View:
    """What a reader asked for; a name that the study does not have is an axis without any values."""
    known = {of.name: of for of in reading.quantities()}
    named = [known.get(str(name), Quantity(str(name))) if name else None for name in axes]
    swapped = [axis in log if isinstance(log, list) else False for axis in ("x", "y")]
    scales = tuple(_other_scale(reading, str(axes[i])) if swapped[i] else None for i in (0, 1))
    return View(
        x=named[0] or Quantity(""),
        y=named[1] or Quantity(""),
        z=named[2],
        colour=named[3],
        size=named[4],
        logarithmic=(scales[0], scales[1]),
        bounds=bounds,
        picked=pick if isinstance(pick, int) and not isinstance(pick, bool) and abs(pick) < 2**62 else None,
    )


def _other_scale(reading: Reading, name: str) -> bool:
    """Whether an axis is logarithmic where the reader wants the other scale than the usual one."""
    values = reading.scored.values(name)
    return not is_wide(float(values.min()), float(values.max())) if len(values) else False


def priced_line(priced: Rescored | None) -> list[Component]:
    """Which table the latencies are of, and what it could not price."""
    if priced is None:
        return []
    told = f"Latencies are predicted for {priced.title}."
    if priced.left_out:
        told += f" {priced.left_out:,} networks behind the first fronts of the search are left out."
    if priced.unknown:
        told += f" {count(priced.unknown, 'network')} have parts that this table does not know."
    return [html.P(told, className="muted")]


def best_line(reading: Reading, facts: ExploreFacts) -> Any:
    """The best network under the bounds, in a sentence."""
    best, of = facts.best, facts.best_of
    kept = f"{facts.inside:,} of {count(facts.known, 'network')}"
    if not facts.view.bounds:
        return []
    if best is None:
        return [html.P(["No network keeps these bounds. ", html.Span(kept, className="muted")])]
    numbers = [
        said(objective, best.values[objective.name])
        for objective in facts.plane.objectives[:MOST_SAID]
        if objective.name in best.values
    ]
    return [
        html.P(
            [
                f"Best {of.label} under these bounds: ",
                link_to(reading, best.digest),
                ": ",
                ", ".join(numbers),
                ". ",
            ]
        ),
        html.P(f"{kept} keep them.{_guessed(facts)}", className="muted"),
    ]


def _guessed(facts: ExploreFacts) -> str:
    """Which of the best network's numbers are only predicted of those that the choice rests on."""
    names = dict.fromkeys([facts.best_of.name, *facts.view.bounds])
    values = facts.best.values if facts.best else {}
    known = {of.name: of.label for of in facts.plane.objectives}
    guessed = [known.get(n, n) for n in names if n in values and values[n].is_predicted]
    if not guessed:
        return ""
    return f" Of the best, {listed(guessed)} {'is' if len(guessed) == 1 else 'are'} predicted."


def worth_drawing(seen: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a figure has changed enough to be sent again."""
    if not isinstance(seen, dict) or wanted["points"] < MANY_POINTS:
        return True
    if any(seen.get(key) != wanted[key] for key in ("asked", "look", "members", "measured")):
        return True
    shown = seen.get("points", 0)
    return not isinstance(shown, int) or bool(wanted["points"] > 1.05 * shown)


def study_line(reading: Reading) -> str:
    """The progress of a study in one line."""
    if not reading.read:
        return f"being read: {count(reading.distinct, 'distinct architecture')} so far"
    state, error = state_of(reading)
    counts = reading.counts()
    states = ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()))
    front = count(len(reading.members), "network")
    scored = f"{count(reading.distinct, 'distinct architecture')} scored"
    lost = f"; {count(len(reading.unreadable), 'trial')} cannot be read" if reading.unreadable else ""
    why = f" ({error})" if error else ""
    return f"{state}{why}: {scored}, {front} on the front ({states or 'no trials'}){lost}"


def first_axes(objectives: Sequence[Quantity]) -> tuple[str, str]:
    """The names of the first two objectives, quality on the vertical axis."""
    first, second = [*objectives, *objectives][:2]
    return (second.name, first.name) if first.scored else (first.name, second.name)
