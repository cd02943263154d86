"""The axes of a block's parameters: which are the same dimension, and which may be sorted.

A supernet keeps the leading slice of an axis, so what is important should stand first
(`evaluators.supernet.importance`). Hidden channels, heads, experts and channels of the state may be sorted
without a change of function; what has a position may not: channels turned by rotary positions, heads on a
ladder of fixed decays, taps of a filter.

A block names the axes of every parameter by letters, in their order (`Block.layout`):

    Layout({"wq": "GH K D", "wk": "G K D", "wv": "G V D", "wo": "D GH V"}, "DGHV", within={"H": "G"})

One letter is one dimension wherever it stands, so all axes of a letter move together; `GH` is an axis of G
groups of H entries each; `.` is an axis that is never moved. The `sortable` letters have no order of their
own. A letter `within` another one is sorted separately for each entry of the other. D is d_model, the axis
that all parts of a network share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from torch import Tensor

from foundation.errors import SpaceError

FIXED = "."
WIDTH = "D"

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """The letters of every axis, by parameter (see the module's own text).

    A layout may name parameters that some variants of the block lack.

    Raises:
        SpaceError: a letter that no axis has, or a word that is no letter, pair of letters or dot.
    """

    axes: Mapping[str, str]
    sortable: str
    within: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = [word for text in self.axes.values() for word in text.split()]
        wrong = [word for word in words if word != FIXED and not (word.isalpha() and len(word) <= 2)]
        if wrong:
            raise SpaceError(f"an axis is a letter, two letters or {FIXED!r}, got {wrong[0]!r}")
        missing = {*self.sortable, *self.within, *self.within.values()} - set("".join(words))
        if missing:
            raise SpaceError(f"no axis is called {', '.join(sorted(missing))}")

    def with_order(self, letters: str) -> Layout:
        """This layout where `letters` have an order of their own and must not be sorted."""
        return replace(self, sortable="".join(letter for letter in self.sortable if letter not in letters))

    def words(self, name: str) -> tuple[str, ...]:
        """The words of a parameter's axes."""
        return tuple(self.axes[name].split())

    def sizes(self, shapes: Shapes) -> dict[str, int]:
        """How many entries each letter has in parameters of these shapes.

        A letter inside a pair counts entries of one group. A pair that does not fall into equal groups gives
        no size for its second letter; where no axis is that of the groups, there is one.

        Raises:
            SpaceError: the shapes are not those of this layout.
        """
        letters: dict[str, int] = {}
        pairs: dict[str, int] = {}
        for name, shape in shapes.items():
            words = self.words(name) if name in self.axes else ()
            if len(words) != len(shape):
                raise SpaceError(f"the layout of {name} is {' '.join(words) or 'missing'}, its shape {shape}")
            for word, size in zip(words, shape, strict=True):
                known_sizes = pairs if len(word) == 2 else letters
                if word != FIXED and known_sizes.setdefault(word, size) != size:
                    raise SpaceError(
                        f"{name}: axis {word} has {size} entries here and {known_sizes[word]} elsewhere"
                    )
        for pair, size in pairs.items():
            groups = letters.setdefault(pair[0], 1)
            if size % groups == 0:
                letters[pair[1]] = size // groups
        return letters

    def parameters_with(self, letter: str) -> list[str]:
        """The parameters that have an axis of this letter."""
        return [name for name, text in self.axes.items() if letter in text]

    def reorder(
        self, name: str, values: Tensor, letter: str, orders: Tensor, sizes: Mapping[str, int]
    ) -> Tensor:
        """`values` of the parameter `name` with the entries of `letter` in another order.

        `orders` [n] holds the index of the entry that comes to each place; for a letter within another one,
        [m, n] holds one such order for each entry of the other. Entries that no order has are left out.
        """
        split, letters = self._split(name, values, letter, sizes)
        for dim, axis in enumerate(letters):
            if axis == letter:
                split = _gather(split, dim, orders, letters, self.within.get(letter))
        sizes_after, shape = iter(split.shape), []
        for word in self.words(name):
            taken = next(sizes_after)
            shape.append(taken * next(sizes_after) if len(word) == 2 and letter in word else taken)
        return split.reshape(shape)

    def sums(self, name: str, values: Tensor, letter: str, sizes: Mapping[str, int]) -> Tensor:
        """The sum of `values` for each entry of `letter`: [n], or [m, n] for a letter within another one."""
        split, letters = self._split(name, values, letter, sizes)
        outer = self.within.get(letter)
        kept = [letters.index(outer)] if outer is not None else []
        kept.append(letters.index(letter))
        others = [dim for dim in range(split.dim()) if dim not in kept]
        summed = split.sum(others) if others else split
        return summed if kept == sorted(kept) else summed.mT

    def _split(
        self, name: str, values: Tensor, letter: str, sizes: Mapping[str, int]
    ) -> tuple[Tensor, list[str]]:
        """`values` with the pairs that have this letter as two axes, and the names of all axes."""
        shape, names = list[int](), list[str]()
        for word, size in zip(self.words(name), values.shape, strict=True):
            if len(word) == 2 and letter in word:
                shape += [sizes[word[0]], sizes[word[1]]]
                names += list(word)
            else:
                shape.append(size)
                names.append(word)
        return values.reshape(shape), names


def _gather(values: Tensor, dim: int, orders: Tensor, letters: list[str], outer: str | None) -> Tensor:
    if outer is None:
        return values.index_select(dim, orders)
    shape = [1] * values.dim()
    shape[dim], shape[letters.index(outer)] = orders.shape[1], orders.shape[0]
    index = orders if letters.index(outer) < dim else orders.mT
    taken = (*values.shape[:dim], orders.shape[1], *values.shape[dim + 1 :])
    return values.gather(dim, index.reshape(shape).expand(taken))
