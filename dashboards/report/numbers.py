"""All numbers of one network in one table: quantities, as predicted and as measured, scenario by scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dashboards.facts.networks import quantity_among
from dashboards.facts.quantities import Quantity
from dashboards.report.html import Html, joined, tag
from dashboards.report.tables import column_of, number
from nas.study.plan import SCENARIO_MARK
from nas.study.trial import Value

ORDER = (
    "bits_per_byte",
    "params",
    "weight_bytes",
    "decode_ms",
    "prefill_ms",
    "state_bytes",
    "state_bytes_per_token",
    "decode_flops",
    "prefill_flops",
    "peak_bytes",
    "prefill_peak_bytes",
    "decode_peak_bytes",
)
"""After the objectives, quantities come in this order; others follow by name."""

NONE = "\N{EN DASH}"
"""In place of a number that is not known."""

Numbers = Mapping[str, Value]


def numbers_table(
    values: Numbers,
    measured: Numbers,
    *,
    objectives: Sequence[Quantity],
    scenarios: Mapping[str, str],
    trained: Mapping[int, Value] | None = None,
) -> Html:
    """The numbers of a network: what holds everywhere, then what holds in each scenario.

    `values` are those of the search, `measured` those of the network as it was built and timed, `trained` its
    scores from scratch by training steps. A number that is neither predicted nor measured, being exact or a
    score, has both columns for itself, with its source. `scenarios` are the texts of several, by name.
    """
    groups: dict[str, list[Html]] = {"": [], **{name: [] for name in scenarios}}
    for name in _ordered({*values, *measured}, [objective.name for objective in objectives]):
        of = quantity_among(objectives, name)
        scenario = name.partition(SCENARIO_MARK)[2]
        rows = groups.setdefault(scenario, [])
        rows.append(_row(of, values.get(name), measured.get(name)))
        if of.scored:
            rows += [_trained(of, steps, score) for steps, score in sorted((trained or {}).items())]
    head = tag("tr", *(tag("th", title) for title in ("quantity", "predicted", "measured")))
    bodies = [_body(rows, scenarios.get(name, name) if name else "") for name, rows in groups.items() if rows]
    return tag("div", tag("table", tag("thead", head), *bodies, kind="numbers"), kind="scroll")


def _ordered(names: Iterable[str], objectives: Sequence[str]) -> list[str]:
    first = list(dict.fromkeys([*objectives, *ORDER]))

    def place(name: str) -> tuple[int, str]:
        plain = name.partition(SCENARIO_MARK)[0]
        known = [first.index(each) for each in (name, plain) if each in first]
        return (known[0] if known else len(first)), name

    return sorted(names, key=place)


def _body(rows: Sequence[Html], scenario: str) -> Html:
    """The rows of a scenario under its name."""
    title = Html(f'<tr><th colspan="3" class="group">{tag("span", scenario)}</th></tr>') if scenario else None
    return tag("tbody", title, *rows)


def _row(of: Quantity, value: Value | None, measured: Value | None) -> Html:
    column = column_of(of, [each for each in (value, measured) if each is not None])
    title = of.plain.title(column.unit)
    if measured is None and value is not None and not value.is_predicted:
        return _single(title, number(value, column.factor, column.places), value.source)
    cells = (number(each, column.factor, column.places) for each in (value, measured))
    return tag("tr", tag("td", title), *(tag("td", cell or NONE) for cell in cells))


def _trained(of: Quantity, steps: int, score: Value) -> Html:
    column = column_of(of, [score])
    title = f"{column.title}, trained from scratch for {steps:,} steps"
    return _single(title, number(score, column.factor, column.places), score.source)


def _single(title: str, shown: Html | None, source: str) -> Html:
    """A number that has no second one beside it, after the word for its source."""
    return tag("tr", tag("td", title), tag("td", joined([tag("span", source, kind="how"), shown]), span=2))
