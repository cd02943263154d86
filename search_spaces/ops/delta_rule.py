"""The delta rule, plain or with a decay: every token corrects what the memory holds under its key, in chunks.

    S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}' k_t)'      y_t = S_t' q_t      a_t = exp(g_t), g_t <= 0

Yang et al. 2024, arXiv:2406.06484 (a = 1), and Yang et al. 2024, arXiv:2412.06464. Keys are of length one at
most and b in [0, 2], so that the memory does not grow. Within a chunk that begins with memory S, and with G_t
the running sum of g, the corrections u_t = b_t (v_t - a_t S_{t-1}' k_t) solve a triangular system (the WY
form),

    u_t + sum_{s<t} b_t exp(G_t - G_s) (k_t . k_s) u_s = b_t (v_t - exp(G_t) S' k_t)

which is linear in v and in S: both right-hand sides are solved for all chunks at once, then S is carried from
chunk to chunk. Systems, decays and states are in float32, or float64 where the input is.

Shapes: B batch, T tokens, H heads, N state_dim (of q and k), P head_dim (of v), C chunks, L chunk length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import dispatch
from search_spaces.ops.decay_attention import fits, tile_of
from search_spaces.ops.precision import chooses_types
from search_spaces.ops.recursion import counts_launches, joined
from search_spaces.ops.triangles import unit_triangular_inverse

KERNEL = dispatch.register("delta rule", "delta_rule", multiplies=True)
CHUNK = 64


@chooses_types(factors=3)
def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    g: Tensor | None = None,
    *,
    state: Tensor | None = None,
    final: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Outputs [B, T, H, P] and, if `final`, the state [B, H, N, P] after the last token.

    q and k are [B, T, H, N], v is [B, T, H, P], b and g are [B, T, H]; without g nothing fades.
    """
    g = torch.zeros_like(b, dtype=torch.promote_types(b.dtype, torch.float32)) if g is None else g
    if fits(q, k, v) and dispatch.runs(KERNEL, q, k, v, b, g, tile=tile_of(q, v)):
        start = None if state is None else _exact(state)
        y, last, *_ = dispatch.load(KERNEL).delta_rule(q, k, v, b, _exact(g), start)
        return y, last if final else None
    count = v.shape[1]
    length = min(CHUNK, count)
    q, k, v = (_chunked(part, length) for part in (q, k, v))
    b, g = (_chunked(_exact(part), length) for part in (b, g))
    total = g.cumsum(-1)
    # the future would overflow, so it is held at one here and dropped from the products
    fade = (total[..., :, None] - total[..., None, :]).clamp(max=0).exp()
    written, erased = _corrections(k, v, b, total, fade)
    read = (q @ k.mT) * _lower(fade).to(q.dtype)
    if state is None and not final and v.shape[2] == 1:
        y, last = read @ written.to(v.dtype), None
    else:
        left = (total[..., -1:] - total).exp()[..., None]
        before, u, last = _carry((_exact(k) * left).mT, written, erased, total[..., -1].exp(), state=state)
        y = read @ u.to(v.dtype) + (q * total.exp()[..., None].to(q.dtype)) @ before.to(q.dtype)
    return y.flatten(2, 3).transpose(1, 2)[:, :count], last if final else None


def delta_rule_plainly(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor | None = None, *, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same by its recurrence, one token at a time."""
    g = torch.zeros_like(b) if g is None else g
    memory = v.new_zeros(*k.shape[:1], *k.shape[2:], v.shape[-1]) if state is None else state
    outputs = []
    for q_t, k_t, v_t, b_t, g_t in zip(*(part.unbind(1) for part in (q, k, v, b, g)), strict=True):
        y, memory = delta_rule_step(q_t, k_t, v_t, b_t, g_t, state=memory)
        outputs.append(y)
    return torch.stack(outputs, dim=1), memory


@chooses_types(factors=3)
def delta_rule_step(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor | None = None, *, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: q, k [B, H, N], v [B, H, P], b, g [B, H], state [B, H, N, P]; output and new state."""
    b, key = _exact(b)[..., None], _exact(k)
    state = state.to(key.dtype)
    if g is not None:
        state = state * _exact(g).exp()[..., None, None]
    held = (key[..., None, :] @ state)[..., 0, :]
    state = torch.addcmul(state, (b * key)[..., :, None], (v - held)[..., None, :])
    return (q[..., None, :] @ state.to(q.dtype))[..., 0, :], state


def products(count: int, heads: int, state_dim: int, head_dim: int) -> int:
    """Multiply-adds in matrix products of `delta_rule`, for a batch of one.

    The triangular solves are left out: counters of FLOPs do not include them.
    """
    length = min(CHUNK, count)
    per_token = 2 * length * state_dim + length * head_dim + 3 * state_dim * head_dim
    return heads * (count + -count % length) * per_token


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float64 else x.float()


def _chunked(x: Tensor, length: int) -> Tensor:
    """[B, T, H, ...] as [B, H, C, L, ...], padded with zeros."""
    fill = -x.shape[1] % length
    if fill:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, fill))
    return x.transpose(1, 2).contiguous().unflatten(2, (-1, length))


def _lower(square: Tensor, diagonal: int = 0) -> Tensor:
    """[..., L, L] without what is above a diagonal."""
    length = square.shape[-1]
    return square * torch.ones(length, length, dtype=square.dtype, device=square.device).tril(diagonal)


def _corrections(k: Tensor, v: Tensor, b: Tensor, total: Tensor, fade: Tensor) -> tuple[Tensor, Tensor]:
    """The solution of every chunk's system for v [B, H, C, L, P], and for the memory [B, H, C, L, N]."""
    k, v, b = _exact(k), _exact(v), b[..., None]
    system = _lower((k @ k.mT) * fade * b, -1)
    sides = torch.cat((v * b, k * (b * total.exp()[..., None])), dim=-1)
    if torch.compiler.is_exporting():
        solved = unit_triangular_inverse(system) @ sides
    else:
        solved = torch.linalg.solve_triangular(system, sides, upper=False, unitriangular=True)
    written, erased = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    return written, erased


def _carry(
    k: Tensor, written: Tensor, erased: Tensor, fades: Tensor, *, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The memory before every chunk [B, H, C, N, P], the corrections [B, H, C, L, P], the memory at the end.

    k [B, H, C, N, L] has faded until the end of its chunk; fades [B, H, C] are those of whole chunks.
    """
    shape = (*k.shape[:2], k.shape[-2], written.shape[-1])
    memory = written.new_zeros(shape) if state is None else state.to(written.dtype)
    if counts_launches(k):
        return _carry_joined(k, written, erased, fades, memory)
    befores, corrections = [], []
    parts = (part.unbind(2) for part in (k, written, erased, fades[..., None, None]))
    for key, new, old, fade in zip(*parts, strict=True):
        befores.append(memory)
        corrections.append(new - old @ memory)
        memory = memory * fade + key @ corrections[-1]
    return torch.stack(befores, dim=2), torch.stack(corrections, dim=2), memory


def _carry_joined(
    k: Tensor, written: Tensor, erased: Tensor, fades: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the chunks joined: a chunk takes memory S to (fade - k erased) S + k written."""
    fade = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device) * fades[..., None, None]
    after = joined(fade - k @ erased, k @ written, memory, 2, torch.matmul)
    before = torch.cat((memory[:, :, None], after[:, :, :-1]), dim=2)
    return before, written - erased @ before, after[:, :, -1]
