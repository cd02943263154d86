"""Causal block-sparse attention: a block of queries sees some whole blocks of keys, gathered for it.

    block i sees    the first `global_blocks` blocks,
                    the last `window_blocks` up to itself (itself only up to each token), and
                    `random_blocks` of those between, drawn by a hash of i

The pattern of BigBird (Zaheer et al. 2020, arXiv:2007.14062), without those parts that would look ahead. The
blocks between are divided into `random_blocks` runs of like size, and one is drawn from each: no block is
drawn twice, and where there are no more blocks than draws, all are seen. The hash is a constant: the same in
every layer and head. If it were random, decode would see other blocks than prefill.

`attend_in_blocks` calls PyTorch's fused kernel on gathered keys; `attend_in_blocks_plainly` is the equation.
On a GPU, where `fused` verified it, FlexAttention computes the same pattern without a copy of the keys.

Shapes: B batch, T tokens, S tokens looked back at, H heads, G kv heads, K head_dim, W block length, C blocks
of queries, N blocks seen by one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import fused
from search_spaces.ops.attention import attend, pairs
from search_spaces.ops.tracing import constant

LOW_BITS = 0x7FFFFFFF
MULTIPLIERS = (0x9E3779B1, 0x5851F42D, 0x2C1B3C6D, 0x297A2D39)
"""Odd numbers with well mixed bits; products of 31 bits with them fit into 63."""


class BlockPattern(NamedTuple):
    """Tokens of a block, and how many blocks of each kind a block sees."""

    block_size: int
    window_blocks: int
    global_blocks: int
    random_blocks: int

    @property
    def width(self) -> int:
        """Blocks that a late block sees; the first so many blocks see all before them."""
        return self.global_blocks + self.window_blocks + self.random_blocks


def seen_blocks(block: Tensor, pattern: BlockPattern) -> Tensor:
    """The blocks [..., N] that blocks of these indices see, the latest last; -1 where there are fewer."""
    block = block[..., None]
    first = torch.arange(pattern.global_blocks, device=block.device)
    near = block + torch.arange(1 - pattern.window_blocks, 1, device=block.device)
    parts = (
        torch.where(first <= block, first, -1),
        _drawn(block, pattern),
        torch.where(near >= pattern.global_blocks, near, -1),
    )
    return torch.cat(parts, dim=-1)


def seen_tokens(position: Tensor, pattern: BlockPattern) -> tuple[Tensor, Tensor]:
    """The tokens [..., N W] that those at `position` see, the latest last; and whether each is one."""
    size = pattern.block_size
    blocks = seen_blocks(position // size, pattern)
    token = (blocks[..., None] * size + torch.arange(size, device=position.device)).flatten(-2)
    return token, (token >= 0) & (token <= position[..., None])


def sees(query: Tensor, key: Tensor, pattern: BlockPattern) -> Tensor:
    """Whether a token at position `query` sees the one at `key`; positions broadcast."""
    query, key = torch.broadcast_tensors(query, key)
    size = pattern.block_size
    listed = seen_blocks(query // size, pattern) == (key // size)[..., None]
    return listed.any(-1) & (key <= query)


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, pattern: BlockPattern) -> Tensor:
    """Outputs [B, H, T, K] of queries [B, H, T, K] over keys and values [B, G, S, K] of all tokens so far.

    The queries are those of the last T of S tokens.
    """
    if q.shape[2] == k.shape[2] and _sees_all(q.shape[2], pattern):
        return attend(q, k, v)
    if q.shape[2] == k.shape[2] and fused.calls_kernel("block-sparse attention", q):
        layout = _layout(q.shape[2], tuple(pattern), q.device)
        if pattern.block_size % fused.BLOCK == 0:  # the kernel only computes blocks that are seen
            return fused.attend_in_layout(q, k, v, _earlier, layout)
        blocks = -(-q.shape[2] // pattern.block_size)
        table = _constant_table(blocks, tuple(pattern), q.device)
        return fused.attend_in_layout(q, k, v, partial(_seen, table=table, size=pattern.block_size), layout)
    return gather_and_attend(q, k, v, pattern)


def attend_in_blocks_plainly(q: Tensor, k: Tensor, v: Tensor, pattern: BlockPattern) -> Tensor:
    """The same with all T x S scores."""
    key = torch.arange(k.shape[2], device=q.device)
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
    seen = sees(key[-q.shape[2] :, None], key, pattern)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ v


def gather_and_attend(q: Tensor, k: Tensor, v: Tensor, pattern: BlockPattern) -> Tensor:
    """The same by gathering, also where every token sees all."""
    size, (batch, heads, count, _), end = pattern.block_size, q.shape, k.shape[2]
    lead = (end - count) % size
    blocks = -(-(lead + count) // size)
    q = F.pad(q, (0, 0, lead, blocks * size - lead - count))
    q = q.unflatten(2, (blocks, size)).permute(2, 0, 1, 3, 4).flatten(1, 2)
    first = (end - count) // size
    place = first * size + torch.arange(blocks * size, device=q.device)
    rows = _constant_rows if torch.compiler.is_dynamo_compiling() else _rows
    tokens = rows(first, blocks, tuple(pattern), q.device)
    seen = (tokens >= 0)[:, None] & (tokens[:, None] <= place.view(blocks, size, 1))
    index = tokens.clamp(0, end - 1).flatten()
    # heads beside the batch, and rows of all heads together, suit the gathering and the kernel
    k, v = (
        part.permute(2, 0, 1, 3)
        .flatten(1, 2)
        .contiguous()
        .index_select(0, index)
        .unflatten(0, (blocks, -1))
        .transpose(1, 2)
        for part in (k, v)
    )
    grouped = bool(k.shape[1] != q.shape[1])
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None], enable_gqa=grouped)
    if torch.compiler.is_exporting():
        y = y.contiguous()  # the strides that are traced here are those of one kernel of PyTorch
    return y.unflatten(1, (batch, heads)).permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, lead : lead + count]


def block_pairs(count: int, pattern: BlockPattern) -> int:
    """Query-key pairs that `attend_in_blocks` computes for `count` tokens."""
    if _sees_all(count, pattern):
        return pairs(count, None)
    size = pattern.block_size
    return -(-count // size) * size * pattern.width * size


def _rows(first: int, blocks: int, pattern: tuple[int, ...], device: torch.device) -> Tensor:
    """The tokens [C, N W] that blocks of queries from `first` on see; below zero where there is none."""
    layout = BlockPattern(*pattern)
    return seen_tokens(
        torch.arange(first + 1, first + blocks + 1, device=device) * layout.block_size - 1, layout
    )[0]


def _table(count: int, pattern: tuple[int, ...], device: torch.device) -> Tensor:
    """Whether each of `count` blocks sees each [C, C]."""
    listed = seen_blocks(torch.arange(count, device=device), BlockPattern(*pattern))
    table = torch.zeros(count, count + 1, dtype=torch.bool, device=device)
    return table.scatter_(1, listed.where(listed >= 0, count), True)[:, :count].contiguous()


_constant_table = constant(_table)
"""The same for a compiled graph."""


def _seen(query: Tensor, key: Tensor, table: Tensor, size: int) -> Tensor:
    """Whether a token sees another, by the table of blocks."""
    return table[query // size, key // size] & (key <= query)


def _earlier(query: Tensor, key: Tensor) -> Tensor:
    """The same among blocks that see each other."""
    return key <= query


@constant
def _layout(count: int, pattern: tuple[int, ...], device: torch.device) -> fused.Layout:
    return _layout_once(count, pattern, device)


@cache
def _layout_once(count: int, pattern: tuple[int, ...], device: torch.device) -> fused.Layout:
    table = _table(-(-count // pattern[0]), pattern, device)
    return fused.block_layout(partial(_seen, table=table, size=pattern[0]), count, device)


_constant_rows = constant(_rows)
"""The same for a compiled graph, which need not compute it again at every call."""


def _sees_all(count: int, pattern: BlockPattern) -> bool:
    return count <= pattern.width * pattern.block_size


def _drawn(block: Tensor, pattern: BlockPattern) -> Tensor:
    """One block of each run between the global ones and the window [..., random_blocks]; -1 if empty."""
    runs, first = pattern.random_blocks, pattern.global_blocks
    run = torch.arange(runs, device=block.device)
    between = (block - pattern.window_blocks - first + 1).clamp(min=0)
    low, high = run * between // max(runs, 1), (run + 1) * between // max(runs, 1)
    drawn = first + low + _mixed(block, run) % (high - low).clamp(min=1)
    return torch.where(high > low, drawn, -1)


def _mixed(block: Tensor, run: Tensor) -> Tensor:
    """A pseudo-random number of 31 bits from two small ones."""
    of_block, of_run, *folds = MULTIPLIERS
    x = (block * of_block + (run + 1) * of_run) & LOW_BITS
    for multiplier in folds:
        x = ((x ^ (x // 2**15)) * multiplier) & LOW_BITS
    return x ^ (x // 2**15)  # a shift, which not every runtime has


def _examples(attend: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Outputs [B, H, T, 2 K] of blocks in parts, and of whole ones, of those that the kernel computes."""
    patterns = (BlockPattern(16, 3, 1, 2), BlockPattern(fused.BLOCK, 1, 1, 0))
    return torch.cat([attend(q, k, v, pattern) for pattern in patterns], dim=-1)


fused.forms["block-sparse attention"] = (
    partial(_examples, attend_in_blocks),
    partial(_examples, attend_in_blocks_plainly),
)
