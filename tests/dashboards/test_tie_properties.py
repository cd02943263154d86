"""Significance of differences, for random values."""

from __future__ import annotations

import math
from typing import TypeAlias

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.study.significance import SIGNIFICANT, standardised_difference, tied
from nas.study.trial import Value
from tests.dashboards.random_records import OFFSETS, QUALITIES, quality

Offsets: TypeAlias = tuple[float, ...]
SCORES = st.floats(0.5, 5.0)
ERRORS = st.floats(0.001, 1.0)


@given(QUALITIES, QUALITIES)
def test_a_difference_has_no_direction(first: Value, second: Value) -> None:
    assert standardised_difference(first, second) == standardised_difference(second, first)
    assert tied(first, second) is tied(second, first)


@given(QUALITIES)
def test_a_value_is_tied_with_itself(value: Value) -> None:
    assert standardised_difference(value, value) == 0.0
    assert tied(value, value)


@given(SCORES, ERRORS, SCORES, ERRORS)
def test_without_samples_errors_count_as_independent(a: float, da: float, b: float, db: float) -> None:
    found = standardised_difference(Value(a, da), Value(b, db))
    assert found == pytest.approx(abs(a - b) / math.hypot(da, db))
    assert tied(Value(a, da), Value(b, db)) is (found is not None and found < SIGNIFICANT)


@given(SCORES, SCORES, ERRORS, st.floats(1.5, 10.0))
def test_larger_errors_make_a_difference_less_significant(a: float, b: float, da: float, by: float) -> None:
    assume(abs(a - b) > 1e-6)
    narrow = standardised_difference(Value(a, da), Value(b, da))
    wide = standardised_difference(Value(a, by * da), Value(b, by * da))
    assert narrow is not None
    assert wide is not None
    assert wide < narrow


@given(SCORES, OFFSETS, OFFSETS, st.floats(-2.0, 2.0))
def test_what_windows_have_in_common_cancels(mean: float, a: Offsets, b: Offsets, by: float) -> None:
    """A harder text moves all scores alike, and the difference stays what it is."""
    spread = [second - first for first, second in zip(a, b, strict=True)]
    assume(max(spread) - min(spread) > 1e-3)
    here = standardised_difference(quality(mean, a), quality(mean, b))
    moved = standardised_difference(quality(mean + by, a), quality(mean + by, b))
    assert here is not None
    assert moved == pytest.approx(here, rel=1e-6, abs=1e-6)


@given(OFFSETS, st.floats(0.01, 1.0))
def test_the_same_step_at_every_window_is_significant(offsets: Offsets, step: float) -> None:
    assert not tied(quality(2.0, offsets), quality(2.0 + step, offsets))


@given(SCORES, SCORES, st.one_of(st.none(), ERRORS))
def test_without_an_error_nothing_is_tied(a: float, b: float, error: float | None) -> None:
    assert standardised_difference(Value(a), Value(b, error)) is None
    assert not tied(Value(a, error), Value(b))
