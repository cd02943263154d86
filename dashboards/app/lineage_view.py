"""Where a network comes from: its parents and theirs, with what each child changed."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboards.app.panels import link_to
from dashboards.facts.family_tree import Generation, ParentFacts, generations_of
from dashboards.facts.reading import Reading
from nas.study.trial import Trial


def lineage(reading: Reading, trial: Trial) -> list[Component]:
    """The parents and theirs, with what each child changed."""
    generations = generations_of(reading, trial)
    if not generations:
        return [html.P("Its strategy recorded no parents.", className="muted")]
    items = [_generation(reading, each) for each in generations]
    note = "A network and its parents, newest first; each line is a gene that the child changed."
    return [html.P(note, className="caption"), html.Ol(items, className="lineage")]


def _generation(reading: Reading, each: Generation) -> Component:
    head = [link_to(reading, each.digest), html.Span(f" trial {each.number:,}", className="muted")]
    if not each.parents:
        return html.Li([*head, f", {each.origin}"])
    return html.Li([*head, ", made of", html.Ul([_parent(reading, parent) for parent in each.parents])])


def _parent(reading: Reading, parent: ParentFacts) -> Component:
    quality = reading.objectives[0]
    value = parent.values.get(quality.name)
    told = f", {quality.label} {quality.of(value)}" if value else ""
    changes = [
        html.Li([html.Code(path), f": {before} → ", html.Strong(after)])
        for path, (before, after) in parent.changed.items()
    ]
    head = [link_to(reading, parent.digest), html.Span(f" trial {parent.number:,}{told}", className="muted")]
    return html.Li([*head, html.Ul(changes, className="changes")] if changes else [*head, ": the same genes"])
