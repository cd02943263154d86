"""Mamba's selective scan: a diagonal recurrence whose step size, input and output maps change by token.

    h_t = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t'          y_t = h_t C_t

Gu & Dao 2023, arXiv:2312.00752, algorithm 2. The states of all tokens [B, T, D, N] would not fit a cache,
so time is cut into blocks: a block forms its decays and inputs, scans in place, is contracted with C and
dropped. Only the state before each block is kept, and the gradient, which is written out, rebuilds one block
at a time:

    G_t = g_t C_t' + exp(dt_{t+1} A) G_{t+1}          (g_t and G_t: slopes of y_t and h_t)

On an accelerator the number of launches counts, not the cache: there the blocks of a span, about as many as
each has tokens, run side by side, after a first run that finds the states before them.

Shapes: B batch, T tokens, D channels, N state_dim, L tokens of a block.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 32
SPAN = 1024


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


def selective_scan_step(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, *, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: u and dt [B, D], a [D, N], b and c [B, N], state [B, D, N]; the output and the new state."""
    exact = torch.promote_types(dt.dtype, torch.float32)
    u, dt, a, b, c = (part.to(exact) for part in (u, dt, a, b, c))
    fade = (dt[..., None] * a).exp()
    state = torch.addcmul((dt * u)[..., None] * b[:, None], fade, state.to(exact))
    return (state @ c[..., None])[..., 0], state


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        parts = [_cut(part) for part in (u, dt, b, c)]
        outputs, starts, state = [], [], start
        for u_, dt_, b_, c_ in zip(*parts, strict=True):
            before = _starts(u_, dt_, a, b_, state)
            states, _ = _states(u_, dt_, a, b_, before)
            outputs.append((states @ c_[..., None]).squeeze(-1))
            state = _last(states, len(state))
            starts.append(before)
        ctx.save_for_backward(u, dt, a, b, c, *starts)
        return _joined(outputs, u.shape), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, dt, a, b, c, *starts = ctx.saved_tensors
        parts = [_cut(part) for part in (u, dt, b, c, grads[0])]
        later, to_a = grads[1], torch.zeros_like(a)
        found: list[list[Tensor]] = [[], [], [], []]
        for u_, dt_, b_, c_, dy, before in reversed(list(zip(*parts, starts, strict=True))):
            states, fade = _states(u_, dt_, a, b_, before)
            slopes = dy[..., None] * c_[..., None, :]
            slopes[-1].add_(_arriving(slopes, dt_, a, fade, later))
            for t in range(len(slopes) - 2, -1, -1):
                slopes[t].addcmul_(fade[t + 1], slopes[t + 1])
            later = (fade[0] * slopes[0])[: len(later)]
            to_input = (slopes @ b_[..., None]).squeeze(-1)
            to_b = ((dt_ * u_)[..., None, :] @ slopes).squeeze(-2)
            to_c = (dy[..., None, :] @ states).squeeze(-2)
            slopes[0].mul_(before)
            slopes[1:].mul_(states[:-1])
            to_power = slopes.mul_(fade)
            to_a += (to_power * dt_[..., None]).sum((0, 1))
            to_dt = (to_power * a).sum(-1) + to_input * u_
            for kept, part in zip(found, (to_input * dt_, to_dt, to_b, to_c), strict=True):
                kept.append(part)
        to_u, to_dt, to_b, to_c = (
            _joined(kept[::-1], like.shape) for kept, like in zip(found, (u, dt, b, c), strict=True)
        )
        return to_u, to_dt, to_a, to_b, to_c, later


def _cut(part: Tensor) -> list[Tensor]:
    """[B, T, X] as groups of rows [L, R, X]; the rows of a group are computed side by side.

    On a CPU a group is one block of the batch; elsewhere it is all blocks of a span, the last one padded with
    tokens that have no step, and so change no state.
    """
    if not part.is_cuda:
        return list(part.transpose(0, 1).contiguous().split(BLOCK))
    groups = []
    for span in part.split(SPAN, dim=1):
        length = math.isqrt(span.shape[1])
        span = F.pad(span, (0, 0, 0, -span.shape[1] % length)).unflatten(1, (-1, length))
        groups.append(span.permute(2, 1, 0, 3).flatten(1, 2).contiguous())
    return groups


def _joined(groups: list[Tensor], shape: torch.Size) -> Tensor:
    """The inverse of `_cut`, for the results of its groups."""
    if all(rows.shape[1] == shape[0] for rows in groups):
        return torch.cat(groups).transpose(0, 1)
    spans = [rows.unflatten(1, (-1, shape[0])).permute(2, 1, 0, 3).flatten(1, 2) for rows in groups]
    return torch.cat([span[:, :SPAN] for span in spans], dim=1)[:, : shape[1]]


def _states(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """States and fades [L, R, D, N] of rows u, dt [L, R, D] and b [L, R, N], from `start` [R, D, N]."""
    fade = (dt[..., None] * a).exp_()
    states = (dt * u)[..., None] * b[..., None, :]
    states[0].addcmul_(fade[0], start)
    for t in range(1, len(states)):
        states[t].addcmul_(fade[t], states[t - 1])
    return states, fade


def _starts(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """The state before each row [R, D, N], when the first B rows start at `state` [B, D, N]."""
    rows = len(state)
    if dt.shape[1] == rows:
        return state
    added = _states(u, dt, a, b, state.new_zeros(()).expand(dt.shape[1], *a.shape))[0][-1]
    whole = (dt.sum(0)[..., None] * a).exp()
    starts = [state]
    for more, fade in zip(added.split(rows)[:-1], whole.split(rows)[:-1], strict=True):
        starts.append(starts[-1] * fade + more)
    return torch.cat(starts)


def _last(states: Tensor, rows: int) -> Tensor:
    """The state after the last block, as a copy that does not hold all others in memory."""
    return states[-1, -rows:].clone()


def _arriving(slopes: Tensor, dt: Tensor, a: Tensor, fade: Tensor, later: Tensor) -> Tensor:
    """What arrives at the last state of each row [R, D, N] from what comes after it."""
    rows = len(later)
    if dt.shape[1] == rows:
        return later
    alone = slopes[-1]
    for t in range(len(slopes) - 2, -1, -1):
        alone = torch.addcmul(slopes[t], fade[t + 1], alone)
    leaving, whole = fade[0] * alone, (dt.sum(0)[..., None] * a).exp()
    arriving = [later]
    for more, through in zip(reversed(leaving.split(rows)[1:]), reversed(whole.split(rows)[1:]), strict=True):
        arriving.append(more + through * arriving[-1])
    return torch.cat(arriving[::-1])
