"""How axes lie in two forms of one tensor: `H K D -> (H K) D`.

Every word is an axis. Words in brackets are one axis that runs through their products, the last word
fastest; a number is an axis of that size. Both sides name the same axes, in any order, but for ones, which
come and go:

    H K D -> (H K) D            heads and their channels are rows of one matrix
    C N -> C 1 N                a depthwise filter
    H (2 P) D -> (H P 2) D      halves of a head are interleaved
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from torch import Tensor

Axis = tuple[str, ...]
"""The words of one axis."""

_AXIS = re.compile(r"\(([^()]+)\)|(\S+)")


@dataclass(frozen=True)
class Pattern:
    """A pattern between our form of a tensor, on the left, and theirs, on the right.

    Raises:
        ValueError: the sides name different axes.
    """

    text: str

    def __post_init__(self) -> None:
        left, right = (sorted(_words(side)) for side in self.sides)
        if left != right or len(set(left)) != len(left):
            raise ValueError(f"both sides of {self.text!r} must name the same axes, each once")

    @cached_property
    def sides(self) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """The axes of our form and of theirs."""
        left, _, right = self.text.partition("->")
        return _axes(left), _axes(right)

    def theirs(self, ours: Tensor) -> Tensor:
        """Their form of one of our tensors."""
        sizes = self._sizes(ours.shape)
        return _rearranged(ours, *self.sides, sizes)

    def ours(self, theirs: Tensor, shape: Sequence[int]) -> Tensor:
        """Our form, of this shape, of one of their tensors; a view where that is possible."""
        left, right = self.sides
        return _rearranged(theirs, right, left, self._sizes(shape))

    def _sizes(self, shape: Sequence[int]) -> dict[str, int]:
        """The size of every word, from the shape of our form."""
        sizes = {word: int(word) for side in self.sides for word in _words(side, ones=True) if word.isdigit()}
        assert len(shape) == len(self.sides[0]), f"{self.text!r} is no pattern for {list(shape)}"
        for axis, size in zip(self.sides[0], shape, strict=True):
            unknown = [word for word in axis if word not in sizes]
            assert len(unknown) < 2, f"{self.text!r} leaves the sizes of {unknown} open"
            known = prod(sizes[word] for word in axis if word in sizes)
            assert size % known == 0, f"{size} is no multiple of {known} in {self.text!r}"
            for word in unknown:
                sizes[word] = size // known
        return sizes


def _axes(side: str) -> tuple[Axis, ...]:
    return tuple(tuple((many or one).split()) for many, one in _AXIS.findall(side))


def _words(side: Sequence[Axis], ones: bool = False) -> list[str]:
    return [word for axis in side for word in axis if ones or word != "1"]


def _rearranged(x: Tensor, before: Sequence[Axis], after: Sequence[Axis], sizes: Mapping[str, int]) -> Tensor:
    """x, whose axes are `before`, with the axes `after`."""
    words = _words(before)
    apart = x.reshape([sizes[word] for word in words])
    moved = apart.permute([words.index(word) for word in _words(after)])
    return moved.reshape([prod(sizes[word] for word in axis) for axis in after])
