"""First-order recursions over a short axis: what is carried from chunk to chunk.

    h_t = a_t h_{t-1} + b_t

A loop moves every term once, and is the fast form on a CPU. On an accelerator the number of launches
counts, and a compiler takes minutes for an unrolled loop. There neighbours are joined into one step,
(a' a, a' b + b'), until one is left, and the states between are filled in on the way back: as many steps as
the count has bits (Blelloch 1990, "Prefix sums and their applications"). With matrices for a the product is
`torch.matmul`.

Shapes: C steps of the recursion, along `dim`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from search_spaces.ops import dispatch

SCAN = "scan"
Product = Callable[[Tensor, Tensor], Tensor]


def counts_launches(x: Tensor) -> bool:
    """Whether the device of x favours few large steps over many small ones."""
    return x.is_cuda


def carry(a: Tensor, b: Tensor, start: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The state before every step, along `dim`, and the one after the last; a broadcasts over b.

    `start` is the state before the first step; it has no axis `dim`.
    """
    if counts_launches(b):
        after = _scanned(a, b, start, dim) if dispatch.runs(SCAN, a, b, start) else joined(a, b, start, dim)
        before = torch.cat((start.unsqueeze(dim), after.narrow(dim, 0, after.shape[dim] - 1)), dim=dim)
        return before, after.select(dim, -1)
    state, befores = start, []
    for fade, more in zip(a.unbind(dim), b.unbind(dim), strict=True):
        befores.append(state)
        state = torch.addcmul(more, state, fade)
    return torch.stack(befores, dim=dim), state


def _scanned(a: Tensor, b: Tensor, start: Tensor, dim: int) -> Tensor:
    """All states along `dim` by the kernel of `search_spaces.ops.scan`, all other axes being channels."""
    a, b = a.expand_as(b).movedim(dim, 1), b.movedim(dim, 1)
    states: Tensor = dispatch.load(SCAN).scan(a.flatten(2), b.flatten(2), start.flatten(1))
    return states.view(b.shape).movedim(1, dim)


def joined(a: Tensor, b: Tensor, start: Tensor, dim: int, times: Product = torch.mul) -> Tensor:
    """All states along `dim`, by joining neighbours; `times(a, h)` applies a step to a state."""
    a, b = a.movedim(dim, 0), b.movedim(dim, 0)
    first = b[:1] + times(a[:1], start[None])
    b = torch.cat((first, b[1:])) if len(b) > 1 else first
    return _joined(a, b, times).movedim(0, dim)


def _joined(a: Tensor, b: Tensor, times: Product) -> Tensor:
    """All states along the first axis, from nothing."""
    count = len(b)
    if count == 1:
        return b
    early, late = a[: count - 1 : 2], a[1::2]
    odd = _joined(times(late, early), b[1::2] + times(late, b[: count - 1 : 2]), times)
    if count == 2:
        return torch.cat((b[:1], odd))
    even = torch.cat((b[:1], b[2::2] + times(a[2::2], odd[: (count - 1) // 2])))
    if count % 2:
        odd = torch.cat((odd, odd[:1]))  # fills a place that is cut off again
    return torch.stack((even, odd), dim=1).flatten(0, 1)[:count]
