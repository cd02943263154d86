"""The scalar memory of the sLSTM: exponential gates that see the last output, one token after the other.

    a_t = u_t + R h_{t-1}        for each of z, i, f and o; R has one block per head
    c_t = f_t c_{t-1} + i_t tanh(z_t)        n_t = f_t n_{t-1} + i_t        h_t = sigmoid(o_t) c_t / n_t

Beck et al. 2024, arXiv:2405.04517, section 2.2, with i_t = exp(a_i), and f_t = sigmoid(a_f) or exp(a_f). c
and n are kept divided by exp(m_t), with m_t = max(log f_t + m_{t-1}, a_i) the peak of all logarithms so far;
h does not depend on m, so no gradient flows through it, and n is at least one. Because h_t needs h_{t-1}
through R and a nonlinearity, no parallel form exists: the loop runs on few, small operations, and its
gradient is written out, with all that is elementwise over time done at once.

Shapes: B batch, T tokens, H heads, P head_dim.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.ops import dispatch
from search_spaces.ops.precision import chooses_types, own_types

KERNEL = dispatch.register("loop of the sLSTM", "slstm")
LARGEST = 64
"""Channels of a head whose recurrent matrices the kernel holds."""


class Cell(NamedTuple):
    """The state of an sLSTM, each [B, H, P]: h, c and n over exp(m), and m; empty where n is zero."""

    hidden: Tensor
    memory: Tensor
    normaliser: Tensor
    peak: Tensor


@chooses_types()
def slstm(u: Tensor, recurrent: Tensor, cell: Cell, *, sigmoid: bool) -> tuple[Tensor, Cell]:
    """Outputs h [B, T, H, P] and the cell after the last token.

    u [B, T, 4, H, P] is what the tokens give to z, i, f and o; recurrent is [4, H, P, P], its last axis the
    input; `sigmoid` says whether the forget gate is a sigmoid rather than an exponential.
    """
    inputs = u.permute(1, 3, 0, 2, 4).flatten(3)
    start = _opened(cell)
    h, memory, normaliser, peak = _SLSTM.apply(sigmoid, inputs, _matrix(recurrent), *start)
    last = Cell(*(part.transpose(0, 1) for part in (h[-1], memory, normaliser, peak)))
    # copies, so that the cell does not keep the whole sequence in memory
    return h.permute(2, 0, 1, 3), Cell(*(part.clone() for part in last))


def slstm_plainly(u: Tensor, recurrent: Tensor, cell: Cell, *, sigmoid: bool) -> tuple[Tensor, Cell]:
    """The same with the gradient that PyTorch derives."""
    outputs = []
    for u_t in u.unbind(1):
        y, cell = slstm_step(u_t, recurrent, cell, sigmoid=sigmoid)
        outputs.append(y)
    return torch.stack(outputs, dim=1), cell


@chooses_types()
def slstm_step(u: Tensor, recurrent: Tensor, cell: Cell, *, sigmoid: bool) -> tuple[Tensor, Cell]:
    """One token: u [B, 4, H, P]; the output [B, H, P] and the new cell."""
    inputs = u.permute(2, 0, 1, 3).flatten(2)
    _, *parts = _advance(inputs, _matrix(recurrent), *_opened(cell), sigmoid)
    new = Cell(*(part.transpose(0, 1) for part in parts))
    return new.hidden, new


def empty(like: Tensor) -> Cell:
    """An empty cell for u [B, T, 4, H, P]."""
    return Cell(*torch.zeros_like(like[:, 0]).unbind(1))


def _matrix(recurrent: Tensor) -> Tensor:
    """The recurrent weights [H, P, 4P], their first axis of P the input."""
    return recurrent.permute(1, 3, 0, 2).flatten(2).contiguous()


def _opened(cell: Cell) -> Cell:
    """The cell with heads first [H, B, P]; the peak of an empty one is below every number."""
    hidden, memory, normaliser, peak = (part.transpose(0, 1) for part in cell)
    return Cell(hidden, memory, normaliser, peak.detach().masked_fill(normaliser == 0, float("-inf")))


def _log_forget(a: Tensor, sigmoid: bool) -> Tensor:
    return F.logsigmoid(a) if sigmoid else a


def _advance(
    u: Tensor, matrix: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """a [H, B, 4P], and the new h, c, n and m [H, B, P], for u [H, B, 4P]."""
    a = torch.baddbmm(u, h, matrix)
    z, i, f, o = a.chunk(4, dim=-1)
    kept = _log_forget(f, sigmoid) + m
    m = torch.maximum(kept, i).detach()
    fade, added = (kept - m).exp(), (i - m).exp()
    c, n = torch.addcmul(added * z.tanh(), c, fade), torch.addcmul(added, n, fade)
    return a, o.sigmoid() * c / n, c, n, m


def _loop(
    u: Tensor, matrix: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See `loop`; by the kernel where it runs."""
    ours = dispatch.runs(KERNEL, u, matrix) and u.dtype is matrix.dtype and h.shape[-1] <= LARGEST
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    found = (dispatch.load(KERNEL).loop if ours else loop)(u, matrix, h, c, n, m, sigmoid)
    return found


def loop(
    u: Tensor, matrix: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """a [T, H, B, 4P], and h, c, n and m before the first token and after each [T + 1, H, B, P]."""
    gates, states = [], [(h, c, n, m)]
    for u_t in u.unbind(0):
        a, *state = _advance(u_t, matrix, *states[-1], sigmoid)
        gates.append(a)
        states.append((state[0], state[1], state[2], state[3]))
    hs, cs, ns, ms = (torch.stack(parts) for parts in zip(*states, strict=True))
    return torch.stack(gates), hs, cs, ns, ms


def _loop_back(
    to_hs: Tensor,
    to_c: Tensor,
    to_n: Tensor,
    matrix: Tensor,
    by_c: Tensor,
    by_n: Tensor,
    by_h: Tensor,
    fade: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `loop_back`; by the kernel where it runs."""
    parts = (to_hs, to_c, to_n, matrix, by_c, by_n, by_h, fade)
    ours = dispatch.runs(KERNEL, *parts) and to_hs.dtype is matrix.dtype and to_hs.shape[-1] <= LARGEST
    found: tuple[Tensor, Tensor, Tensor, Tensor]
    found = (dispatch.load(KERNEL).loop_back if ours else loop_back)(*parts)
    return found


def loop_back(
    to_hs: Tensor,
    to_c: Tensor,
    to_n: Tensor,
    matrix: Tensor,
    by_c: Tensor,
    by_n: Tensor,
    by_h: Tensor,
    fade: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by u [T, H, B, 4P] and by the h, c and n that the loop began with [H, B, P]."""
    to_u, back, transposed = [], torch.zeros_like(to_c), matrix.mT.contiguous()
    steps = zip(
        *(part.unbind(0)[::-1] for part in (to_hs, by_c, by_n, fade)),
        *(part.unbind(0)[::-1] for part in by_h.unbind(3)),
        strict=True,
    )
    for to_h, gates_by_c, gates_by_n, f, c_by_h, n_by_h, o_by_h in steps:
        to_h = to_h + back
        to_c, to_n = torch.addcmul(to_c, to_h, c_by_h), torch.addcmul(to_n, to_h, n_by_h)
        first = torch.addcmul(gates_by_c * to_c[..., None, :], gates_by_n, to_n[..., None, :])
        to_a = torch.cat((first.flatten(2), to_h * o_by_h), dim=-1)
        to_u.append(to_a)
        back, to_c, to_n = torch.bmm(to_a, transposed), to_c * f, to_n * f
    return torch.stack(to_u[::-1]), back, to_c, to_n


# one operation each for a compiler: it would unroll the loops, which takes minutes
_whole_loop = torch.library.custom_op("nas::slstm", _loop, mutates_args=())
_whole_loop_back = torch.library.custom_op("nas::slstm_back", _loop_back, mutates_args=())


@_whole_loop.register_fake
def _(
    u: Tensor, matrix: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, sigmoid: bool
) -> tuple[Tensor, ...]:
    return torch.empty_like(u), *(u.new_empty(u.shape[0] + 1, *h.shape) for _ in range(4))


@_whole_loop_back.register_fake
def _(
    to_hs: Tensor,
    to_c: Tensor,
    to_n: Tensor,
    matrix: Tensor,
    by_c: Tensor,
    by_n: Tensor,
    by_h: Tensor,
    fade: Tensor,
) -> tuple[Tensor, ...]:
    shape = (*to_hs.shape[:-1], 4 * to_hs.shape[-1])
    return to_hs.new_empty(shape), *(to_hs.new_empty(to_c.shape) for _ in range(3))


def _as_operator(x: Tensor) -> bool:
    """Whether whoever traces this call sees a loop as one operation: compilers, and traces of the kernel."""
    traced = x.device.type == "meta" and dispatch.runs(KERNEL, x)
    return torch.compiler.is_dynamo_compiling() or traced


@own_types
class _SLSTM(torch.autograd.Function):
    """Heads before the batch, time before both: u [T, H, B, 4P], states [H, B, P]."""

    @staticmethod
    def forward(ctx: Any, sigmoid: bool, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        u, matrix, h, c, n, m = inputs
        loop = _whole_loop if _as_operator(u) else _loop
        a, hs, cs, ns, ms = loop(u, matrix, h, c, n, m, sigmoid)
        ctx.save_for_backward(a, matrix, hs, cs, ns, ms)
        ctx.sigmoid = sigmoid
        last_m = ms[-1].clone()
        ctx.mark_non_differentiable(last_m)
        return hs[1:].clone(), cs[-1].clone(), ns[-1].clone(), last_m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        to_hs, to_c, to_n, _ = grads
        a, matrix, hs, cs, ns, ms = ctx.saved_tensors
        by_state = slopes(a, hs, cs, ns, ms, ctx.sigmoid)
        loop = _whole_loop_back if _as_operator(a) else _loop_back
        to_u, back, to_c, to_n = loop(to_hs, to_c, to_n, matrix, *by_state)
        before = hs[:-1].transpose(0, 1).flatten(1, 2)
        to_matrix = before.mT @ to_u.transpose(0, 1).flatten(1, 2)
        return None, to_u, to_matrix, back, to_c, to_n, None


def slopes(
    a: Tensor, hs: Tensor, cs: Tensor, ns: Tensor, ms: Tensor, sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every derivative that does not need the later tokens, for all tokens at once.

    Those of c and of n by the gates z, i and f [T, H, B, 3, P]; those of h by c, n and the gate o
    [T, H, B, 3, P]; and the share of the memory that is kept [T, H, B, P].
    """
    z, i, f, o = a.chunk(4, dim=-1)
    added = (i - ms[1:]).exp()
    fade = (_log_forget(f, sigmoid) + ms[:-1] - ms[1:]).exp()
    by_f = fade * torch.sigmoid(-f) if sigmoid else fade
    z = z.tanh()
    by_c = torch.stack((added * (1 - z * z), added * z, by_f * cs[:-1]), dim=3)
    by_n = torch.stack((torch.zeros_like(added), added, by_f * ns[:-1]), dim=3)
    o, h = o.sigmoid(), hs[1:]
    by_h = torch.stack((o / ns[1:], -h / ns[1:], h * (1 - o)), dim=3)
    return by_c, by_n, by_h, fade
