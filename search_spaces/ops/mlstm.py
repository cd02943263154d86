"""The matrix memory of the mLSTM: linear attention with exponential gates and a normaliser, in chunks.

    S_t = f_t S_{t-1} + i_t k_t v_t'        n_t = f_t n_{t-1} + i_t k_t
    y_t = S_t' q_t / max(|n_t . q_t|, 1)        f_t = exp(g_t), i_t = exp(w_t)

Beck et al. 2024, arXiv:2405.04517, section 2.3. The gates may be larger than one, so S and n are kept divided
by exp(m_t), with m_t = max(g_t + m_{t-1}, w_t) the peak of all logarithms so far; y does not depend on m.
With G_t the running sum of g in a chunk and m_0 the peak before it, m_t = G_t + M_t, where M_t is the largest
of m_0 and of w_s - G_s for s <= t: one cumulative maximum. Exponents w_s - G_s - M_t are at most zero. No
gradient flows through M. Gates, normalisers and states are in float32, or float64 where the input is.

Shapes: B batch, T tokens, H heads, N state_dim (of q and k), P head_dim (of v), C chunks, L chunk length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import dispatch
from search_spaces.ops.decay_attention import CHUNK, fits, tile_of
from search_spaces.ops.precision import chooses_types
from search_spaces.ops.recursion import carry
from search_spaces.ops.running_maximum import running_maximum

KERNEL = dispatch.register("matrix memory of the mLSTM", "mlstm", multiplies=True)
PEAK = 40.0
"""exp(-m) is a floor of a divisor: beyond this it would soon not be a number any more when squared."""


class Cell(NamedTuple):
    """The state of an mLSTM: S [B, H, N, P], n [B, H, N] and m [B, H]; the first two over exp(m)."""

    memory: Tensor
    normaliser: Tensor
    peak: Tensor


@chooses_types(factors=3)
def mlstm(
    q: Tensor, k: Tensor, v: Tensor, w: Tensor, g: Tensor, *, cell: Cell | None = None
) -> tuple[Tensor, Cell]:
    """Outputs [B, T, H, P] and the cell after the last token, from `cell` (empty if None).

    q and k are [B, T, H, N], v is [B, T, H, P]; w and g [B, T, H] are the logarithms of the input and the
    forget gate.
    """
    if fits(q, k, v) and dispatch.runs(KERNEL, q, k, v, w, g, tile=tile_of(q, v)):
        cell = _empty(k.transpose(1, 2), v.transpose(1, 2)) if cell is None else cell
        found: tuple[Tensor, Cell] = dispatch.load(KERNEL).mlstm(
            q, k, v, w, g, Cell(*(_exact(part) for part in cell))
        )
        return found
    count = v.shape[1]
    length = min(CHUNK, count)
    q, k, v, g = (_chunked(part, length) for part in (q, k, v, g))
    w = _chunked(w, length, value=float("-inf"))  # what fills a chunk is not written
    cell = _empty(k, v) if cell is None else Cell(*(_exact(part) for part in cell))
    total = _exact(g).cumsum(-1)
    log = _exact(w) - total
    peaks, last = _peaks(total, log, cell.peak)
    top = torch.maximum(peaks[..., None], running_maximum(log, -1)).detach()
    seen = torch.ones(length, length, dtype=log.dtype, device=log.device).tril()
    fade = (log[..., None, :] - top[..., :, None]).clamp(max=0).exp() * seen
    scores = _exact(q @ k.mT) * fade
    left = _exact(k) * (log - top[..., -1:]).exp()[..., None]
    fades = (peaks - top[..., -1]).exp()
    before, after = _carry(left, v, fades, cell)
    old = (peaks[..., None] - top).exp()
    read = _exact(q) * old[..., None]
    y = _exact(scores.to(v.dtype) @ v) + _exact(read.to(v.dtype) @ before.memory.to(v.dtype))
    n = scores.sum(-1) + (read * before.normaliser[..., None, :]).sum(-1)
    y = (y / divisor(n, total + top)[..., None]).to(v.dtype)
    return y.flatten(2, 3).transpose(1, 2)[:, :count], after._replace(peak=last)


def mlstm_plainly(
    q: Tensor, k: Tensor, v: Tensor, w: Tensor, g: Tensor, *, cell: Cell | None = None
) -> tuple[Tensor, Cell]:
    """The same by its recurrence, one token at a time."""
    if cell is None:
        cell = _empty(k.transpose(1, 2), v.transpose(1, 2))
    outputs = []
    for q_t, k_t, v_t, w_t, g_t in zip(*(part.unbind(1) for part in (q, k, v, w, g)), strict=True):
        y, cell = mlstm_step(q_t, k_t, v_t, w_t, g_t, cell=cell)
        outputs.append(y)
    return torch.stack(outputs, dim=1), cell


@chooses_types(factors=3)
def mlstm_step(q: Tensor, k: Tensor, v: Tensor, w: Tensor, g: Tensor, *, cell: Cell) -> tuple[Tensor, Cell]:
    """One token: q, k [B, H, N], v [B, H, P], w, g [B, H]; the output [B, H, P] and the new cell."""
    w, g, key = _exact(w), _exact(g), _exact(k)
    memory, normaliser, peak = (_exact(part) for part in cell)
    new = torch.maximum(g + peak, w)
    fade, added = (g + peak - new).exp()[..., None], (w - new).exp()[..., None] * key
    memory = torch.addcmul(added[..., :, None] * v[..., None, :], memory, fade[..., None])
    normaliser = torch.addcmul(added, normaliser, fade)
    y = _exact((q[..., None, :] @ memory.to(q.dtype))[..., 0, :])
    n = (_exact(q) * normaliser).sum(-1)
    return (y / divisor(n, new)[..., None]).to(v.dtype), Cell(memory, normaliser, new)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float64 else x.float()


def divisor(n: Tensor, peak: Tensor) -> Tensor:
    """What outputs are divided by, for n . q and the peak that both are divided by."""
    return torch.maximum(n.abs(), (-peak.clamp(-PEAK, PEAK)).exp())


def _empty(k: Tensor, v: Tensor) -> Cell:
    """An empty cell for k [B, H, ..., N] and v [B, H, ..., P]."""
    normaliser = torch.zeros_like(_exact(k.flatten(2, -2)[:, :, 0]))
    memory = normaliser[..., None] * _exact(v.flatten(2, -2)[:, :, :1])
    return Cell(memory.detach(), normaliser, normaliser[..., 0])


def _chunked(x: Tensor, length: int, value: float = 0.0) -> Tensor:
    """[B, T, H, ...] as [B, H, C, L, ...], padded with a value."""
    fill = -x.shape[1] % length
    if fill:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, fill), value=value)
    return x.transpose(1, 2).contiguous().unflatten(2, (-1, length))


def _peaks(total: Tensor, log: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
    """The peak before every chunk [B, H, C] and after the last [B, H]."""
    befores = []
    for whole, top in zip(total[..., -1].unbind(2), log.amax(-1).unbind(2), strict=True):
        befores.append(peak)
        peak = whole + torch.maximum(peak, top).detach()
    return torch.stack(befores, dim=2), peak


def _carry(k: Tensor, v: Tensor, fades: Tensor, cell: Cell) -> tuple[Cell, Cell]:
    """The cell before every chunk, with an axis C after H, and after the last; peaks are as they were.

    k [B, H, C, L, N] is scaled to the peak at the end of its chunk; fades [B, H, C] are of whole chunks.
    """
    fades = fades[..., None]
    memories, memory = carry(fades[..., None], _exact(k.to(v.dtype).mT @ v), cell.memory, 2)
    normalisers, normaliser = carry(fades, k.sum(-2), cell.normaliser, 2)
    return Cell(memories, normalisers, cell.peak), Cell(memory, normaliser, cell.peak)
