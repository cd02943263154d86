"""The plane of two quantities, for random trials."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.facts import FrontFacts, Point, front_facts
from dashboards.facts.quantities import Quantity
from nas.study.trial import Trial, Value
from tests.dashboards.random_records import made_trial, trials

X, Y = Quantity("decode_ms", "ms"), Quantity("bits_per_byte", "bits per byte", scored=True)
MORE = Quantity("decode_ms", "ms", maximise=True)


def plane(trials: Sequence[Trial], x: Quantity = X, y: Quantity = Y, **options: object) -> FrontFacts:
    return front_facts(trials, x, y, describe=lambda trial: f"line {trial.number}", **options)  # type: ignore[arg-type]


def numbers(points: Sequence[Point]) -> list[int]:
    return [point.number for point in points]


def costs(facts: FrontFacts, x: float, y: float) -> tuple[float, float]:
    """Coordinates in the direction where less is better."""
    return (-x if facts.x.maximise else x), (-y if facts.y.maximise else y)


@pytest.mark.parametrize("x", [X, MORE], ids=["minimised", "maximised"])
@given(found=trials())
def test_every_trial_is_in_exactly_one_group(x: Quantity, found: list[Trial]) -> None:
    members = {trial.number for trial in found[::3]}
    facts = plane(found, x, members=members)
    groups = [*numbers(facts.front), *numbers(facts.other_members), *facts.dominated.numbers]
    assert sorted(groups) == [trial.number for trial in found]
    assert set(numbers(facts.other_members)) <= members
    assert not set(facts.dominated.numbers) & members


@pytest.mark.parametrize("x", [X, MORE], ids=["minimised", "maximised"])
@given(found=trials(min_size=1))
def test_a_staircase_descends(x: Quantity, found: list[Trial]) -> None:
    facts = plane(found, x)
    line = [costs(facts, point.x.value, point.y.value) for point in facts.front]
    assert line
    for (x0, y0), (x1, y1) in pairwise(line):
        assert x0 < x1
        assert y0 > y1


@pytest.mark.parametrize("x", [X, MORE], ids=["minimised", "maximised"])
@given(found=trials(min_size=1))
def test_all_else_is_dominated_by_the_staircase(x: Quantity, found: list[Trial]) -> None:
    facts = plane(found, x)
    line = [costs(facts, point.x.value, point.y.value) for point in facts.front]
    for pair in zip(facts.dominated.x, facts.dominated.y, strict=True):
        cost = costs(facts, *pair)
        assert any(a <= cost[0] and b <= cost[1] for a, b in line)


@given(found=trials())
def test_the_order_of_trials_does_not_move_the_staircase(found: list[Trial]) -> None:
    forwards, backwards = plane(found), plane(found[::-1])
    assert [(p.x.value, p.y.value) for p in forwards.front] == [
        (p.x.value, p.y.value) for p in backwards.front
    ]


@given(found=trials())
def test_exchanged_axes_reverse_the_staircase_and_keep_its_ties(found: list[Trial]) -> None:
    facts, exchanged = plane(found), plane(found, Y, X)
    assert numbers(facts.front) == numbers(exchanged.front)[::-1]
    assert {p.number: p.tied for p in facts.front} == {p.number: p.tied for p in exchanged.front}
    assert facts.ties == exchanged.ties


@given(found=trials())
def test_the_worst_quality_of_a_staircase_is_never_tied(found: list[Trial]) -> None:
    facts = plane(found)
    assert facts.ties <= max(0, len(facts.front) - 1)
    if facts.front:
        assert not facts.front[0].tied


@given(found=trials(), chosen=st.sets(st.integers(0, 8)))
def test_finalists_are_marked_wherever_they_are(found: list[Trial], chosen: set[int]) -> None:
    digests = {trial.digest for trial in found if trial.number in chosen}
    facts = plane(found, finalists=digests, members={trial.number for trial in found})
    for point in (*facts.front, *facts.other_members):
        assert point.finalist is (point.digest in digests)


@given(found=trials())
def test_points_carry_the_values_of_objectives(found: list[Trial]) -> None:
    facts = plane(found, objectives=[Y, Quantity("absent")])
    by_number = {trial.number: trial for trial in found}
    for point in facts.front:
        assert point.values == {"bits_per_byte": by_number[point.number].values["bits_per_byte"]}
        assert point.one_line == f"line {point.number}"


@given(found=trials(max_size=6))
def test_trials_without_one_of_the_quantities_are_not_shown(found: list[Trial]) -> None:
    incomplete = [made_trial(100 + i, {"decode_ms": Value(0.1)}) for i in range(3)]
    assert plane([*found, *incomplete]) == plane(found)


def test_no_trials_are_an_empty_plane() -> None:
    facts = plane([])
    assert (facts.front, facts.other_members, facts.dominated.numbers, facts.ties) == ((), (), (), 0)
