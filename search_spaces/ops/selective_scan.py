"""Mamba's selective scan: a diagonal recurrence whose step size, input and output maps change by token.

    h_t = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t'          y_t = h_t C_t

Gu & Dao 2023, arXiv:2312.00752, algorithm 2. The states of all tokens [B, T, D, N] would not fit a cache,
so time is cut into blocks: a block forms its decays and inputs, scans in place, is contracted with C and
dropped. Only the state before each block is kept, and the gradient, which is written out, rebuilds one block
at a time:

    G_t = g_t C_t' + exp(dt_{t+1} A) G_{t+1}          (g_t and G_t: slopes of y_t and h_t)

On an accelerator the number of launches counts, not the cache: there blocks are long, and their tokens are
joined pair by pair (see `recursion`) instead of scanned.

Shapes: B batch, T tokens, D channels, N state_dim, L tokens of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.ops import dispatch
from search_spaces.ops.precision import chooses_types, own_types
from search_spaces.ops.recursion import counts_launches, joined

KERNEL = dispatch.register("selective scan", "selective_scan")
LARGEST = 64
"""States of a channel that the kernel holds."""

BLOCK = 32
LONG_BLOCK = 2048
"""Tokens of a block on an accelerator."""


@chooses_types()
def selective_scan(
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    c: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, D] and the state [B, D, N] after the last token, in float32 at least.

    u and dt are [B, T, D] (dt >= 0), a is [D, N] (negative), b and c are [B, T, N]; `state` is what was
    before the first token (zero if None).
    """
    exact = torch.promote_types(dt.dtype, torch.float32)
    u, dt, a, b, c = (part.to(exact) for part in (u, dt, a, b, c))
    start = u.new_zeros(u.shape[0], *a.shape) if state is None else state.to(exact)
    if dispatch.runs(KERNEL, u, dt, a, b, c, start) and a.shape[1] <= LARGEST:
        learning = torch.is_grad_enabled() and any(x.requires_grad for x in (u, dt, a, b, c, start))
        y, last, _ = dispatch.load(KERNEL).selective_scan(u, dt, a, b, c, start, learning)
    else:
        y, last = _SelectiveScan.apply(u, dt, a, b, c, start)
    return y, last


def selective_scan_plainly(
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    c: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same by its recurrence, one token at a time."""
    h = u.new_zeros(u.shape[0], *a.shape) if state is None else state
    outputs = []
    for u_t, dt_t, b_t, c_t in zip(u.unbind(1), dt.unbind(1), b.unbind(1), c.unbind(1), strict=True):
        y, h = selective_scan_step(u_t, dt_t, a, b_t, c=c_t, state=h)
        outputs.append(y)
    return torch.stack(outputs, dim=1), h


@chooses_types()
def selective_scan_step(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, *, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: u and dt [B, D], a [D, N], b and c [B, N], state [B, D, N]; the output and the new state."""
    exact = torch.promote_types(dt.dtype, torch.float32)
    u, dt, a, b, c = (part.to(exact) for part in (u, dt, a, b, c))
    fade = (dt[..., None] * a).exp()
    state = torch.addcmul((dt * u)[..., None] * b[:, None], fade, state.to(exact))
    return (state @ c[..., None])[..., 0], state


@own_types
class _SelectiveScan(torch.autograd.Function):
    """u and dt [B, T, D], a [D, N], b and c [B, T, N] and the state before them [B, D, N]."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        u, dt, a, b, c, start = inputs
        parts = [_cut(part) for part in (u, dt, b, c)]
        outputs, starts, state = [], [], start
        for u_, dt_, b_, c_ in zip(*parts, strict=True):
            starts.append(state)
            states, _ = _states(u_, dt_, a, b_, state)
            outputs.append((states @ c_[..., None]).squeeze(-1))
            state = states[-1].clone()  # a view would hold all others in memory
        ctx.save_for_backward(u, dt, a, b, c, *starts)
        return torch.cat(outputs).transpose(0, 1), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, dt, a, b, c, *starts = ctx.saved_tensors
        parts = [_cut(part) for part in (u, dt, b, c, grads[0])]
        later, to_a = grads[1], torch.zeros_like(a)
        by_block: list[list[Tensor]] = [[], [], [], []]
        for u_, dt_, b_, c_, dy, before in reversed(list(zip(*parts, starts, strict=True))):
            states, fade = _states(u_, dt_, a, b_, before)
            slopes = _slopes(dy[..., None] * c_[..., None, :], fade, later)
            later = fade[0] * slopes[0]
            to_input = (slopes @ b_[..., None]).squeeze(-1)
            to_b = ((dt_ * u_)[..., None, :] @ slopes).squeeze(-2)
            to_c = (dy[..., None, :] @ states).squeeze(-2)
            slopes[0].mul_(before)
            slopes[1:].mul_(states[:-1])
            to_power = slopes.mul_(fade)
            to_a += (to_power * dt_[..., None]).sum((0, 1))
            to_dt = (to_power * a).sum(-1) + to_input * u_
            for kept, part in zip(by_block, (to_input * dt_, to_dt, to_b, to_c), strict=True):
                kept.append(part)
        to_u, to_dt, to_b, to_c = (torch.cat(kept[::-1]).transpose(0, 1) for kept in by_block)
        return to_u, to_dt, to_a, to_b, to_c, later


def _cut(part: Tensor) -> list[Tensor]:
    """[B, T, X] as blocks [L, B, X]."""
    length = LONG_BLOCK if counts_launches(part) else BLOCK
    return list(part.transpose(0, 1).contiguous().split(length))


def _states(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """States and fades [L, B, D, N] of a block u, dt [L, B, D] and b [L, B, N], from `start` [B, D, N]."""
    fade = (dt[..., None] * a).exp_()
    states = (dt * u)[..., None] * b[..., None, :]
    if counts_launches(states):
        return joined(fade, states, start, 0), fade
    states[0].addcmul_(fade[0], start)
    for t in range(1, len(states)):
        states[t].addcmul_(fade[t], states[t - 1])
    return states, fade


def _slopes(slopes: Tensor, fade: Tensor, later: Tensor) -> Tensor:
    """The slopes of all states [L, B, D, N], from those by the outputs alone, and what comes from later."""
    if counts_launches(slopes):
        through = torch.cat((torch.ones_like(fade[:1]), fade[1:].flip(0)))
        return joined(through, slopes.flip(0), later, 0).flip(0)
    slopes[-1].add_(later)
    for t in range(len(slopes) - 2, -1, -1):
        slopes[t].addcmul_(fade[t + 1], slopes[t + 1])
    return slopes
