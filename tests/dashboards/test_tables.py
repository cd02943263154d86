"""The table of networks: units, decimals, marks, and what is folded away."""

from __future__ import annotations

import pytest

from dashboards.facts import NetworkFacts
from dashboards.facts.networks import quantity
from dashboards.facts.quantities import TIMES
from dashboards.report.tables import (
    VISIBLE_ROWS,
    columns,
    layers,
    member_table,
    number,
    objectives_text,
    places,
)
from nas.study.trial import Value
from tests.dashboards.test_report import HOSTILE, Reader


def network(number: int = 0, measured: dict[str, Value] | None = None, **values: Value) -> NetworkFacts:
    return NetworkFacts(
        digest=f"d{number}",
        number=number,
        one_line=f"line {number}",
        layers=f"layers {number}",
        values=values,
        measured=measured or {},
    )


def test_a_column_has_one_unit_for_all_its_numbers() -> None:
    small, large = network(weight_bytes=Value(900_000.0)), network(weight_bytes=Value(4_200_000.0))
    (column,) = columns([small, large], [quantity("weight_bytes")])
    assert column.title == "weights (MB)"
    assert [column.cell(small), column.cell(large)] == ["0.90", "4.20"]


def test_decimals_follow_the_largest_error() -> None:
    networks = [network(bits_per_byte=Value(2.34567, 0.0312)), network(bits_per_byte=Value(2.5, 0.002))]
    (column,) = columns(networks, [quantity("bits_per_byte")])
    assert str(column.cell(networks[0])).startswith("2.346<span")
    assert "± 0.031" in str(column.cell(networks[0]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], 0), ([0.0], 0), ([12.0, 7.0], 0), ([1.5, 2.25], 2), ([0.015], 4), ([123456.7], 0), ([1e-9], 6)],
)
def test_places(values: list[float], expected: int) -> None:
    assert places(values) == expected


def test_a_missing_number_is_an_empty_cell() -> None:
    assert number(None, 1.0, 2) is None
    assert number(Value(1234.5), 1.0, 1) == "1,234.5"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("counted", "1.5"),
        ("measured", "1.5"),
        ("predicted", "~1.5"),
        ("estimate", "~1.5"),
        ("predicted, rough", "~1.5 ?"),
        ("measured, rough", "1.5 ?"),
    ],
)
def test_a_number_has_the_marks_of_its_source(source: str, text: str) -> None:
    cell = number(Value(1.5, None, source), 1.0, 1)
    assert cell is not None
    assert Reader(cell).text == text


def test_columns_without_values_are_left_out() -> None:
    one = network(params=Value(10.0), my_cost=Value(3.0))
    shown = columns([one], map(quantity, ("my_cost", "decode_ms", "params")))
    assert [column.quantity.name for column in shown] == ["my_cost", "params"]
    assert columns([], [quantity("params")]) == []


def test_what_was_measured_stands_in_the_place_of_what_was_predicted() -> None:
    one = network(measured={"decode_ms": Value(1.2, None, "measured")}, decode_ms=Value(1.0))
    (column,) = columns([one], [quantity("decode_ms")])
    assert column.cell(one) == "1.20"


def test_layers_are_elements_that_lines_break_between() -> None:
    found = layers(f"96 wide: Attention + MoE w8 s8 | 2 {TIMES} RGLRU w4 s8")
    assert found.count("<li>") == 3
    assert f"<li>96 wide</li><li>Attention + MoE w8 s8</li><li>2 {TIMES} RGLRU w4 s8</li>" in found
    assert layers("depth=3").count("<li>") == 1


def test_a_cell_repeats_its_heading_for_narrow_pages() -> None:
    page = member_table([network(params=Value(1500.0))], [quantity("params")], lambda network: [])
    assert '<td data-label="parameters (k)">1.50</td>' in page


def test_a_long_front_is_folded() -> None:
    networks = [network(i, params=Value(float(i + 1))) for i in range(VISIBLE_ROWS + 2)]
    page = member_table(networks, [quantity("params")], lambda network: [])
    assert "the other 2 networks" in page
    assert page.count('<tr class="below">') == len(networks)
    assert "<details>" not in member_table(networks[:2], [quantity("params")], lambda network: [])


def test_names_of_networks_stay_text() -> None:
    hostile = NetworkFacts(
        digest=HOSTILE, number=0, one_line=HOSTILE, layers=HOSTILE, values={"params": Value(1.0)}
    )
    found = Reader(member_table([hostile], [quantity("params")], lambda network: []))
    assert "img" not in [name for name, _ in found.elements]


def test_objectives_state_an_unusual_direction() -> None:
    assert objectives_text([quantity("bits_per_byte"), quantity("params")]) == "bits per byte and parameters"
