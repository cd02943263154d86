"""Importance sorting: what a smaller network keeps should be the important part (Cai et al. 2020,
arXiv:1908.09791, section 3.3).

A subnet reads the leading slice of every axis. Before sizes are opened, channels, heads and experts are put
in order of importance, the largest first. Only axes without an order of their own are touched
(`search_spaces.parameter_axes`), all parameters of an axis move together, and so do the optimizer's moments.

Importance is the `effect` on the loss that leaving something out is expected to have: the sum of w^2 E[g^2]
over its weights w with gradients g, the diagonal of the Fisher information (Theis et al. 2018,
arXiv:1801.05787); Adam keeps E[g^2] anyway. The `norm` of the weights, which the paper takes, orders channels
worse than chance does in networks that Adam has trained for a short time.

No network that was trained so far changes what it computes: where slices have been trained already, entries
stay within the slices they belong to. So the largest network is untouched always, and every subnet of the
phases before is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import OPTIONS
from search_spaces.network.norms.base import all_vectors, norm_axes
from search_spaces.network.shell import EMBEDDING, Shell
from search_spaces.network.sublayers import cannot_build
from search_spaces.parameter_axes import WIDTH, Layout
from search_spaces.supernet import Inventory, Supernet, inventory

Moments: TypeAlias = Callable[[str], Sequence[Tensor]]
"""Tensors that belong to the parameter of a key, and must move with it."""

Effects: TypeAlias = Callable[[str], "Tensor | None"]
"""The expected effect of every weight of the parameter of a key, in its shape; None where it has none yet."""

Sizes: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Sorted:
    """What became of one axis: `moved` of its entries changed places, or `why` nothing was done."""

    where: str
    letter: str
    moved: int
    why: str = ""


@dataclass(frozen=True)
class Part:
    """The parameters of one block at one place (or of what stands beside the blocks), with their layout.

    `symmetric` are the letters that have no order in any of its networks; `weights` are the shared ones.
    """

    where: str
    prefix: str
    layout: Layout
    symmetric: str
    weights: Mapping[str, Tensor]

    @property
    def sizes(self) -> dict[str, int]:
        """The entries of each letter in the shared weights."""
        return self.layout.sizes({name: tuple(w.shape) for name, w in self.weights.items()})

    def carriers(self, letter: str) -> list[str]:
        """The parameters here that have a letter."""
        return [name for name in self.layout.parameters_with(letter) if name in self.weights]


def sort_by_importance(
    supernet: Supernet,
    trained: Any,
    coming: Any,
    *,
    moments: Moments = lambda key: (),
    effects: Effects | None = None,
) -> list[Sorted]:
    """Sort what `coming` cuts and `trained` did not, two open decoders of the supernet's space.

    Without `effects`, importance is the L1 norm of the weights.

    Raises:
        SpaceError: one of them is no decoder.
    """
    before, after = inventory(trained), inventory(coming)
    found = []
    for (place, kind), blocks in before.variants.items():
        old = _legal(blocks)
        new = _legal(after.variants.get((place, kind), {}))
        part = _part(supernet, f"{place}:{kind}", [block for block, _ in old])
        if part is None:
            found.append(Sorted(f"{place}:{kind}", "", 0, f"{kind} declares no layout"))
            continue
        for letter in part.symmetric.replace(WIDTH, ""):
            edges, cuts = _edges(part, letter, old), _edges(part, letter, new, only_sizes=True)
            if edges is not None and cuts is not None and not cuts <= edges:
                found.append(_sort(part, letter, edges, moments, effects))
    if not after.widths <= before.widths:
        found.append(_sort_width(supernet, before, moments, effects))
    return found


def _legal(variants: Mapping[tuple[Block, int], None]) -> list[tuple[Block, int]]:
    return [variant for variant in variants if not cannot_build(*variant)]


def _part(supernet: Supernet, where: str, blocks: Sequence[Block]) -> Part | None:
    """The weights of one kind of block at one place."""
    prefix = f"{where}.mixer."
    layouts = [block.layout() for block in dict.fromkeys(blocks)]
    known = [layout for layout in layouts if layout is not None]
    if not known:
        return None
    free = [letter for letter in known[0].sortable if all(letter in one.sortable for one in known)]
    return Part(where, prefix, known[0], "".join(free), _weights(supernet, prefix))


def _weights(supernet: Supernet, prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): weight.detach()
        for key, weight in supernet.weights.items()
        if key.startswith(prefix)
    }


def _edges(part: Part, letter: str, variants: Sequence[tuple[Block, int]], only_sizes: bool = False) -> Any:
    """Where the networks of these variants cut a letter, as numbers of entries; None where it must not move.

    Groups of another size than in the shared weights take heads together that sit in several of its groups,
    so their edges count as well, but for `only_sizes`.
    """
    full, layout = part.sizes, part.layout
    pair = next((w for text in layout.axes.values() for w in text.split() if len(w) == 2 and letter in w), "")
    if any(needed not in full for needed in pair or letter):
        return None
    edges: set[int] = set()
    for block, d_model in variants:
        sizes = _variant_sizes(layout, block, d_model)
        if letter not in sizes:
            continue
        if not pair:
            edges.add(sizes[letter])
            continue
        groups, heads, unit = sizes[pair[0]], sizes[pair[1]], full[pair[1]]
        if letter == pair[1]:
            if heads % unit and not only_sizes:
                return None
            edges |= {heads % unit} - {0}
            continue
        edges |= {groups, *_between(groups * heads, unit)}
        if heads != unit and not only_sizes:
            edges |= {edge for i in range(groups) for edge in _between(i * heads, unit)}
    return edges | {full[letter]}


def _between(heads: int, unit: int) -> set[int]:
    """The groups that an edge after so many heads touches."""
    return {heads // unit, -(-heads // unit)}


@lru_cache(maxsize=65536)
def _sizes_of(axes: tuple[tuple[str, str], ...], block: Block, d_model: int) -> dict[str, int]:
    return Layout(dict(axes), "").sizes(parameter_shapes(block, d_model))


def _variant_sizes(layout: Layout, block: Block, d_model: int) -> Sizes:
    return _sizes_of(tuple(layout.axes.items()), block, d_model)


def _sort(part: Part, letter: str, edges: set[int], moments: Moments, effects: Effects | None) -> Sorted:
    """Sort one letter of one block within the slices that end at `edges`."""
    order = _order(_importance(part, letter, effects), edges)
    _move(part, letter, order, moments)
    still = torch.arange(order.shape[-1], device=order.device)
    return Sorted(part.where, letter, int((order != still).sum()))


def _importance(part: Part, letter: str, effects: Effects | None) -> Tensor:
    """How important each entry of a letter is: [n], or [m, n] for a letter within another one."""
    names, sizes = part.carriers(letter), part.sizes
    if effects is None:
        return _norms(part, letter)
    found = [(name, effects(f"{part.prefix}{name}")) for name in names]
    totals = [
        part.layout.sums(name, torch.zeros_like(part.weights[name]) if own is None else own, letter, sizes)
        for name, own in found
    ]
    return torch.stack([total.double() for total in totals]).sum(0)


def _norms(part: Part, letter: str) -> Tensor:
    """The L1 norm of each entry's weights.

    Weights from and to the residual stream count where there are any, otherwise all. Each parameter counts
    by its mean, so that none outweighs the others by its scale.
    """
    names, sizes = part.carriers(letter), part.sizes
    facing = [name for name in names if letter == WIDTH or WIDTH in part.layout.axes[name]]
    shares = []
    for name in facing or names:
        norm = part.layout.sums(name, part.weights[name].abs().double(), letter, sizes)
        shares.append(norm / norm.mean().clamp_min(torch.finfo(norm.dtype).tiny))
    return torch.stack(shares).sum(0)


def _order(importance: Tensor, edges: set[int]) -> Tensor:
    """Indices [n] or [m, n] by falling importance, inside each slice between two edges."""
    count = importance.shape[-1]
    cuts = sorted({0, count} | {edge for edge in edges if 0 < edge < count})
    parts = [
        low + importance[..., low:high].argsort(stable=True, dim=-1, descending=True)
        for low, high in pairwise(cuts)
    ]
    return torch.cat(parts, -1)


def _move(part: Part, letter: str, order: Tensor, moments: Moments) -> None:
    sizes = part.sizes
    for name in part.carriers(letter):
        for values in (part.weights[name], *moments(f"{part.prefix}{name}")):
            values.copy_(part.layout.reorder(name, values, letter, order, sizes))


def _sort_width(supernet: Supernet, before: Inventory, moments: Moments, effects: Effects | None) -> Sorted:
    """Sort d_model, in which all parts of the networks share one order."""
    parts = list(_width_parts(supernet))
    for part in parts:
        if WIDTH not in part.symmetric:
            return Sorted("d_model", WIDTH, 0, f"in {part.where} channels have an order, or no layout")
    widest = supernet.weights[EMBEDDING].shape[-1]
    edges = {*before.widths, widest, *(part.sizes.get(WIDTH, widest) for part in parts)}
    total = torch.zeros(widest, dtype=torch.float64, device=supernet.device)
    for part in parts:
        share = _importance(part, WIDTH, effects)
        total[: len(share)] += share
    order = _order(total, edges)
    for part in parts:
        _move(part, WIDTH, order[: part.sizes[WIDTH]], moments)
    return Sorted("d_model", WIDTH, int((order != torch.arange(widest, device=order.device)).sum()))


def _width_parts(supernet: Supernet) -> Iterator[Part]:
    """Everything that has channels of the residual stream."""
    shell = Shell.layout()
    outer = {name: supernet.weights[name].detach() for name in shell.axes if name in supernet.weights}
    yield Part(EMBEDDING, "", shell, WIDTH, outer)
    found = inventory(supernet.space.root)
    for (place, kind), variants in found.variants.items():
        where = f"{place}:{kind}"
        vectors = {name: supernet.weights[f"{where}.{name}"].detach() for name in all_vectors(found.norms)}
        yield Part(where, f"{where}.", Layout(norm_axes(), WIDTH), WIDTH, vectors)
        part = _part(supernet, where, [block for block, _ in _legal(variants)])
        if part is None:
            yield Part(where, f"{where}.mixer.", Layout({}, ""), "", {})
        elif part.weights:
            yield part
    for path in found.options:
        layout = OPTIONS[path.rpartition(".")[2]].layout()
        weights = _weights(supernet, f"{path}.")
        if weights:
            yield Part(path, f"{path}.", layout, layout.sortable, weights)
