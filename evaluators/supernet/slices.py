"""Where the networks of a space cut an axis: what was trained as a slice must stay one when it is sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from evaluators.supernet.parameter_groups import ParameterGroup
from search_spaces.blocks.base import Block
from search_spaces.network.cost import parameter_shapes
from search_spaces.parameter_axes import Layout

Sizes: TypeAlias = Mapping[str, int]


def slice_edges(
    group: ParameterGroup, letter: str, variants: Sequence[tuple[Block, int]], *, only_sizes: bool = False
) -> set[int] | None:
    """Where the networks of these variants cut a letter, as numbers of entries; None where it must not move.

    Groups of another size than in the shared weights take heads together that sit in several of its groups,
    so their edges count as well, but for `only_sizes`.
    """
    full = group.sizes
    words = (word for axes in group.layout.axes.values() for word in axes.split())
    pair = next((word for word in words if len(word) == 2 and letter in word), "")
    if any(needed not in full for needed in pair or letter):
        return None
    edges = {full[letter]}
    for block, d_model in variants:
        sizes = _variant_sizes(group.layout, block, d_model)
        if letter not in sizes:
            continue
        own = {sizes[letter]}
        if pair:
            of_pair = _edges_in_pair(pair, letter, sizes, full[pair[1]], only_sizes=only_sizes)
            if of_pair is None:
                return None
            own = of_pair
        edges |= own
    return edges


def _edges_in_pair(pair: str, letter: str, sizes: Sizes, unit: int, *, only_sizes: bool) -> set[int] | None:
    """The edges of one network in the letters of groups and of heads within a group of `unit` heads."""
    groups, heads = sizes[pair[0]], sizes[pair[1]]
    if letter == pair[1]:
        return None if heads % unit and not only_sizes else {heads % unit} - {0}
    edges = {groups, *_between(groups * heads, unit)}
    if heads != unit and not only_sizes:
        edges |= {edge for i in range(groups) for edge in _between(i * heads, unit)}
    return edges


def _between(heads: int, unit: int) -> set[int]:
    """The groups that an edge after so many heads touches."""
    return {heads // unit, -(-heads // unit)}


@lru_cache(maxsize=65536)
def _sizes_of(axes: tuple[tuple[str, str], ...], block: Block, d_model: int) -> dict[str, int]:
    return Layout(dict(axes), "").sizes(parameter_shapes(block, d_model))


def _variant_sizes(layout: Layout, block: Block, d_model: int) -> Sizes:
    return _sizes_of(tuple(layout.axes.items()), block, d_model)
