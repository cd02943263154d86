"""The diagonal linear scan `h_t = a_t h_{t-1} + b_t`, two-level, with its gradient written out.

Time is cut into chunks of about sqrt(T). All chunks run their local scan side by side, with the running
products of a; then the state is carried from chunk to chunk; then each chunk adds what came into it. (On an
accelerator neighbours are joined instead, see `recursion`.) The gradient is the same scan on reversed time:
G_t = g_t + a_{t+1} G_{t+1}, db_t = G_t, da_t = G_t h_{t-1}.

Shapes: B batch, T tokens, D channels, C chunks, L chunk length.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.ops import dispatch
from search_spaces.ops.precision import own_types
from search_spaces.ops.recursion import counts_launches, joined

KERNEL = dispatch.register("diagonal scan", "scan")


def scan(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """All h [B, T, D] for a and b [B, T, D], from h_{-1} = `start` [B, D] (zero if None)."""
    start = torch.zeros_like(b[:, 0]) if start is None else start
    run = dispatch.load(KERNEL).scan if dispatch.runs(KERNEL, a, b, start) else _Scan.apply
    h: Tensor = run(a, b, start)
    return h


def scan_plainly(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """The same by its recurrence, one token at a time."""
    h = torch.zeros_like(b[:, 0]) if start is None else start
    states = []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, dim=1)


@own_types
class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        h = _states(a if counts_launches(b) else a.clone(memory_format=torch.contiguous_format), b, start)
        ctx.save_for_backward(a, h, start)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, start = ctx.saved_tensors
        later = torch.cat((torch.zeros_like(a[:, :1]), a[:, 1:].flip(1)), dim=1)
        to_b = _states(later, grads[0].flip(1), torch.zeros_like(start)).flip(1)
        to_a = to_b * torch.cat((start[:, None], h[:, :-1]), dim=1)
        return to_a, to_b, a[:, 0] * to_b[:, 0]


def _states(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """All h; the memory of a may be used up."""
    return joined(a, b, start, 1) if counts_launches(b) else _two_level(a, b, start)


def _two_level(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """All h; the memory of a is used up."""
    count = b.shape[1]
    length = _chunk(count)
    fill = -count % length
    product = F.pad(a, (0, 0, 0, fill)).unflatten(1, (-1, length))
    local = F.pad(b, (0, 0, 0, fill)).unflatten(1, (-1, length)).clone()
    for i in range(1, length):
        local[:, :, i].addcmul_(product[:, :, i], local[:, :, i - 1])
        product[:, :, i] *= product[:, :, i - 1]
    state, before = start, []
    for last, fade in zip(local[:, :, -1].unbind(1), product[:, :, -1].unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(last, fade, state)
    local.addcmul_(product, torch.stack(before, dim=1)[:, :, None])
    return local.flatten(1, 2)[:, :count]


def _chunk(count: int) -> int:
    """A chunk length near the square root that fills `count` without padding, if there is one."""
    root = math.isqrt(count)
    near = [length for length in range(root, 2 * root + 1) if count % length == 0]
    return near[0] if near else max(1, root)
