"""Linear attention whose memory fades by its own rate in every channel of the key, in chunks.

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t'        y_t = S_t' q_t        g_t <= 0, one per channel

Gated linear attention (Yang et al. 2023, arXiv:2312.06635, section 4). Splitting the decay between two tokens
into a factor of the query and one of the key would overflow if both were taken from the start of a chunk. So
a chunk is halved again and again: the later half reads the earlier one through their boundary, where both
factors are at most one. Only pairs within the smallest pieces have their decays formed one by one. Decays and
states are in float32, or float64 where the input is.

Shapes: B batch, T tokens, H heads, N state_dim (of q, k and g), P head_dim (of v), L chunk length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
PIECE = 4


def gated_attention(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None = None, *, final: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Outputs [B, T, H, P] and, if `final`, the state [B, H, N, P] after the last token.

    q, k and g are [B, T, H, N], v is [B, T, H, P].
    """
    count = v.shape[1]
    length = _chunk(count)
    fill = -count % length
    if fill:
        q, k, v, g = (F.pad(part, (0, 0, 0, 0, 0, fill)) for part in (q, k, v, g))
    q, k, v, g = (part.transpose(1, 2).contiguous().unflatten(2, (-1, length)) for part in (q, k, v, g))
    total = (g if g.dtype is torch.float64 else g.float()).cumsum(-2)
    y = _within_pieces(q, k, v, total)
    width = PIECE
    while width < length:
        y = y + _between_halves(q, k, v, total, width)
        width *= 2
    if state is not None or final or y.shape[2] > 1:
        carried, last = _carry(k, v, total, state)
        y = y + (q * total.exp().to(q.dtype)) @ carried.to(q.dtype)
    else:
        last = None
    return y.flatten(2, 3).transpose(1, 2)[:, :count], last if final else None


def gated_attention_plainly(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same by its recurrence, one token at a time."""
    memory = v.new_zeros(*k.shape[:1], *k.shape[2:], v.shape[-1]) if state is None else state
    outputs = []
    for q_t, k_t, v_t, g_t in zip(q.unbind(1), k.unbind(1), v.unbind(1), g.unbind(1), strict=True):
        y, memory = gated_attention_step(q_t, k_t, v_t, g_t, memory)
        outputs.append(y)
    return torch.stack(outputs, dim=1), memory


def gated_attention_step(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token: q, k, g [B, H, N], v [B, H, P], state [B, H, N, P]; the output and the new state."""
    fade = (g if g.dtype is torch.float64 else g.float()).exp()[..., None]
    added = (k[..., :, None] * v[..., None, :]).to(fade.dtype)
    state = torch.addcmul(added, state.to(fade.dtype), fade)
    return (q[..., None, :] @ state.to(q.dtype))[..., 0, :], state


def products(count: int, heads: int, state_dim: int, head_dim: int) -> int:
    """Multiply-adds in matrix products of `gated_attention`, for a batch of one."""
    length = _chunk(count)
    halves = length - PIECE  # the sum of all widths below the chunk's
    per_token = PIECE * head_dim + halves * (state_dim + head_dim) // 2 + 2 * state_dim * head_dim
    return heads * (count + -count % length) * per_token


def _chunk(count: int) -> int:
    """The chunk length for `count` tokens: a power of two, for halving."""
    return max(PIECE, min(CHUNK, 1 << (count - 1).bit_length()))


def _within_pieces(q: Tensor, k: Tensor, v: Tensor, total: Tensor) -> Tensor:
    """What tokens read within their piece [B, H, C, L, P], with a decay for each pair and channel."""
    q, k, v, total = (part.unflatten(-2, (-1, PIECE)) for part in (q, k, v, total))
    # the future would overflow, so it is held at one here and dropped from the scores
    fade = (total[..., :, None, :] - total[..., None, :, :]).clamp(max=0).exp()
    scores = (q[..., :, None, :] * k[..., None, :, :] * fade.to(q.dtype)).sum(-1)
    seen = torch.ones(PIECE, PIECE, dtype=q.dtype, device=q.device).tril()
    return (scores * seen @ v).flatten(-3, -2)


def _between_halves(q: Tensor, k: Tensor, v: Tensor, total: Tensor, width: int) -> Tensor:
    """What every second run of `width` tokens reads from the run before it [B, H, C, L, P]."""
    q, k, v, total = (part.unflatten(-2, (-1, 2, width)) for part in (q, k, v, total))
    early, late = total[..., 0, :, :], total[..., 1, :, :]
    boundary = early[..., -1:, :]
    q = q[..., 1, :, :] * (late - boundary).exp().to(q.dtype)
    k = k[..., 0, :, :] * (boundary - early).exp().to(k.dtype)
    y = (q @ k.mT) @ v[..., 0, :, :]
    return F.pad(y, (0, 0, width, 0)).flatten(-3, -2)


def _carry(k: Tensor, v: Tensor, total: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """The state before every chunk [B, H, C, N, P], and after the last [B, H, N, P]."""
    whole = total[..., -1:, :]
    added = ((k * (whole - total).exp().to(k.dtype)).mT @ v).to(total.dtype)
    fades = whole.exp().mT
    memory = torch.zeros_like(added[:, :, 0]) if state is None else state.to(total.dtype)
    before = []
    for fade, more in zip(fades.unbind(2), added.unbind(2), strict=True):
        before.append(memory)
        memory = memory * fade + more
    return torch.stack(before, dim=2), memory
