"""What is said of one setting: its range and type in words, its entries, and what is wrong with a value."""

from __future__ import annotations

import math
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.descriptions import KEY, About, Described, check, kind_of, options_of, setting
from foundation.errors import SettingError


def described(annotation: Any, **about: Any) -> Described:
    return Described("size", annotation, None, About(help="How large.", **about))


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({}, ""),
        ({"least": 1}, "at least 1"),
        ({"above": 0, "most": 1}, "more than 0, at most 1"),
        ({"least": 0.5, "most": 2, "unit": "ms"}, "at least 0.5 ms, at most 2 ms"),
    ],
)
def test_a_range_in_words(about: dict[str, Any], words: str) -> None:
    assert About(help="", **about).range == words


def test_a_summary_is_the_help_with_range_and_choices() -> None:
    assert described(int).summary == "How large."
    assert described(int, least=1).summary == "How large (at least 1)."
    assert described(str, choices=("a", "b")).summary == "How large (one of a, b)."
    assert described(int, most=3, choices=(1, 2)).summary == "How large (at most 3; one of 1, 2)."


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float, "a number"),
        (bool, "true or false"),
        (str, "text"),
        (int | None, "a whole number"),
        (Optional[float], "a number"),  # noqa: UP045  # the older way to write it
        (int | str, "a whole number or text"),
        (tuple[float, ...], "a sequence, each a number"),
        (tuple[int | str, ...], "a sequence, each a whole number or text"),
        (About, "About"),
    ],
)
def test_a_type_in_words(annotation: Any, words: str) -> None:
    assert kind_of(annotation) == words


def test_the_members_of_a_union_are_its_options() -> None:
    assert list(options_of(int | None)) == [int]
    assert list(options_of(int | str | None)) == [int, str]
    assert list(options_of(tuple[int, ...])) == [tuple[int, ...]]


def test_names_and_entries() -> None:
    assert described(int).option == "size"
    assert Described("warm_up", int, 0, About(help="")).option == "warm-up"
    assert described(int, option="length").option == "length"
    assert described(tuple[int, ...]).entry is int
    assert described(tuple[str, ...] | None).entry is str
    assert described(float | None).entry is float
    assert described(float | None).optional
    assert not described(float).optional


def test_a_field_carries_its_description() -> None:
    made = setting(3, help="How many.", least=1, unit="s")
    assert made.default == 3
    assert made.metadata[KEY] == About(help="How many.", least=1, unit="s")
    fresh = setting(default_factory=list, help="All.", compare=False)
    assert fresh.default_factory is list
    assert not fresh.compare


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 3),
        (float, 3),
        (float | None, None),
        (tuple[int, ...], (1, 2)),
        (int | str, "a"),
        (Any, object()),
    ],
)
def test_values_of_the_type_pass(annotation: Any, value: Any) -> None:
    check(described(annotation), value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, None, "size must be a whole number, got None"),
        (int, True, "size must be a whole number, got True"),
        (float, "3", "size must be a number, got '3'"),
        (tuple[int, ...], [1], r"size must be a sequence, each a whole number, got \[1\]"),
        (tuple[int, ...], (1, "a"), r"size must be a sequence, each a whole number, got \(1, 'a'\)"),
        (float, math.inf, "size must be finite, got inf"),
    ],
)
def test_values_of_another_type_are_refused(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check(described(annotation), value)


@pytest.mark.parametrize(
    ("about", "value", "message"),
    [
        ({"above": 0}, 0.0, "size must be positive, got 0.0"),
        ({"above": 0, "unit": "s"}, -1.0, "size must be positive, got -1.0"),
        ({"above": 2, "unit": "s"}, 2.0, "size must be more than 2 s, got 2.0"),
        ({"least": 1, "unit": "ms"}, 0.0, "size must be at least 1 ms, got 0.0"),
        ({"most": 1}, 1.5, "size must be at most 1, got 1.5"),
        ({"choices": (1.0, 2.0)}, 3.0, "size must be one of 1.0, 2.0, got 3.0"),
    ],
)
def test_a_bound_is_named_with_its_unit(about: dict[str, Any], value: float, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check(described(float, **about), value)


@given(least=st.integers(-9, 9), most=st.integers(-9, 9), values=st.lists(st.integers(-20, 20)).map(tuple))
def test_every_entry_of_a_sequence_keeps_the_bounds(least: int, most: int, values: tuple[int, ...]) -> None:
    sizes = described(tuple[int, ...], least=least, most=most)
    if all(least <= value <= most for value in values):
        check(sizes, values)
        return
    with pytest.raises(SettingError, match=r"size must be at (least|most)"):
        check(sizes, values)
