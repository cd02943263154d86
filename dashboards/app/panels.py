"""The parts of the dashboard around its figure: the list of studies, and one network in full."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from dash import dcc, html
from dash.development.base_component import Component

from dashboards.app.live import LiveStudy, Summary
from dashboards.facts.networks import layers_of, quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.study import study_facts
from dashboards.shell_commands import export
from foundation.text import count
from nas.study.marks import rough_lines
from nas.study.trial import MEASURED, Trial, Value


def studies_table(summaries: Sequence[Summary], unreadable: Sequence[str] = ()) -> Component:
    """All studies, one row each, and below them a line about each that cannot be read."""
    if not summaries and not unreadable:
        return html.P(["No study yet. Start one: ", html.Code("nas search laptop --name first")])
    head = ["study", "created", "trials", "state", "front", "best of the front"]
    rows = [html.Tr([html.Td(cell) for cell in _study_cells(summary)]) for summary in summaries]
    table = html.Table([html.Thead(html.Tr([html.Th(name) for name in head])), html.Tbody(rows)])
    return html.Div([table, *map(html.P, unreadable)], className="scroll studies")


def _study_cells(summary: Summary) -> list[Component | str]:
    created = datetime.fromtimestamp(summary.created).strftime("%-d %b %Y, %H:%M")
    bests = [_best(of, value) for of, value in summary.best.items()]
    return [
        dcc.Link(summary.name, href=f"/study/{quote(summary.name)}"),
        created,
        f"{summary.done:,} of {summary.planned:,}" if summary.front is not None else "…",
        html.Span(summary.state, className=f"state {summary.state.split()[0]}"),
        f"{summary.front:,}" if summary.front is not None else "…",
        html.Div(bests),
    ]


def _best(of: Quantity, value: Value) -> Component:
    label = html.Span(f"{of.label} ", className="muted")
    return html.Div([label, value.marked(of.text(value.value))])


def study_line(live: LiveStudy) -> str:
    """The progress of a study in one line."""
    counts = live.counts()
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items()))
    front = count(len(live.members), "network")
    scored = f"{count(live.scored, 'distinct architecture')} scored"
    lost = f"; {count(len(live.unreadable), 'trial')} cannot be read" if live.unreadable else ""
    return f"{live.state()}: {scored}, {front} on the front ({states or 'no trials'}){lost}"


def first_panel(live: LiveStudy) -> list[Component]:
    """The panel before a click: the first member of the front."""
    if not live.members:
        return [html.P("Nothing is scored yet. Networks appear here as they are.", className="muted")]
    text = f"The best of the front in {live.objectives[0].label}. Click a point to see another."
    return [html.P(text, className="muted"), *network_panel(live, live.members[0])]


def network_panel(live: LiveStudy, trial: Trial) -> list[Component]:
    """One network: its layers, its numbers with errors and sources, and the command that exports it."""
    command = export(study_facts(live.study, ()), trial.digest)
    return [
        html.H2([html.Code(trial.digest), html.Span(f" trial {trial.number:,}", className="muted")]),
        html.Pre(_with_narrow_margin(layers_of(live.study, trial)), className="layers"),
        html.Table([html.Tbody(_value_rows(live, trial))], className="values"),
        *(html.P(line, className="muted") for line in _legend(live, trial)),
        html.P("Export it:", className="muted"),
        html.Div(
            [html.Code(command, id="command"), dcc.Clipboard(content=command, title="copy")],
            className="command",
        ),
    ]


def _value_rows(live: LiveStudy, trial: Trial) -> list[Component]:
    """The objectives, then the scores of longer trainings from scratch, then all other values."""
    values = _values(live, trial)
    order = {objective.name: index for index, objective in enumerate(live.objectives)}
    values.sort(key=lambda item: order.get(item[0], len(order)))
    shown = [(quantity(name, live.study), value) for name, value in values]
    rows = [_value_row(of.label, of, value) for of, value in shown]
    rungs = sorted(live.finalists.get(trial.digest, {}).items())
    quality = next((objective for objective in live.objectives if objective.scored), None)
    if quality is not None:
        rows[1:1] = [_value_row(f"{steps:,} steps from scratch", quality, value) for steps, value in rungs]
    return rows


def _values(live: LiveStudy, trial: Trial) -> list[tuple[str, Value]]:
    """What is known of a network: of the trial, and measured."""
    measured = [(m.name.removesuffix(MEASURED), m.value) for m in live.study.measurements(trial.digest)]
    return [*trial.values.items(), *measured]


def _legend(live: LiveStudy, trial: Trial) -> list[str]:
    known = [{name: value} for name, value in _values(live, trial)]
    return rough_lines(known, live.study.table_errors)


def _value_row(label: str, of: Quantity, value: Value) -> Component:
    return html.Tr([html.Td(label), html.Td(of.of(value)), html.Td(value.source)])


def _with_narrow_margin(text: str) -> str:
    """The layers, indented by four columns less."""
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())
