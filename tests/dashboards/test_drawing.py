"""Thinned curves, staircases, and axes of a plane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.facts import FrontFacts, Point
from dashboards.facts.quantities import Quantity
from dashboards.figures.drawing import CURVE_POINTS, error_bars, thinned
from dashboards.figures.front import stairs
from dashboards.figures.plane import plane_of
from nas.study.trial import Value

COORDINATES = st.tuples(st.floats(0.1, 9), st.floats(0.1, 9))


@given(st.integers(0, 20 * CURVE_POINTS))
def test_a_thinned_curve_keeps_both_ends(length: int) -> None:
    shown = thinned(length)
    assert len(shown) <= CURVE_POINTS + 2
    assert shown == sorted(set(shown))
    if length:
        assert (shown[0], shown[-1]) == (0, length - 1)
    else:
        assert shown == []


@given(st.lists(COORDINATES, min_size=1, max_size=12))
def test_a_staircase_separates_what_is_dominated(points: list[tuple[float, float]]) -> None:
    line = stairs(points, (10.0, 10.0))
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    for x, y in points:
        assert any(corner_x <= x and corner_y <= y for corner_x, corner_y in line)
    for corner_x, corner_y in line:
        assert not any(x < corner_x and y < corner_y for x, y in points)


def test_error_bars_of_exact_values_are_zero() -> None:
    assert error_bars([Value(1.0), Value(2.0, 0.5)])["array"] == [0.0, 0.5]


def point(x: float, y: float) -> Point:
    return Point(digest="d", number=0, one_line="", x=Value(x, 1.0), y=Value(y))


def plane(*points: Point, maximise: bool = False) -> FrontFacts:
    x = Quantity("weight_bytes", "bytes", maximise=maximise)
    return FrontFacts(x=x, y=Quantity("bits_per_byte", "bits per byte", scored=True), front=points)


def test_axes_scale_to_a_readable_unit() -> None:
    axes = plane_of([plane(point(2000, 2.0), point(9000, 1.0))])
    assert (axes.x.unit, axes.x.factor, axes.y.unit) == ("kB", 1000.0, "")
    assert axes.scaled([point(2000, 2.0)]) == {"x": [2.0], "y": [2.0]}
    assert axes.errors(point(2000, 2.0)) == (0.001, 0.0)
    assert (axes.x.worst, axes.y.worst) == (9.0, 2.0)


def test_axes_have_room_for_all_fronts() -> None:
    axes = plane_of([plane(point(2000, 2.0)), plane(point(5000, 3.0))])
    assert (axes.x.worst, axes.y.worst) == (5.0, 3.0)


def test_a_maximised_quantity_becomes_a_cost() -> None:
    axes = plane_of([plane(point(2000, 2.0), point(9000, 3.0), maximise=True)])
    assert axes.as_costs(point(2000, 2.0)) == (-2.0, 2.0)
    assert axes.x.worst == -2.0


@pytest.mark.parametrize(("largest", "kind"), [(29.0, "linear"), (31.0, "log")])
def test_a_range_of_a_factor_of_thirty_is_logarithmic(largest: float, kind: str) -> None:
    assert plane_of([plane(point(1.0, 1.0), point(largest, 1.0))]).x.layout["type"] == kind
