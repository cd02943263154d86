"""All numbers of a network in one table: rows, columns, scenarios, units and marks."""

from __future__ import annotations

import re

from dashboards.facts.networks import quantity
from dashboards.report.numbers import NONE, numbers_table
from nas.study.trial import Value
from tests.dashboards.test_report import HOSTILE, Reader


def rows_of(table: str) -> list[list[str]]:
    """The text of the cells, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [[Reader(cell).text for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


def test_predicted_and_measured_stand_side_by_side_in_one_unit() -> None:
    table = numbers_table(
        {"decode_ms": Value(1.25, 0.11, "predicted"), "params": Value(1500.0)},
        {"decode_ms": Value(1.5, 0.012, "measured"), "peak_bytes": Value(2e6, None, "measured")},
        objectives=[quantity("decode_ms")],
        scenarios={"": "cpu"},
    )
    assert table.count("<table") == 1
    assert rows_of(table) == [
        ["quantity", "predicted", "measured"],
        ["decode latency per token (ms)", "~1.25± 0.11", "1.50± 0.01"],
        ["parameters (k)", "counted1.50"],
        ["peak memory (MB)", NONE, "2"],
    ]


def test_each_scenario_has_its_rows_under_its_name() -> None:
    names = ("decode_ms@chat", "decode_ms@bulk", "params")
    table = numbers_table(
        {name: Value(2.0, None, "predicted" if "@" in name else "counted") for name in names},
        {"decode_ms@chat": Value(2.5, None, "measured")},
        objectives=[quantity(name) for name in names],
        scenarios={"chat": "chat: cpu, batch 1", "bulk": "bulk: cpu, batch 4"},
    )
    assert rows_of(table) == [
        ["quantity", "predicted", "measured"],
        ["parameters", "counted2"],
        ["chat: cpu, batch 1"],
        ["decode latency per token (ms)", "~2.00", "2.50"],
        ["bulk: cpu, batch 4"],
        ["decode latency per token (ms)", "~2", NONE],
    ]


def test_scores_from_scratch_follow_that_of_the_search() -> None:
    table = numbers_table(
        {"params": Value(3.0), "bits_per_byte": Value(2.5, 0.1, "supernet")},
        {},
        objectives=[quantity("bits_per_byte"), quantity("params")],
        scenarios={"": "cpu"},
        trained={300: Value(2.2, 0.1, "scratch"), 100: Value(2.4, 0.1, "scratch")},
    )
    assert [row[0] for row in rows_of(table)[1:]] == [
        "bits per byte",
        "bits per byte, trained from scratch for 100 steps",
        "bits per byte, trained from scratch for 300 steps",
        "parameters",
    ]
    assert rows_of(table)[1][1] == "supernet2.50± 0.10"


def test_rough_numbers_keep_their_mark() -> None:
    table = numbers_table(
        {"decode_ms": Value(1.25, None, "predicted, rough")},
        {"decode_ms": Value(1.5, None, "measured, rough")},
        objectives=[quantity("decode_ms")],
        scenarios={"": "cpu"},
    )
    assert rows_of(table)[1][1:] == ["~1.25 ?", "1.50 ?"]


def test_names_stay_text() -> None:
    table = numbers_table(
        {HOSTILE: Value(1.0, None, HOSTILE)}, {}, objectives=[quantity(HOSTILE)], scenarios={"": HOSTILE}
    )
    assert "img" not in [name for name, _ in Reader(table).elements]
