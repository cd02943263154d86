"""The drawings of one network, its layers and its trainings, each with a sentence and the table behind it."""

from __future__ import annotations

from collections.abc import Mapping

from dash import html
from dash.development.base_component import Component

from dashboards.app.behind import behind, folded
from dashboards.app.controls import term
from dashboards.app.look import Look
from dashboards.app.panels import NONE
from dashboards.facts.anatomy import Anatomy, anatomy, table_of
from dashboards.facts.family_tree import TrainingFacts, trainings_of
from dashboards.facts.networks import architecture, quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.figures.strip import AROUND, strip_figure, totals
from dashboards.figures.trainings import trainings_figure
from nas.study.trial import Trial


def strip(reading: Reading, trial: Trial, by: str, scenario: str, look: Look) -> list[Component]:
    """The layers of a network in one of the study's scenarios."""
    scenarios = {each.name: each for each in reading.study.plan.scenarios}
    chosen = scenarios.get(scenario, reading.study.plan.scenarios[0])
    facts = anatomy(architecture(reading.study, trial), chosen, table_of(reading.study, chosen))
    if facts is None:
        text = "Its layers are of classes that only the study's source defines."
        return [html.P(text, className="muted")]
    columns: list[Component | str] = ["Bars are ", term("prefill"), ", ", term("decode"), " of a token, "]
    columns += ["parameters, weights and ", term("state"), ". ", strip_caption(facts)]
    return [
        look.graph(strip_figure(facts, by, narrow=look.narrow)),
        folded(layer_table(facts)),
        html.P(columns, className="caption"),
    ]


def layer_table(facts: Anatomy) -> Component:
    """Each layer with its blocks and with what it costs."""
    costs = facts.costs
    heads = ["layer", "blocks", *(quantity(name).label for name in costs)]
    rows = []
    for layer in facts.layers:
        more = [text for text in (layer.router, layer.exit, *layer.notes) if text]
        more += [f"weights shared as {layer.shared}"] if layer.shared else []
        blocks = "; ".join([*(block.text for block in layer.blocks), *more])
        cells = [quantity(name).text(layer.costs.get(name, 0.0)) for name in costs]
        rows.append([str(layer.index), blocks, *cells])
    rows.append(
        [AROUND, "", *(quantity(n).text(facts.around[n]) if n in facts.around else NONE for n in costs)]
    )
    head = html.Thead(html.Tr([html.Th(text) for text in heads]))
    body = html.Tbody(
        [
            html.Tr([html.Th(name, scope="row"), html.Td(blocks, className="text"), *map(html.Td, cells)])
            for name, blocks, *cells in rows
        ]
    )
    return html.Div(html.Table([head, body], className="sides"), className="scroll long", tabIndex="0")


def trainings(reading: Reading, trial: Trial, look: Look) -> list[Component]:
    """How the trainings of a network went."""
    found, quality = trainings_of(reading, trial.digest), reading.study.quality
    if quality is None or not found:
        return [html.P("Nothing was trained for this network alone.", className="muted")]
    of = quantity(quality.name, reading.study)
    if all(len(training.steps) == 1 for training in found):
        return [html.Ul([html.Li(_once(training, of)) for training in found])]
    figure = trainings_figure(found, of)
    caption = (
        "Scores by training steps. A score by shared weights is of no training of its own;"
        " bars are one standard error."
    )
    return [look.graph(figure), html.P(caption, className="caption"), behind(figure)]


def _once(training: TrainingFacts, of: Quantity) -> str:
    """A training that was looked at once, which makes no curve."""
    how = f"{training.stage}, {training.evaluator}, seed {training.seed}"
    return f"{of.label} {of.of(training.last)} after {training.steps[0]:,} training steps ({how})"


def strip_caption(facts: Anatomy) -> str:
    """What is drawn, and what it adds up to."""
    sums = {name: quantity(name).text(value) for name, value in totals(facts).items()}
    told = ", ".join(f"{quantity(name).label} {text}" for name, text in sums.items())
    text = (
        "The first layer is at the bottom, above embedding and head (ends). The width of a block is its"
        f" weights per channel. All rows together: {told}."
    )
    if facts.timed:
        text += f" Latencies are predicted by the table of {facts.timed}. {overheads_text(facts.overheads)}"
    else:
        text += " There is no latency table for this scenario here, so no latency by layer."
    return text


def overheads_text(overheads: Mapping[str, float]) -> str:
    """What the whole takes beside the sum of its parts, or how much less it takes than they do."""
    told = []
    for name, ms in overheads.items():
        of, amount = quantity(name), quantity(name).text(abs(ms))
        told.append(
            f"the parts timed alone add up to {amount} more {of.label} than the whole"
            if ms < 0
            else f"{amount} of {of.label} belong to the whole and to no layer"
        )
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
