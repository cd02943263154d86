"""Causal softmax attention with grouped keys and values, over all earlier tokens or a window of them.

    y_t = sum_s softmax_s(q_t k_s / sqrt(K)) v_s     over s with t - window < s <= t

The fast forms are PyTorch's fused kernel for full attention, and for windows a blockwise form whose cost is
linear in T: a block of queries sees its own and the previous block of keys. `attend_plainly` is the equation.

Shapes: B batch, T tokens read, S tokens looked back at, H heads, G kv heads, K head_dim, W window, C blocks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Outputs [B, H, T, K] of queries [B, H, T, K] over keys and values [B, G, T, K] of the same tokens."""
    if window is None or window >= q.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != q.shape[1])
    return _attend_blockwise(q, k, v, window)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """The same by its equation, with all T x T scores."""
    count = q.shape[2]
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
    age = torch.arange(count)[:, None] - torch.arange(count)[None, :]
    seen = (age >= 0) & (age < (window or count))
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen.to(q.device), float("-inf"))
    return scores.softmax(-1) @ v


def attend_to_cache(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Outputs [B, H, T, K] of queries over any keys and values [B, G, S, K]; `seen` [T, S] says which."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=k.shape[1] != q.shape[1])


def attend_one(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Output [B, H, K] of one query [B, H, K] over keys and values [B, G, S, K].

    The heads of a group become the rows of one product, so keys and values are read once. `seen` [S] hides
    slots that hold nothing.
    """
    groups = k.shape[1]
    q = q.unflatten(1, (groups, -1))
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    return (scores.softmax(-1) @ v).flatten(1, 2)


def pairs(count: int, window: int | None) -> int:
    """Query-key pairs that `attend` computes for `count` tokens; the fused kernel skips the future."""
    if window is None or window >= count:
        return count * (count + 1) // 2
    blocks = -(-count // window)
    return blocks * window * 2 * window


def _attend_blockwise(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    count = q.shape[2]
    fill = -count % window
    if k.shape[1] != q.shape[1]:
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
    q = F.pad(q, (0, 0, 0, fill)).unflatten(2, (-1, window))
    k, v = (_with_previous(F.pad(part, (0, 0, 0, fill)).unflatten(2, (-1, window))) for part in (k, v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=_block_mask(q.shape[2], window, q.device))
    return y.flatten(2, 3)[:, :, :count]


def _with_previous(blocks: Tensor) -> Tensor:
    """Blocks [B, H, C, W, K], each behind its predecessor: [B, H, C, 2W, K]."""
    before = F.pad(blocks[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat((before, blocks), dim=3)


def _block_mask(blocks: int, window: int, device: torch.device) -> Tensor:
    """What a query sees of the two blocks [C, W, 2W]; the first block has no predecessor."""
    query = torch.arange(window, device=device)[:, None] + window
    key = torch.arange(2 * window, device=device)[None, :]
    seen = (key <= query) & (key > query - window)
    first = seen & (key >= window)
    return torch.cat((first[None], seen.expand(blocks - 1, -1, -1)))
