"""Causal softmax attention with grouped keys and values, over all earlier tokens or a pattern of them.

    y_t = sum_s softmax_s(q_t k_s / sqrt(K)) v_s     over the tokens s that t sees

With a window, t sees `window` tokens, `dilation` apart, itself the last, and the `global_tokens` first ones
(Longformer; Beltagy et al. 2020, arXiv:2004.05150). The fast forms are PyTorch's fused kernel for full
attention, and for windows the same kernel on blocks, at a cost linear in T: a block of queries sees its own
and the previous block of keys, and the global ones. With a dilation, tokens that are neighbours modulo the
dilation are made neighbours first. On a GPU, where `fused` verified it, FlexAttention computes the
windows instead. `attend_plainly` is the equation.

A `Weighing` changes how products become weights: their scale, a soft cap on them (Gemma 2, arXiv:2408.00118,
section 2), and a sink for each head, a logit that takes part in the softmax and reads nothing (gpt-oss,
arXiv:2508.10925, section 2.3). The fused kernels know of scales alone; with a cap or sinks the scores are
computed, all T x T of them without a window.

Shapes: B batch, T tokens read, S tokens looked back at, H heads, G kv heads, K head_dim, W block length,
C blocks, R dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import fused
from search_spaces.ops.tracing import constant


class Weighing(NamedTuple):
    """How products of queries and keys become weights.

    They are multiplied by `scale` (None: 1 / sqrt(K)), bent towards `cap` beyond it, and join the `sinks` [H]
    in one softmax.
    """

    scale: float | None = None
    cap: float | None = None
    sinks: Tensor | None = None

    @property
    def by_kernels(self) -> bool:
        """Whether the fused kernels compute it."""
        return self.cap is None and self.sinks is None

    def scores(self, products: Tensor, width: int, seen: Tensor | None) -> Tensor:
        """The logits of products of heads of this width; of what is not `seen`, minus infinity."""
        scale = width**-0.5 if self.scale is None else self.scale
        scores = products if scale == 1 else products * scale
        if self.cap is not None:
            scores = self.cap * torch.tanh(scores / self.cap)
        return scores if seen is None else scores.masked_fill(~seen, float("-inf"))

    def weights(self, scores: Tensor) -> Tensor:
        """The weights of scores [..., H, T, S]; the rest of the sum, up to one, is the sink's."""
        if self.sinks is None:
            return scores.softmax(-1)
        sinks = self.sinks.to(scores.dtype).repeat(
            scores.shape[-3] // len(self.sinks)
        )  # of heads beside batch
        sink = sinks[:, None, None].expand(*scores.shape[:-1], 1)
        return torch.cat((scores, sink), dim=-1).softmax(-1)[..., :-1]


USUAL = Weighing()


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    *,
    dilation: int = 1,
    global_tokens: int = 0,
    weighing: Weighing = USUAL,
) -> Tensor:
    """Outputs [B, H, T, K] of queries [B, H, T, K] over keys and values [B, G, T, K] of the same tokens."""
    if window is None or _sees_all(q.shape[2], window, dilation, global_tokens):
        if not weighing.by_kernels:
            return attend_plainly(q, k, v, weighing=weighing)
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=bool(k.shape[1] != q.shape[1]), scale=weighing.scale
        )
    if weighing is USUAL and fused.calls_kernel("windowed attention", q):
        layout = _layout(q.shape[2], window, dilation, global_tokens, q.device)
        return fused.attend_in_layout(
            q, k, v, partial(sees, window=window, dilation=dilation, global_tokens=global_tokens), layout
        )
    return _attend_blockwise(
        q, k, v, window, dilation=dilation, global_tokens=global_tokens, weighing=weighing
    )


def attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    *,
    dilation: int = 1,
    global_tokens: int = 0,
    weighing: Weighing = USUAL,
) -> Tensor:
    """The same by its equation, with all T x T scores."""
    token = torch.arange(q.shape[2], device=q.device)
    seen = sees(token[:, None], token, window, dilation=dilation, global_tokens=global_tokens)
    return _weighed(q, k, v, seen, weighing)


def sees(
    query: Tensor, key: Tensor, window: int | None, *, dilation: int = 1, global_tokens: int = 0
) -> Tensor:
    """Whether a token at position `query` sees the one at `key`; positions broadcast."""
    age = query - key
    if window is None:
        return age >= 0
    near = age < window * dilation
    # what a fused kernel need not compute for every pair
    if dilation > 1:
        near = near & (age.remainder(dilation) == 0)
    if global_tokens:
        near = near | (key < global_tokens)
    return (age >= 0) & near


def attend_to_cache(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, weighing: Weighing = USUAL) -> Tensor:
    """Outputs [B, H, T, K] of queries over any keys and values [B, G, S, K]; `seen` [T, S] says which."""
    if not weighing.by_kernels:
        return _weighed(q, k, v, seen, weighing)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=seen, enable_gqa=bool(k.shape[1] != q.shape[1]), scale=weighing.scale
    )


def _weighed(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, weighing: Weighing) -> Tensor:
    """The same by its equation."""
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
    return weighing.weights(weighing.scores(q @ k.mT, q.shape[-1], seen)) @ v


def attend_one(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Output [B, H, K] of one query [B, H, K] over keys and values [B, G, S, K].

    The heads of a group become the rows of one product, so keys and values are read once. `seen` [S] hides
    slots that hold nothing.
    """
    return attend_one_to_parts(q, [(k, v, seen)])


def attend_one_to_parts(
    q: Tensor, parts: Sequence[tuple[Tensor, Tensor, Tensor | None]], weighing: Weighing = USUAL
) -> Tensor:
    """Output [B, H, K] of one query over keys, values and what is seen of them, in several parts.

    Each part is as in `attend_one`; there is one softmax over all, and no part is copied.
    """
    width, q = q.shape[-1], q.unflatten(1, (parts[0][0].shape[1], -1))
    if weighing is USUAL:  # of the query alone, which is smaller than the products
        q, weighing = q * width**-0.5, Weighing(scale=1.0)
    found = [weighing.scores(q @ k.mT, width, seen) for k, _, seen in parts]
    scores = torch.cat(found, dim=-1) if len(found) > 1 else found[0]
    if weighing.sinks is None:
        weighed = scores.softmax(-1)  # [B, G, H / G, S]
    else:
        weighed = weighing.weights(scores.flatten(1, 2).unsqueeze(2)).view(scores.shape)
    if len(parts) == 1:
        return (weighed @ parts[0][1]).flatten(1, 2)
    weights = weighed.split([k.shape[2] for k, _, _ in parts], dim=-1)
    y = weights[0] @ parts[0][1]
    for weight, (_, v, _) in zip(weights[1:], parts[1:], strict=True):
        y = y + weight @ v
    return y.flatten(1, 2)


def pairs(
    count: int, window: int | None, *, dilation: int = 1, global_tokens: int = 0, by_kernels: bool = True
) -> int:
    """Query-key pairs that `attend` computes for `count` tokens; the fused kernel skips the future."""
    if window is None or _sees_all(count, window, dilation, global_tokens):
        return count * (count + 1) // 2 if by_kernels else count * count
    length, blocks = _blocks(count, window, dilation)
    return dilation * blocks * length * (global_tokens + min(2, blocks) * length)


@constant
def _layout(count: int, window: int, dilation: int, global_tokens: int, device: torch.device) -> fused.Layout:
    return _layout_once(count, window, dilation, global_tokens, device)


@cache
def _layout_once(
    count: int, window: int, dilation: int, global_tokens: int, device: torch.device
) -> fused.Layout:
    seen = partial(sees, window=window, dilation=dilation, global_tokens=global_tokens)
    return fused.block_layout(seen, count, device)


def _sees_all(count: int, window: int, dilation: int, global_tokens: int) -> bool:
    """Whether each of `count` tokens sees all earlier ones."""
    return count <= global_tokens or (count <= window and dilation == 1)


def _blocks(count: int, window: int, dilation: int) -> tuple[int, int]:
    """Length and number of the blocks of those tokens that are neighbours modulo the dilation."""
    neighbours = -(-count // dilation)
    length = min(window, neighbours)
    return length, -(-neighbours // length)


def _attend_blockwise(
    q: Tensor, k: Tensor, v: Tensor, window: int, *, dilation: int, global_tokens: int, weighing: Weighing
) -> Tensor:
    batch, heads, count, _ = q.shape
    length, blocks = _blocks(count, window, dilation)
    grid, shared = (blocks, length, dilation), heads // k.shape[1]
    k, v = (_seen_blocks(part, grid, global_tokens) for part in (k, v))
    if shared > 1 and torch.compiler.is_exporting():  # ONNX cannot tell heads from the batch beside them
        k, v = (part.unsqueeze(2).expand(-1, -1, shared, -1, -1).flatten(1, 2) for part in (k, v))
    seen = _block_mask(grid, window, global_tokens, q.device)
    y = attend_to_cache(_in_blocks(q, grid).flatten(0, 1), k, v, seen, weighing)
    y = y.unflatten(0, (dilation, blocks)).unflatten(2, (batch, heads))
    y = y.permute(2, 3, 1, 4, 0, 5)
    if torch.compiler.is_exporting():  # in other runtimes the kernel's output may lie otherwise in memory
        y = y.clone(memory_format=torch.contiguous_format)
    return y.flatten(2, 4)[:, :, :count]


def _in_blocks(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """x [B, H, T, K] as [R, C, BH, W, K]: token (c W + w) R + r. Heads beside the batch suit the kernel."""
    blocks, length, dilation = grid
    x = F.pad(x, (0, 0, 0, blocks * length * dilation - x.shape[2]))
    return x.unflatten(2, grid).permute(4, 2, 0, 1, 3, 5).flatten(2, 3)


def _seen_blocks(x: Tensor, grid: tuple[int, int, int], global_tokens: int) -> Tensor:
    """Keys or values [B, G, T, K] of each block, behind those of its predecessor and the global ones."""
    own = _in_blocks(x, grid)
    parts = [own]
    if grid[0] > 1:
        parts.insert(0, F.pad(own[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)))
    if global_tokens:
        parts.insert(0, x[:, :, :global_tokens].flatten(0, 1).expand(*own.shape[:2], -1, -1, -1))
    return torch.cat(parts, dim=3).flatten(0, 1)


def _block_mask(grid: tuple[int, int, int], window: int, global_tokens: int, device: torch.device) -> Tensor:
    """What the queries of each block see of its keys [RC, 1, W, S]: global tokens only as such."""
    blocks, length, dilation = grid
    before = length * (min(2, blocks) - 1)
    place = torch.arange(length, device=device)[:, None]
    key_place = torch.arange(-before, length, device=device)
    near = (key_place <= place) & (key_place > place - window)
    offset = torch.arange(dilation, device=device)[:, None] + dilation * length * torch.arange(
        blocks, device=device
    )
    offset = offset.flatten()[:, None, None]
    seen = near & (offset + dilation * key_place >= global_tokens)
    if global_tokens:
        first = torch.arange(global_tokens, device=device) <= offset + dilation * place
        seen = torch.cat((first, seen), dim=2)
    return seen[:, None]


fused.forms["windowed attention"] = (
    partial(attend, window=70, global_tokens=3),
    partial(attend_plainly, window=70, global_tokens=3),
)
