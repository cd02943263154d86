"""Hypervolume shares: their errors, and points in the objectives' units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.facts.hypervolume import distinct_nondominated, in_natural_units, share_errors
from dashboards.facts.quantities import Quantity

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20)


@given(POINTS)
def test_nondominated_points_are_distinct_and_dominate_the_rest(points: list[tuple[int, int]]) -> None:
    front = distinct_nondominated(points)
    assert len(front) == len(set(front))
    for x, y in points:
        assert any(fx <= x and fy <= y for fx, fy in front)
    for x, y in front:
        assert not any((px, py) != (x, y) and px <= x and py <= y for px, py in points)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=4), st.booleans(), st.booleans())
def test_natural_units_undo_logarithms_and_signs(
    values: list[float], logarithmic: bool, maximise: bool
) -> None:
    sign = -1.0 if maximise else 1.0
    costs = np.array([sign * (math.log(value) if logarithmic else value) for value in values])
    quantities = [Quantity("q", maximise=maximise)] * len(values)
    assert in_natural_units(costs, [logarithmic] * len(values), quantities) == pytest.approx(tuple(values))


def test_more_windows_mean_a_smaller_error() -> None:
    dice = np.random.default_rng(3)
    fronts = [[(1.0, 2.0)], [(2.0, 1.0)]]
    reference = np.array([3.0, 3.0])
    errors = []
    for windows in (16, 1024):
        samples = [[tuple(y + dice.normal(0, 0.3, windows))] for ((_, y),) in fronts]
        (first, second) = share_errors(fronts, samples, 1, reference)
        assert first is not None
        assert second is not None
        errors.append(first + second)
    assert errors[1] < errors[0] / 3
