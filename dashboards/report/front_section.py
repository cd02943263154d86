"""The report's first part: headline, the front in each pair of objectives, its members and composition."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.facts import Facts, FrontFacts, NetworkFacts
from dashboards.facts.composition import CompositionFacts
from dashboards.facts.quantities import QUALITY, Quantity
from dashboards.figures import figures
from dashboards.figures.front import front_figure
from dashboards.report.html import Child, Html, figure, joined, p, section, tag
from dashboards.report.tables import member_table
from foundation.text import count, listed, with_error

MEMBERS_INTRODUCTION = (
    "w and s are bits per weight and per value of the decode state. ± is one standard error."
    " tied: not significantly better in quality than the next member."
)


def headline(facts: Facts) -> Html:
    """How many architectures were scored, and the best value of each objective."""
    study, front = facts.study, facts.front
    if not front:
        failed = study.counts.get("failed")
        what = f"all {count(failed, 'candidate')} failed" if failed else "nothing scored yet"
        return joined([tag("h1", f"{study.name}: {what}"), _progress(facts), _remarks(facts)])
    scored = count(study.distinct, "distinct architecture")
    title = f"{scored} scored, {len(front):,} on the front"
    lead = [f"On the front, {listed(_best(quantity, front) for quantity in study.objectives)}."]
    best = next((f for f in facts.finals.finalists if f.best), None) if facts.finals else None
    if best is not None and best.last is not None:
        steps, score = best.last
        lead.append(
            f" Trained from scratch for {steps:,} steps, the best finalist reaches"
            f" {with_error(score.value, score.error or 0.0)} bits per byte."
        )
    return joined([tag("h1", title), p(*lead, kind="lead"), _progress(facts), _remarks(facts)])


def _remarks(facts: Facts) -> Html:
    return joined(p(f"{remark}.", kind="note") for remark in facts.study.remarks)


def _best(quantity: Quantity, front: Sequence[NetworkFacts]) -> str:
    values = [network.values[quantity.name] for network in front if quantity.name in network.values]
    best = (max if quantity.maximise else min)(values, key=lambda value: value.value)
    return quantity.best(best)


def _progress(facts: Facts) -> Html | None:
    study = facts.study
    done = sum(study.counts.get(state, 0) for state in ("complete", "failed"))
    if done >= study.planned:
        return None
    return p(f"The search is not complete: {done:,} of {study.planned:,} trials are scored.", kind="note")


def front_section(facts: Facts) -> Html | None:
    """The front, pair by pair, its members and its composition."""
    if not facts.front:
        return None
    drawn: list[Child] = []
    if facts.fronts:
        drawn.append(figure(front_figure(facts.fronts[0]), _caption(facts.fronts[0])))
        small = [_small_figure(pair) for pair in facts.fronts[1:]]
        drawn.append(tag("div", *small, kind="pair") if small else None)
    return section("The front", *drawn, tag("h3", "Its members"), _members(facts), _composition(facts))


def _composition(facts: Facts) -> Html | None:
    if facts.composition is None or len(facts.front) < 2:
        return None
    drawn = figure(figures["composition"](facts), _composition_caption(facts.composition))
    return joined([tag("h3", "Its composition"), drawn])


def _composition_caption(composition: CompositionFacts) -> str:
    return (
        f"Blue bars: the share of the front ({count(composition.networks, 'network')}) with this option at"
        f" this layer. Orange ticks: its share among all scored architectures ({composition.searched:,})."
        " Where a bar is far beyond its tick, the front selects for the option."
    )


def _caption(pair: FrontFacts) -> str:
    text = "Each point is an architecture; the line is the best so far, in a band of one standard error."
    if QUALITY in (pair.x.name, pair.y.name) and len(pair.front) > 1:
        text += (
            " All networks are scored on the same validation windows, so two of them are compared window by"
            f" window, which is more precise than the band: {_ties(pair)}."
        )
    if pair.other_members:
        text += " Faint blue points are on the front because of another objective."
    return f"{text} Drag to zoom, double-click to reset."


def _ties(pair: FrontFacts) -> str:
    steps = len(pair.front) - 1
    if not pair.ties:
        which = "the one step of this line is" if steps == 1 else f"all {steps} steps of this line are"
        return f"{which} significant"
    verb = "is" if pair.ties == 1 else "are"
    return f"{pair.ties} of {count(steps, 'step')} of this line {verb} within noise (hollow marks)"


def _small_figure(pair: FrontFacts) -> Html:
    drawn = front_figure(pair, height=360)
    return figure(drawn.update_layout(showlegend=False, margin_t=12))


def _members(facts: Facts) -> Html:
    finalists = {finalist.digest for finalist in facts.finals.finalists} if facts.finals else set()

    def tags(network: NetworkFacts) -> list[Html | None]:
        return [
            tag("span", "tied", kind="tag tied") if network.tied else None,
            tag("span", "dominated as measured", kind="tag") if network.outdone else None,
            tag("span", "finalist", kind="tag scratch") if network.digest in finalists else None,
        ]

    table = member_table(facts.front, [quantity.name for quantity in facts.study.objectives], tags)
    marks = [p(line, kind="note") for line in facts.legend]
    return joined([p(MEMBERS_INTRODUCTION, kind="muted"), *marks, table])
