"""Block-sparse attention: a block of tokens reads the first blocks, the latest ones and some drawn by hash.

    y_t = W_o concat_h sum_s softmax_s(q_th k_sg / sqrt(K)) v_sg        s in blocks that the block of t sees

The causal form of BigBird (Zaheer et al. 2020, arXiv:2007.14062), with rotary positions; see
`search_spaces.ops.block_sparse` for the pattern.

The state. A token that no later one can see need not be kept. Without random blocks that is every token
behind the window that is not in a global block: decode keeps a ring of `window_blocks` blocks and the global
rows. With random blocks every block may be drawn by some later one, however late, since the hash
draws from all: every token must be kept, so reading is saved, not memory.

Shapes: B batch, T tokens read, S tokens looked back at, D d_model, H heads, G kv heads, K head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_equal_groups, check_even_numbers, check_whole_numbers
from search_spaces.blocks.layouts import GROUPED_HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.attention import attend_one, attend_one_to_parts
from search_spaces.ops.block_sparse import BlockPattern, attend_in_blocks, block_pairs, seen_tokens, sees
from search_spaces.ops.cache import attend_with_cache, slot_positions, write_keys_values
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.rotary import rotate
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class BlockSparseAttention(Block):
    """Softmax attention over blocks of `block_size` tokens; the other counts are blocks that one sees."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    num_heads: int = 4
    num_kv_heads: int = 4
    head_dim: int = 32
    block_size: int = 16
    window_blocks: int = 3
    global_blocks: int = 1
    random_blocks: int = 2

    @classmethod
    def examples(cls) -> tuple[BlockSparseAttention, ...]:
        """All kinds of blocks, and those whose state is a ring."""
        small = cls(num_heads=4, num_kv_heads=4, head_dim=8, block_size=4, window_blocks=2, random_blocks=2)
        return (
            small,
            replace(small, num_kv_heads=2, block_size=3, global_blocks=0, window_blocks=1, random_blocks=1),
            replace(small, num_kv_heads=1, global_blocks=2, random_blocks=0),
            replace(small, global_blocks=0, random_blocks=0),
        )

    @classmethod
    def open_forms(cls) -> tuple[BlockSparseAttention, ...]:
        """Keys and values per head or shared by all, in blocks of two sizes."""
        return (cls(num_heads=4, head_dim=16, num_kv_heads=one_of(1, 4), block_size=one_of(8, 16)),)

    def check(self, d_model: int) -> None:
        """Heads must fall into equal groups; rotary positions need pairs of channels."""
        check_whole_numbers(self, "num_heads", "num_kv_heads", "head_dim", "block_size", "window_blocks")
        for name in ("global_blocks", "random_blocks"):
            if getattr(self, name) != 0:
                check_whole_numbers(self, name)
        check_equal_groups(self)
        check_even_numbers(self, "head_dim")

    @property
    def pattern(self) -> BlockPattern:
        """Who sees whom."""
        return BlockPattern(self.block_size, self.window_blocks, self.global_blocks, self.random_blocks)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return BlockSparseAttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Keys and values of all tokens, or of the window and the global blocks."""
        heads, width = self.num_kv_heads, self.head_dim
        reach = None if self.random_blocks else self.window_blocks * self.block_size
        shape = StateShape((heads, width), per_token=True, limit=reach)
        if self.random_blocks or not self.global_blocks:
            return {"k": shape, "v": shape}
        first = StateShape((heads, self.global_blocks * self.block_size, width))
        return {"k": shape, "v": shape, "k_global": first, "v_global": first}

    def layout(self) -> Layout:
        """Rotary positions give the channels of keys an order."""
        return Layout(GROUPED_HEADS, "DGHV", {"H": "G"})

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and two products for each pair of tokens."""
        params = 2 * d_model * self.head_dim * (self.num_heads + self.num_kv_heads)
        per_pair = 2 * self.num_heads * self.head_dim
        prefill = scenario.prompt * params + per_pair * block_pairs(scenario.prompt, self.pattern)
        decode = params + per_pair * self._read(scenario.decode_position)
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)

    def _read(self, position: int) -> int:
        """Cached tokens that `step` reads."""
        size, count = self.block_size, position + 1
        if not self.random_blocks:
            return min(count, self.window_blocks * size) + min(count, self.global_blocks * size)
        return min(count, (self.pattern.width - 1) * size + position % size + 1)


class BlockSparseAttentionMixer(Mixer):
    """The module of `BlockSparseAttention`."""

    def __init__(self, spec: BlockSparseAttention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.pattern = spec.pattern
        self.wq = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim, d_model))
        self.wk = nn.Parameter(torch.empty(spec.num_kv_heads, spec.head_dim, d_model))
        self.wv = nn.Parameter(torch.empty(spec.num_kv_heads, spec.head_dim, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, spec.num_heads, spec.head_dim))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.wq, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v = self._project(x, position)
        if state is None or position == 0:
            y = attend_in_blocks(q, k, v, self.pattern)
            kept = None if state is None else write_keys_values(state, k, v, position)
        elif self.pattern.random_blocks:
            kept, end = write_keys_values(state, k, v, position), position + x.shape[1]
            y = attend_in_blocks(q, kept["k"][:, :, :end], kept["v"][:, :, :end], self.pattern)
        else:
            y, kept = attend_with_cache(q, k, v, state, position, sees=self._sees, ring=True)
        return Mixed(merge(y.transpose(1, 2), self.wo), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; with a position on the device, shapes do not depend on it."""
        q, k, v = self._project(x[:, None], position)
        state = write_keys_values(state, k, v, position)
        attend_one_token = self._attend_gathered if self.pattern.random_blocks else self._attend_ring
        return merge(attend_one_token(q[:, :, 0], state, position), self.wo), state

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """Keys and values only."""
        _, k, v = self._project(x[:, None], position)
        return write_keys_values(state, k, v, position)

    def _project(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, K], keys and values [B, G, T, K] of x [B, T, D]."""
        q, k, v = (project(x, weight).transpose(1, 2) for weight in (self.wq, self.wk, self.wv))
        return rotate(q, position), rotate(k, position), v

    def _attend_gathered(self, q: Tensor, state: State, position: int | Tensor) -> Tensor:
        """The token at `position`, already in the state, over the blocks that it sees of all."""
        k, v, pattern = state["k"], state["v"], self.pattern
        most = pattern.width * pattern.block_size
        if isinstance(position, int):
            if position < most:
                return attend_one(q, k[:, :, : position + 1], v[:, :, : position + 1])
            token, _ = seen_tokens(torch.full((), position, device=q.device), pattern)
            token, seen = token[: most - pattern.block_size + position % pattern.block_size + 1], None
        elif k.shape[2] <= most:
            return attend_one(q, k, v, torch.arange(k.shape[2], device=q.device) <= position)
        else:
            token, seen = seen_tokens(position, pattern)
            token = token.clamp(0, k.shape[2] - 1)
        return attend_one(q, k.index_select(2, token), v.index_select(2, token), seen)

    def _attend_ring(self, q: Tensor, state: State, position: int | Tensor) -> Tensor:
        """The token at `position`, already in the state, over the global blocks and the window."""
        k, v, size = state["k"], state["v"], self.pattern.block_size
        first = self.pattern.global_blocks * size
        key = slot_positions(k.shape[2], position + 1, q.device)
        if isinstance(position, int):
            k, v, key = k[:, :, : position + 1], v[:, :, : position + 1], key[: position + 1]
        oldest = (position // size - self.pattern.window_blocks + 1) * size
        seen = (key >= oldest) & (key >= first)
        if not first:
            return attend_one(q, k, v, seen)
        k_first, v_first, seen_first = state["k_global"], state["v_global"], None
        if isinstance(position, int):
            k_first, v_first = k_first[:, :, : position + 1], v_first[:, :, : position + 1]
        else:
            seen_first = torch.arange(first, device=q.device) <= position
        return attend_one_to_parts(q, [(k_first, v_first, seen_first), (k, v, seen)])

    def _sees(self, query: Tensor, key: Tensor) -> Tensor:
        return sees(query, key, self.pattern)
