"""Linear attention whose memory fades by its own rate in every channel of the key, in chunks.

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t'        y_t = S_t' q_t        g_t <= 0, one per channel

Gated linear attention (Yang et al. 2023, arXiv:2312.06635, section 4). With a `bonus` u a token reads the
memory before it is written, as in RWKV-6 (Peng et al. 2024, arXiv:2404.05892),

    y_t = (S_{t-1} + diag(u) k_t v_t')' q_t

Splitting the decay between two tokens into a factor of the query and one of the key would overflow if both
were taken from the start of a chunk. So a chunk is built from runs of tokens that double in length: the later
of two neighbours reads the earlier one through their boundary, where both factors are at most one. When two
runs are joined, factors grow by the product of decays of the run that came between: no exponent but g itself
is ever formed, so strong decays are exact zeros, and nothing overflows or cancels.

The gradient is written out. With G the running sum of g, a query enters with exp(G) and a key with exp(-G):
the gradient of G is q * dq - k * dk, and that of g its running sum from the end. Decays and states are in
float32, or float64 where the input is.

Shapes: B batch, T tokens, H heads, N state_dim (of q, k and g), P head_dim (of v), C chunks, L chunk length,
w length of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.ops import dispatch
from search_spaces.ops.decay_attention import fits, tile_of
from search_spaces.ops.precision import chooses_types, own_types
from search_spaces.ops.recursion import carry
from search_spaces.ops.triangles import assembled

KERNEL = dispatch.register("linear attention with a decay per channel", "gated_attention", multiplies=True)
CHUNK = 64


@chooses_types(factors=3)
def gated_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    state: Tensor | None = None,
    *,
    bonus: Tensor | None = None,
    final: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Outputs [B, T, H, P] and, if `final`, the state [B, H, N, P] after the last token.

    q, k and g are [B, T, H, N], v is [B, T, H, P], bonus is [H, N].
    """
    if fits(q, k, v) and dispatch.runs(KERNEL, q, k, v, g, tile=tile_of(q, v)):
        start = None if state is None else _exact(state)
        y, last = dispatch.load(KERNEL).channel_decay(q, k, v, g, bonus, start)
        return y, last if final else None
    count = v.shape[1]
    length = _chunk(count)
    own = (q * k if bonus is None else q * k * bonus).sum(-1, keepdim=True).to(v.dtype)
    fill = -count % length
    if fill:
        q, k, v, g, own = (F.pad(part, (0, 0, 0, 0, 0, fill)) for part in (q, k, v, g, own))
    q, k, v, g, own = (
        part.transpose(1, 2).contiguous().unflatten(2, (-1, length)) for part in (q, k, v, g, own)
    )
    g = _exact(g)
    if state is None:
        state = torch.zeros_like(g[:, :, 0, 0, :, None] * v[:, :, 0, :1].to(g.dtype))
    y, last = _GatedAttention.apply(bonus is None, q, k, v, g, own, state.to(g.dtype))
    return y.flatten(2, 3).transpose(1, 2)[:, :count], last if final else None


def gated_attention_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    state: Tensor | None = None,
    *,
    bonus: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same by its recurrence, one token at a time."""
    memory = v.new_zeros(*k.shape[:1], *k.shape[2:], v.shape[-1]) if state is None else state
    outputs = []
    for q_t, k_t, v_t, g_t in zip(q.unbind(1), k.unbind(1), v.unbind(1), g.unbind(1), strict=True):
        y, memory = gated_attention_step(q_t, k_t, v_t, g_t, memory, bonus=bonus)
        outputs.append(y)
    return torch.stack(outputs, dim=1), memory


@chooses_types(factors=3)
def gated_attention_step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, *, bonus: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token: q, k, g [B, H, N], v [B, H, P], state [B, H, N, P]; the output and the new state."""
    fade = _exact(g).exp()[..., None]
    added = (k[..., :, None] * v[..., None, :]).to(fade.dtype)
    state = state.to(fade.dtype)
    new = torch.addcmul(added, state, fade)
    if bonus is None:
        return (q[..., None, :] @ new.to(q.dtype))[..., 0, :], new
    y = (q[..., None, :] @ state.to(q.dtype))[..., 0, :]
    return y + (q * k * bonus).sum(-1, keepdim=True).to(v.dtype) * v, new


def products(count: int, heads: int, state_dim: int, head_dim: int) -> int:
    """Multiply-adds in matrix products of `gated_attention`, for a batch of one."""
    length = _chunk(count)
    chunks = (count + -count % length) // length
    pairs = length * (length - 1) // 2
    return heads * chunks * (pairs * state_dim + length * (length + 2 * state_dim) * head_dim)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float64 else x.float()


def _chunk(count: int) -> int:
    """The chunk length for `count` tokens: a power of two, for joining runs."""
    return min(CHUNK, 1 << (count - 1).bit_length())


@own_types
class _GatedAttention(torch.autograd.Function):
    """q, k, g [B, H, C, L, N], v [B, H, C, L, P], own [B, H, C, L, 1] and the state [B, H, N, P].

    `own` is the weight of a token's own value; `after` says that the memory is read after it is written.
    """

    @staticmethod
    def forward(ctx: Any, after: bool, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.after = after
        if torch.compiler.is_dynamo_compiling():
            ctx.save_for_backward(*inputs)
            y, last = _whole(after, *inputs)
            return y, last
        y, last, saved = _values(after, *inputs)
        ctx.save_for_backward(*saved)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_dynamo_compiling():
            return None, *_whole_back(ctx.after, *ctx.saved_tensors, *grads)
        return None, *_gradients(ctx.after, ctx.saved_tensors, *grads)


def _values(
    after: bool, q: Tensor, k: Tensor, v: Tensor, g: Tensor, own: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """Outputs, the state after the last token, and what the gradient needs."""
    fade = g.exp()
    q_read = _exact(q) * fade if after else _exact(q).clone()
    k_left = _exact(k).clone()
    if torch.compiler.is_exporting():
        q_read, k_left, scores, whole = _joined_apart(q_read, k_left, fade, own)
        levels: list[Tensor] = []
    else:
        scores, whole, levels = _join(q_read, k_left, fade, own)
    q_read, k_left = q_read.to(q.dtype), k_left.to(k.dtype)
    memory = _carry((k_left.mT @ v).to(g.dtype), whole, state)
    y = (scores @ v).add_(q_read @ memory[:, :, :-1].to(q.dtype))
    return y, memory[:, :, -1].clone(), (q, k, v, fade, scores, q_read, k_left, whole, memory, *levels)


def _gradients(
    after: bool, saved: Sequence[Tensor], to_y: Tensor, to_last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the inputs of `_values`."""
    q, k, v, fade, scores, q_read, k_left, whole, memory, *levels = saved
    exact = memory.dtype
    to_memory = _carry((q_read.mT @ to_y).to(exact).flip(2), whole.flip(2), to_last).flip(2)
    to_after = to_memory[:, :, 1:].to(v.dtype)
    to_v = (scores.mT @ to_y).add_(k_left @ to_after)
    to_q = (to_y @ memory[:, :, :-1].to(q.dtype).mT).to(exact)
    to_k = (v @ to_after.mT).to(exact)
    to_scores = to_y @ v.mT
    _split(to_scores, to_q, to_k, levels)
    if after:
        to_q *= fade
    by_q = q * to_q
    to_g = _sums_from_the_end(by_q.addcmul(k, to_k, value=-1))
    if not after:
        to_g -= by_q
    to_g += (memory[:, :, 1:] * to_memory[:, :, 1:]).sum(-1)[..., None, :]
    to_own = to_scores.diagonal(dim1=-2, dim2=-1)[..., None]
    return to_q.to(q.dtype), to_k.to(k.dtype), to_v, to_g, to_own, to_memory[:, :, 0]


# one operation each for a compiler, which would take minutes to fuse the levels of a chunk; the gradient
# computes the outputs again
@torch.library.custom_op("nas::gated_attention", mutates_args=())
def _whole(
    after: bool, q: Tensor, k: Tensor, v: Tensor, g: Tensor, own: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    return _values(after, q, k, v, g, own, state)[:2]


@torch.library.custom_op("nas::gated_attention_back", mutates_args=())
def _whole_back(
    after: bool,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    own: Tensor,
    state: Tensor,
    to_y: Tensor,
    to_last: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    saved = _values(after, q, k, v, g, own, state)[2]
    to_q, to_k, to_v, to_g, to_own, to_state = _gradients(after, saved, to_y, to_last)
    return to_q, to_k, to_v, to_g, to_own.contiguous(), to_state.contiguous()


@_whole.register_fake
def _(
    after: bool, q: Tensor, k: Tensor, v: Tensor, g: Tensor, own: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(v), torch.empty_like(state)


@_whole_back.register_fake
def _(
    after: bool,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    own: Tensor,
    state: Tensor,
    to_y: Tensor,
    to_last: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(x) for x in (q, k, v, g, own, state))  # type: ignore[return-value]


def _carry(added: Tensor, fades: Tensor, first: Tensor) -> Tensor:
    """The memory before every chunk and after the last [B, H, C + 1, N, P], for fades [B, H, C, N]."""
    before, last = carry(fades[..., None], added, first, 2)
    return torch.cat((before, last[:, :, None]), dim=2)


def _sums_from_the_end(x: Tensor) -> Tensor:
    """Running sums [..., L, N] over L, from its end: a product with a triangle is faster than flips."""
    return torch.ones(x.shape[-2], x.shape[-2], dtype=x.dtype, device=x.device).triu() @ x


def _halves(x: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The earlier and the later of each two neighbouring runs [..., n, w, *] in x [..., L, *]."""
    early, late = x.unflatten(-2, (-1, 2, width)).unbind(-3)
    return early, late


def _block(scores: Tensor, width: int) -> Tensor:
    """Where the later of two neighbouring runs reads the earlier: [..., n, w, w] of scores [..., L, L]."""
    tiles = scores.unflatten(-1, (-1, 2 * width)).unflatten(-3, (-1, 2 * width))
    return tiles.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)[..., width:, :width]


def _join(q: Tensor, k: Tensor, fade: Tensor, own: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Scores [B, H, C, L, L] of a chunk from its runs, beginning with single tokens.

    Also the fade of whole chunks [B, H, C, N], and what each level needs for its gradient. In place, q fades
    since the chunk began, and k until it ends.
    """
    scores, saved, width = torch.diag_embed(own[..., 0]), [], 1
    while width < q.shape[-2]:
        (k_early, _), (_, q_late) = _halves(k, width), _halves(q, width)
        late, early = q_late.to(own.dtype, copy=True), k_early.to(own.dtype, copy=True)
        _block(scores, width).copy_(late @ early.mT)
        first, second = _halves(fade, 1)
        q_late *= first
        k_early *= second
        saved += [late, early, first, second]
        fade, width = (first * second).squeeze(-2), 2 * width
    return scores, fade.squeeze(-2), saved


def _joined_apart(q: Tensor, k: Tensor, fade: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same without writing in place: q and k, faded, scores, and the fade of whole chunks.

    With few axes meanwhile, because kernels of phones have at most six.
    """
    lead = q.shape[:3]
    q, k, fade, own = (part.flatten(0, 2) for part in (q, k, fade, own))
    tiles, width = own[..., None], 1
    while width < q.shape[-2]:
        (k_early, k_late), (q_early, q_late) = _halves(k, width), _halves(q, width)
        tiles = assembled(tiles, q_late.to(own.dtype) @ k_early.to(own.dtype).mT)
        first, second = _halves(fade, 1)
        q = torch.stack((q_early, q_late * first), dim=-3).flatten(-4, -2)
        k = torch.stack((k_early * second, k_late), dim=-3).flatten(-4, -2)
        fade, width = (first * second).squeeze(-2), 2 * width
    q, k, scores, fade = (x.unflatten(0, lead) for x in (q, k, tiles.squeeze(-3), fade.squeeze(-2)))
    return q, k, scores, fade


def _split(to_scores: Tensor, to_q: Tensor, to_k: Tensor, saved: list[Tensor]) -> None:
    """The gradient of `_join` by q and k, in place: its levels in reverse."""
    for i in range(len(saved) - 4, -1, -4):
        late, early, first, second = saved[i : i + 4]
        width = late.shape[-2]
        (to_early, _), (_, to_late) = _halves(to_k, width), _halves(to_q, width)
        to_block = _block(to_scores, width)
        to_late.mul_(first).add_(to_block @ early)
        to_early.mul_(second).add_(to_block.mT @ late)
