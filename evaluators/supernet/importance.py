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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor

from evaluators.supernet.parameter_groups import ParameterGroup, group_of, legal, residual_groups
from evaluators.supernet.slices import slice_edges
from search_spaces.network.shell import EMBEDDING
from search_spaces.parameter_axes import WIDTH
from search_spaces.supernet import Inventory, Supernet, inventory

Moments: TypeAlias = Callable[[str], Sequence[Tensor]]
"""Tensors that belong to the parameter of a key, and must move with it."""

Effects: TypeAlias = Callable[[str], "Tensor | None"]
"""The expected effect of every weight of the parameter of a key, in its shape; None where it has none yet."""


@dataclass(frozen=True)
class Sorted:
    """What became of one axis: `moved` entries changed places, or the `reason` why nothing was done."""

    path: str
    letter: str
    moved: int
    reason: str = ""


def sort_by_importance(
    supernet: Supernet,
    trained: Any,
    opened: Any,
    *,
    moments: Moments = lambda key: (),
    effects: Effects | None = None,
) -> list[Sorted]:
    """Sort what `opened` cuts and `trained` did not, two open decoders of the supernet's space.

    Without `effects`, importance is the L1 norm of the weights.

    Raises:
        SpaceError: one of them is no decoder.
    """
    before, after = inventory(trained), inventory(opened)
    moves = []
    for (place, kind), blocks in before.variants.items():
        old = legal(blocks)
        new = legal(after.variants.get((place, kind), {}))
        group = group_of(supernet, f"{place}:{kind}", [block for block, _ in old])
        if group is None:
            moves.append(Sorted(f"{place}:{kind}", "", 0, f"{kind} declares no layout"))
            continue
        for letter in group.symmetric.replace(WIDTH, ""):
            edges, cuts = slice_edges(group, letter, old), slice_edges(group, letter, new, only_sizes=True)
            if edges is not None and cuts is not None and not cuts <= edges:
                moves.append(_sort(group, letter, edges, moments, effects))
    if not after.widths <= before.widths:
        moves.append(_sort_width(supernet, before, moments, effects))
    return moves


def _sort(
    group: ParameterGroup, letter: str, edges: set[int], moments: Moments, effects: Effects | None
) -> Sorted:
    """Sort one letter of one block within the slices that end at `edges`."""
    order = _order(_importance(group, letter, effects), edges)
    _move(group, letter, order, moments)
    unmoved = torch.arange(order.shape[-1], device=order.device)
    return Sorted(group.path, letter, int((order != unmoved).sum()))


def _importance(group: ParameterGroup, letter: str, effects: Effects | None) -> Tensor:
    """How important each entry of a letter is: [n], or [m, n] for a letter within another one."""
    if effects is None:
        return _norms(group, letter)
    totals = []
    for name in group.names_with(letter):
        effect = effects(f"{group.prefix}{name}")
        values = torch.zeros_like(group.weights[name]) if effect is None else effect
        totals.append(group.layout.sums(name, values, letter, group.sizes).double())
    return torch.stack(totals).sum(0)


def _norms(group: ParameterGroup, letter: str) -> Tensor:
    """The L1 norm of each entry's weights.

    Weights from and to the residual stream count where there are any, otherwise all. Each parameter counts
    by its mean, so that none outweighs the others by its scale.
    """
    names, sizes = group.names_with(letter), group.sizes
    facing = [name for name in names if letter == WIDTH or WIDTH in group.layout.axes[name]]
    shares = []
    for name in facing or names:
        norm = group.layout.sums(name, group.weights[name].abs().double(), letter, sizes)
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


def _move(group: ParameterGroup, letter: str, order: Tensor, moments: Moments) -> None:
    sizes = group.sizes
    for name in group.names_with(letter):
        for values in (group.weights[name], *moments(f"{group.prefix}{name}")):
            values.copy_(group.layout.reorder(name, values, letter, order, sizes))


def _sort_width(supernet: Supernet, before: Inventory, moments: Moments, effects: Effects | None) -> Sorted:
    """Sort d_model, in which all parts of the networks share one order."""
    groups = list(residual_groups(supernet))
    for group in groups:
        if WIDTH not in group.symmetric:
            return Sorted("d_model", WIDTH, 0, f"in {group.path} channels have an order, or no layout")
    widest = supernet.weights[EMBEDDING].shape[-1]
    edges = {*before.widths, widest, *(group.sizes.get(WIDTH, widest) for group in groups)}
    total = torch.zeros(widest, dtype=torch.float64, device=supernet.device)
    for group in groups:
        share = _importance(group, WIDTH, effects)
        total[: len(share)] += share
    order = _order(total, edges)
    for group in groups:
        _move(group, WIDTH, order[: group.sizes[WIDTH]], moments)
    return Sorted("d_model", WIDTH, int((order != torch.arange(widest, device=order.device)).sum()))
