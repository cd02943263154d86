"""The report's part about baselines: does the front beat what a sceptic would choose?"""

from __future__ import annotations

from dashboards.facts import BaselineFacts, Facts, TrainedNetwork
from dashboards.facts.quantities import Quantity
from dashboards.figures.baselines import baseline_figure
from dashboards.report.html import Html, code, figure, folded, joined, p, section, tag
from dashboards.report.numbers import numbers_table
from dashboards.report.tables import layers, number
from foundation.text import count, listed

ABOUT = (
    "Baselines are architectures as published, at widths and depths of the space: beside finalists, the"
    " smallest size that stores at least as many bytes, at the finalist's bits. Recipe, batches, steps and"
    " scenario are the finalists' own."
)
NOISE = (
    "At equal cost, the front beats a baseline with a network that costs no more and scores better, and is"
    " beaten where its networks at that cost score worse, of those that were trained as long; of a baseline's"
    " sizes the one counts that does best. The error compares window by window, and over seeds where there"
    " are several; of networks that were trained once the luck of a seed is not in it."
)
CAPTION = (
    "Each mark is a network after training from scratch, and the line below it the same network after more"
    " steps. Blue lines: the front of the finalists after equally many steps; baselines below and left of the"
    " line beat it. Bars: one standard error of a single score, far wider than that of a difference."
)


def baseline_section(facts: Facts) -> Html | None:
    """The verdicts, the plane of each cost, and all scores; None where no baseline was trained."""
    found = facts.baselines
    if found is None:
        return None
    verdicts = [p(verdict.sentence, kind="lead") for verdict in found.verdicts]
    drawn = [figure(baseline_figure(found, verdict.cost)) for verdict in found.verdicts]
    drawn = [tag("div", *drawn, kind="pair"), p(CAPTION, kind="muted")] if drawn else []
    return section(
        "Against baselines", *verdicts, p(f"{ABOUT} {NOISE}", kind="muted"), *drawn, _table(facts, found)
    )


def _table(facts: Facts, found: BaselineFacts) -> Html:
    """Scores by training steps and the costs that count, of every network of a baseline."""
    costs = [verdict.cost for verdict in found.verdicts]
    titles = [*(f"{rung:,} steps" for rung in found.rungs), *(cost.label for cost in costs)]
    bodies = [_body(facts, found, network, costs, titles) for network in found.baselines]
    head = tag("tr", tag("th", "baseline"), *(tag("th", title) for title in titles))
    networks = count(len(found.baselines), "network")
    about = p(
        f"{networks} of {listed(found.names)}: {found.quality.axis_title} after training from scratch.",
        kind="muted",
    )
    return joined([about, tag("table", tag("thead", head), *bodies, kind="members")])


def _body(
    facts: Facts, found: BaselineFacts, network: TrainedNetwork, costs: list[Quantity], titles: list[str]
) -> Html:
    cells = [number(network.rungs.get(rung), 1.0, 3) for rung in found.rungs]
    cells += [
        joined([cost.of(network.costs[cost.name])]) if cost.name in network.costs else None for cost in costs
    ]
    row = [tag("td", cell, label=title) for title, cell in zip(titles, cells, strict=True)]
    known = numbers_table(
        network.costs, {}, objectives=facts.study.objectives, scenarios=facts.study.scenarios
    )
    name = tag("td", network.name, " ", code(network.digest))
    below = tag("td", layers(network.one_line), folded("all numbers", known), span=len(titles) + 1)
    return tag("tbody", tag("tr", name, *row), tag("tr", below, kind="below"))
