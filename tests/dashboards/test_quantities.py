from __future__ import annotations

import pytest

from dashboards.facts.networks import quantity
from foundation.text import count, duration, listed, significant, with_error
from nas.study.trial import Value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("weight_bytes", Value(43_512.0), "43.5 kB"),
        ("weight_bytes", Value(980.0), "980 B"),
        ("params", Value(1_234_567.0), "1.23 M"),
        ("params", Value(0.0), "0"),
        ("prefill_flops", Value(1.5e9), "1.50 GFLOP"),
        ("decode_ms", Value(0.2804, 0.0168), "0.280 ± 0.017 ms"),
        ("bits_per_byte", Value(2.22937, 0.0339), "2.229 ± 0.034"),
        ("bits_per_byte", Value(2.22937), "2.229"),
        ("my_own", Value(12.3456), "12.3"),
    ],
)
def test_values_are_written_for_people(name: str, value: Value, expected: str) -> None:
    assert quantity(name).of(value) == expected


def test_an_axis_gets_a_unit_that_fits_its_largest_value() -> None:
    assert quantity("weight_bytes").scale([10.0, 2e6]) == (1e6, "MB")
    assert quantity("weight_bytes").title("MB") == "weights (MB)"
    assert quantity("bits_per_byte").scale([2.0]) == (1.0, "")
    assert quantity("weight_bytes").scale([]) == (1.0, "B")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (12345.6, "12,346"), (0.00123, "0.00123"), (1e-9, "1.00e-09"), (float("inf"), "inf")],
)
def test_three_digits(value: float, expected: str) -> None:
    assert significant(value) == expected


def test_an_error_that_says_nothing_is_left_out() -> None:
    assert with_error(1.23456, 0.0) == "1.235"
    assert with_error(1.23456, float("nan")) == "1.235"


def test_small_words() -> None:
    assert count(1, "network") == "1 network"
    assert count(1200, "network") == "1,200 networks"
    assert [duration(s) for s in (5, 300, 7200)] == ["5 s", "5 min", "2.0 h"]
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_an_axis_names_its_scenario_before_the_unit() -> None:
    assert quantity("decode_ms@chat").title("ms") == "decode latency per token, chat (ms)"
    assert quantity("decode_ms@chat").best(Value(1.5, None, "predicted")) == (
        "the fastest decodes a token in ~1.50 ms (chat)"
    )
