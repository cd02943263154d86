"""The gain over random choice: one reference point, equal counts, an interval around the ratio."""

from __future__ import annotations

import math
from random import Random

import pytest

from nas.pareto import hypervolume, reference_point
from nas.validation.errors import NothingToCompare
from nas.validation.gain import gain, scaled


def cloud(count: int, *, seed: int, shift: float = 0.0) -> list[tuple[float, float]]:
    dice = Random(seed)
    return [(dice.random() - shift, dice.random()) for _ in range(count)]


def test_the_ratio_is_that_of_two_hypervolumes_on_one_reference_point() -> None:
    found, random = cloud(20, seed=1, shift=0.3), cloud(20, seed=2)
    reference = reference_point([*found, *random])
    one = gain(found, random)
    assert one.ratio == pytest.approx(hypervolume(found, reference) / hypervolume(random, reference))
    assert one.interval[0] < one.ratio < one.interval[1]
    assert (one.candidates, one.against, one.available) == (20, 20, 20)
    assert "20 candidates against 20" in str(one)


def test_chance_gains_nothing_over_chance_and_a_better_search_does() -> None:
    low, high = gain(cloud(60, seed=3), cloud(60, seed=4)).interval
    assert low < 1 < high
    assert gain(cloud(60, seed=3, shift=0.5), cloud(60, seed=4)).interval[0] > 1


def test_a_few_finds_stand_against_as_few_random_ones_or_against_all() -> None:
    found, random = cloud(5, seed=5), cloud(200, seed=6)
    few, all_of_them = gain(found, random), gain(found, random, against=200)
    assert (few.candidates, few.against, few.available) == (5, 5, 200)
    assert all_of_them.against == 200
    assert all_of_them.ratio < few.ratio
    assert gain(random, found).candidates == 5
    assert few.interval is None
    assert "(too few candidates for an interval: at least 6), 5 candidates against 5" in str(few)


def test_what_failed_was_tried_and_dominates_nothing() -> None:
    found, random = cloud(10, seed=7), cloud(10, seed=8)
    failed = gain([*found, *[None] * 10], [*random, *cloud(10, seed=9)])
    assert failed.candidates == 20
    assert failed.ratio < gain([*found, *cloud(10, seed=10)], [*random, *cloud(10, seed=9)]).ratio


def test_too_little_is_refused() -> None:
    with pytest.raises(NothingToCompare, match="at least 2 candidates of the search and as many random"):
        gain(cloud(1, seed=1), cloud(9, seed=2))
    with pytest.raises(NothingToCompare, match="could be scored, on both sides"):
        gain([None, None], cloud(2, seed=2))


def test_costs_are_taken_in_logarithms_where_they_have_any() -> None:
    points = [(1.0, 10.0, -8.0, 0.0), (2.0, 100.0, -2.0, 5.0)]
    first, second = scaled(points, [False, True, True, True])
    assert first == pytest.approx((1.0, math.log(10), -math.log(8), 0.0))
    assert second == pytest.approx((2.0, math.log(100), -math.log(2), 5.0))
    assert scaled([], [True]) == []
