"""What a page shows as one file that works offline, and its numbers for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from io import StringIO
from typing import Any

import plotly.graph_objects as go
import plotly.offline

from dashboards.facts.networks import NetworkFacts
from dashboards.facts.numbers import NumberGroup
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.report.html import Child, document, figure, p, section, tag
from dashboards.report.tables import member_table
from nas.study.trial import Trial


def page_of(title: str, drawn: go.Figure, caption: str, *more: Child) -> str:
    """A figure as a page of its own, with all scripts inside."""
    body = tag("main", p(f"nas · {title}", kind="kicker"), tag("h1", title), figure(drawn, caption), *more)
    return document(title, body, plotly.offline.get_plotlyjs())


def networks_page(
    title: str,
    drawn: go.Figure,
    caption: str,
    networks: Sequence[NetworkFacts],
    objectives: Sequence[Quantity],
) -> str:
    """A figure as a page of its own, with the networks that it is about as a table."""
    table = member_table(networks, objectives, lambda network: [])
    return page_of(title, drawn, caption, section("Networks", table))


def trials_csv(reading: Reading, trials: Sequence[Trial]) -> str:
    """Networks as a table: number, digest, each value with its error and source, the layers."""
    measured = reading.study.measured()
    known = {trial.number: {**trial.values, **measured.get(trial.digest, {})} for trial in trials}
    names = list(dict.fromkeys(name for values in known.values() for name in values))
    text = StringIO()
    rows = csv.writer(text)
    rows.writerow(
        ["trial", "digest", *(f"{n}{part}" for n in names for part in ("", "_error", "_source")), "layers"]
    )
    for trial in trials:
        cells: list[Any] = []
        for name in names:
            value = known[trial.number].get(name)
            cells += ["", "", ""] if value is None else [value.value, value.error, value.source]
        rows.writerow([trial.number, trial.digest, *cells, reading.one_line(trial)])
    return text.getvalue()


def trials_json(reading: Reading, trials: Sequence[Trial]) -> str:
    """Networks with their genes, and all numbers as they were predicted and measured."""
    measured = reading.study.measured()

    def plain(trial: Trial) -> dict[str, Any]:
        found = measured.get(trial.digest, {})
        return {
            "number": trial.number,
            "digest": trial.digest,
            "genotype": dict(trial.genotype.genes),
            "values": {name: value.to_json() for name, value in trial.values.items()},
            "measured": {name: value.to_json() for name, value in found.items()},
        }

    return json.dumps({"study": reading.study.name, "networks": [plain(t) for t in trials]}, indent=1)


def numbers_text(groups: Sequence[NumberGroup]) -> str:
    """All numbers of one network, a line each, for a page of its own."""
    lines = []
    for group in groups:
        for row in group.rows:
            told = [row.of.of(value) + f" ({value.source})" for value in row.values]
            lines.append(f"{row.of.label}: {'; '.join(told)}")
    return "\n".join(lines)


def network_page(
    title: str, drawn: go.Figure, caption: str, groups: Sequence[NumberGroup], python: str
) -> str:
    """One network as a page of its own: its drawing, its numbers, its Python."""
    numbers = section("Numbers", tag("pre", numbers_text(groups)))
    return page_of(title, drawn, caption, numbers, section("As Python", tag("pre", python)))
