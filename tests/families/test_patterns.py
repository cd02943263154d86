"""Patterns of axes and rules of tensors, in both directions."""

from __future__ import annotations

import pytest
import torch

from search_spaces.families.patterns import Pattern
from search_spaces.families.tensors import Each, InTurns, Joined, One, Rule


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("H K D -> (H K) D", (2, 3, 5), (6, 5)),
        ("H K D -> D (K H)", (2, 3, 5), (5, 6)),
        ("H K 1 -> (H K)", (2, 3, 1), (6,)),
        ("C N -> C 1 N", (4, 3), (4, 1, 3)),
        ("H (2 P) D -> (H P 2) D", (2, 6, 5), (12, 5)),
    ],
)
def test_a_pattern_goes_there_and_back(text: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    x = torch.arange(torch.Size(ours).numel()).reshape(ours)
    there = Pattern(text).theirs(x)
    assert there.shape == theirs
    assert torch.equal(Pattern(text).ours(there, ours), x)


def test_halves_of_a_head_are_interleaved() -> None:
    turned = Pattern("H (2 P) -> (H P 2)").theirs(torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]))
    assert turned.tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("text", ["H K -> H", "H K D -> (H K)", "H H -> H H"])
def test_both_sides_name_the_same_axes(text: str) -> None:
    with pytest.raises(ValueError, match="the same axes"):
        Pattern(text)


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        (One("a", "x"), {"x": (4, 3)}),
        (One("a", "x", plus=1.0), {"x": (4, 3)}),
        (Joined(("a", "b"), "x", "F D -> F D"), {"x": (6, 3)}),
        (Joined(("a", "b"), "x", "F D -> D F", axis=1, then="D F -> F D"), {"x": (6, 3)}),
        (Joined(("a", "a2"), "x", "F D -> D F 1", axis=2, then="D F 2 -> D (F 2)"), {"x": (3, 8)}),
        (InTurns(("a", "b"), "x", ("F D -> F D",) * 2, ("b", 0)), {"x": (6, 3)}),
        (Each("a", "x.{}", "D -> D"), {f"x.{i}": (3,) for i in range(4)}),
        (Each("b", ("q", "k")), {"q": (3,), "k": (3,)}),
        (Each("b", ("q", "k"), "k -> 1 k", flip=True), {"q": (1, 3), "k": (1, 3)}),
    ],
)
def test_a_rule_goes_there_and_back(rule: Rule, theirs: dict[str, tuple[int, ...]]) -> None:
    ours = {"a": torch.randn(4, 3), "a2": torch.randn(4, 3), "b": torch.randn(2, 3)}
    there = rule.theirs(ours)
    assert {name: tuple(value.shape) for name, value in there.items()} == theirs
    back = dict(rule.ours(there, {name: value.shape for name, value in ours.items()}))
    assert set(back) == set(rule.parameters)
    for name, value in back.items():
        torch.testing.assert_close(value, ours[name])


def test_a_constant_is_added_to_theirs() -> None:
    rule = One("a", "x", plus=1.0)
    ((_, value),) = rule.ours({"x": torch.tensor([3.0])}, {"a": (1,)})
    assert value.item() == 4


def test_what_stands_in_turns_changes_after_each_group() -> None:
    ours = {"a": torch.arange(4), "b": torch.tensor([10, 11])}
    rule = InTurns(("a", "b"), "x", ("F -> F", "G -> G"), ("b", 0))
    assert rule.theirs(ours)["x"].tolist() == [0, 1, 10, 2, 3, 11]
