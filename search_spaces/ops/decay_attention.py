"""Linear attention whose memory fades by one scalar per head and token, in chunks.

    S_t = exp(g_t) S_{t-1} + k_t v_t'          y_t = S_t' q_t          g_t <= 0

The form of Mamba-2's state space duality (Dao & Gu 2024, arXiv:2405.21060, section 6). Within a chunk the sum
is a masked matrix product; between chunks the state is carried. Exponents are always differences of sums of
logarithms, at most zero before exp, so that strong decays are exact zeros and never infinities. Decays and
states are in float32, or float64 where the input is.

Shapes: B batch, T tokens, H heads, N state_dim (of q and k), P head_dim (of v), C chunks, L chunk length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import dispatch
from search_spaces.ops.precision import chooses_types
from search_spaces.ops.recursion import carry

KERNEL = dispatch.register("linear attention with a decay per head", "decay_attention", multiplies=True)
LARGEST = 128
"""Channels of a head that the kernel holds."""

CHUNK = 64
DECAYS = {"none": None, "narrow": (5, 1), "wide": (1, 2)}
"""Constant decays by name: head h keeps the share 1 - 2^-(a + b h) of its memory at each token."""


@chooses_types(factors=3)
def decay_attention(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None = None, *, final: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Outputs [B, T, H, P] and, if `final`, the state [B, H, N, P] after the last token.

    q and k are [B, T, H, N] (H may be 1: shared by all heads), v is [B, T, H, P], g is [B, T, H].
    """
    if fits(q, k, v) and dispatch.runs(KERNEL, q, k, v, g, tile=tile_of(q, v)):
        start = None if state is None else _exact(state)
        y, last, _ = dispatch.load(KERNEL).decay_attention(q, k, v, _exact(g), start)
        return y, last if final else None
    count = v.shape[1]
    length = min(CHUNK, count)
    fill = -count % length
    if fill:
        q, k, v = (F.pad(part, (0, 0, 0, 0, 0, fill)) for part in (q, k, v))
        g = F.pad(g, (0, 0, 0, fill))
    q, k, v, g = (part.transpose(1, 2).contiguous().unflatten(2, (-1, length)) for part in (q, k, v, g))
    total = _exact(g).cumsum(-1)
    # the future would overflow, so it is held at one here and dropped from the scores
    fade = (total[..., :, None] - total[..., None, :]).clamp(max=0).exp()
    seen = torch.ones(length, length, dtype=fade.dtype, device=fade.device).tril()
    y = ((q @ k.mT) * (fade * seen).to(v.dtype)) @ v
    if state is not None or final or y.shape[2] > 1:
        carried, last = _carry(k, v, total, state)
        y = y + (q * total.exp()[..., None].to(q.dtype)) @ carried.to(q.dtype)
    else:
        last = None
    return y.flatten(2, 3).transpose(1, 2)[:, :count], last if final else None


def decay_attention_plainly(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same by its recurrence, one token at a time."""
    heads = v.shape[2]
    q, k = (part.expand(-1, -1, heads, -1) for part in (q, k))
    memory = v.new_zeros(v.shape[0], heads, k.shape[-1], v.shape[-1]) if state is None else state
    outputs = []
    for q_t, k_t, v_t, g_t in zip(q.unbind(1), k.unbind(1), v.unbind(1), g.unbind(1), strict=True):
        y, memory = decay_attention_step(q_t, k_t, v_t, g_t, memory)
        outputs.append(y)
    return torch.stack(outputs, dim=1), memory


@chooses_types(factors=3)
def decay_attention_step(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token: q, k [B, H, N], v [B, H, P], g [B, H], state [B, H, N, P]; the output and the new state."""
    fade = _exact(g).exp()[..., None, None]
    added = (k[..., :, None] * v[..., None, :]).to(fade.dtype)
    state = torch.addcmul(added, state.to(fade.dtype), fade)
    return (q[..., None, :] @ state.to(q.dtype))[..., 0, :], state


def constant_decays(decay: str, heads: int, like: Tensor) -> Tensor:
    """The logarithm of every head's share of `DECAYS` [H], or one zero where nothing fades.

    It depends on the index of a head alone, so that leading heads do not depend on their number. `narrow` is
    RetNet's: heads look back 32, 64, 128, ... tokens. `wide` begins at the neighbour: 2, 8, 32, 128, ...
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    if (ladder := DECAYS[decay]) is None:
        return torch.zeros(1, dtype=exact, device=like.device)
    first, stride = ladder
    return torch.log1p(-(2.0 ** (-first - stride * torch.arange(heads, dtype=exact, device=like.device))))


def products(count: int, heads: int, state_dim: int, head_dim: int, shared: bool) -> int:
    """Multiply-adds of `decay_attention` for a batch of one; `shared` q and k serve all heads."""
    length = min(CHUNK, count)
    padded = count + -count % length
    scores = (1 if shared else heads) * padded * length * state_dim
    return scores + heads * padded * (length * head_dim + 2 * state_dim * head_dim)


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether a kernel is for q, k [B, T, H, N] and v [B, T, H, P]: their products, and a state [N, P]."""
    return dispatch.on_tensor_cores(q, k, v) and q.shape[-1] <= LARGEST and v.shape[-1] <= LARGEST


def tile_of(q: Tensor, v: Tensor) -> tuple[torch.dtype, int, int]:
    """The tile of a kernel for q [B, T, H, N] and v [B, T, H, P]: dtype, and N and P as it pads them."""
    return q.dtype, _padded(q.shape[-1]), _padded(v.shape[-1])


def _padded(channels: int) -> int:
    return max(16, 1 << (channels - 1).bit_length())


def _exact(g: Tensor) -> Tensor:
    return g if g.dtype is torch.float64 else g.float()


def _carry(k: Tensor, v: Tensor, total: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """The state before every chunk [B, H, C, N, P], and after the last [B, H, N, P]."""
    whole = total[..., -1]
    left = (whole[..., None] - total).exp()[..., None]
    added = ((k * left.to(k.dtype)).mT @ v).to(total.dtype)
    fades = whole.exp()[..., None, None]
    start = torch.zeros_like(added[:, :, 0]) if state is None else state.to(total.dtype)
    return carry(fades, added, start, 2)
