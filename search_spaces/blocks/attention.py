"""Softmax attention: every token reads all earlier ones, or a sliding window of them.

    y_t = W_o concat_h sum_s softmax_s(q_th k_sg / sqrt(K)) v_sg        g = the group of head h

Attention (Vaswani et al. 2017, arXiv:1706.03762) with rotary positions, or without positions as in Jamba
(Lieber et al. 2024, arXiv:2403.19887). `num_kv_heads` makes it multi-head (equal to `num_heads`),
grouped-query (Ainslie et al. 2023, arXiv:2305.13245) or multi-query (1; Shazeer 2019, arXiv:1911.02150).

`window` counts the tokens looked at, the current one included. They may lie `dilation` apart, and the first
`global_tokens` of the sequence are seen by all tokens as well: the causal form of Longformer (Beltagy et
al. 2020, arXiv:2004.05150), where global tokens see all tokens before them, which are global as well. Decode
keeps a ring that reaches back to the oldest token of the window, and the global tokens.

Shapes: B batch, T tokens read, S tokens looked back at, D d_model, H heads, G kv heads, K head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_equal_groups, check_even_numbers, check_whole_numbers
from search_spaces.blocks.layouts import GROUPED_HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.attention import attend, attend_one_to_parts, pairs, sees
from search_spaces.ops.cache import attend_with_cache, slot_positions, write_keys_values
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.rotary import rotate
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

Part = tuple[Tensor, Tensor, Tensor | None]
"""Keys, values, and which of them are seen (None: all)."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Attention(Block):
    """Softmax attention with `num_heads` heads of `head_dim` channels over `num_kv_heads` keys and values."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    num_heads: int = 4
    num_kv_heads: int = 4
    head_dim: int = 32
    window: int | None = None
    rotary: bool = True
    dilation: int = 1
    global_tokens: int = 0

    @classmethod
    def examples(cls) -> tuple[Attention, ...]:
        """MHA, MQA, GQA over a window, no positions, and the causal forms of Longformer."""
        grouped = cls(num_heads=4, num_kv_heads=2, head_dim=8, window=8)
        return (
            cls(num_heads=4, num_kv_heads=4, head_dim=8),
            cls(num_heads=4, num_kv_heads=1, head_dim=8),
            grouped,
            cls(num_heads=4, num_kv_heads=2, head_dim=7, rotary=False),
            replace(grouped, dilation=2),
            replace(grouped, global_tokens=3),
            replace(grouped, window=5, dilation=4, global_tokens=11),
        )

    @classmethod
    def open_forms(cls) -> tuple[Attention, ...]:
        """Full, without positions, over a window, and the causal form of Longformer."""
        heads: dict[str, Any] = {"num_heads": 4, "head_dim": 16}
        return (
            cls(**heads, num_kv_heads=one_of(1, 2, 4)),
            cls(**heads, num_kv_heads=one_of(1, 2, 4), rotary=False),
            cls(**heads, num_kv_heads=one_of(1, 2, 4), window=one_of(32, 64, 128)),
            cls(**heads, num_kv_heads=one_of(1, 4), window=32, dilation=one_of(1, 2), global_tokens=4),
        )

    def check(self, d_model: int) -> None:
        """Heads must fall into equal groups; rotary positions need pairs of channels."""
        check_whole_numbers(self, "num_heads", "num_kv_heads", "head_dim", "dilation")
        check_equal_groups(self)
        if self.rotary:
            check_even_numbers(self, "head_dim")
        if self.global_tokens != 0:
            check_whole_numbers(self, "global_tokens")
        if self.window is not None:
            check_whole_numbers(self, "window")
        elif self.dilation > 1 or self.global_tokens:
            raise IllegalArchitecture(
                f"Attention: dilation={self.dilation} and global_tokens={self.global_tokens} need a window"
            )

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return AttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Keys and values of all tokens, or of the reach of the window and the global tokens."""
        reach = None if self.window is None else (self.window - 1) * self.dilation + 1
        shape = StateShape((self.num_kv_heads, self.head_dim), per_token=True, limit=reach)
        if not self.global_tokens:
            return {"k": shape, "v": shape}
        first = StateShape((self.num_kv_heads, self.global_tokens, self.head_dim))
        return {"k": shape, "v": shape, "k_global": first, "v_global": first}

    def layout(self) -> Layout:
        """Rotary positions give the channels of keys an order."""
        layout = Layout(GROUPED_HEADS, "DGHVK", {"H": "G"})
        return layout.with_order("K") if self.rotary else layout

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and two products for each pair of tokens."""
        params = 2 * d_model * self.head_dim * (self.num_heads + self.num_kv_heads)
        position = scenario.decode_position
        near = position // self.dilation + 1
        seen = min(near, self.window or near) + min(position + 1, self.global_tokens)
        per_pair = 2 * self.num_heads * self.head_dim
        computed = pairs(
            scenario.prompt, self.window, dilation=self.dilation, global_tokens=self.global_tokens
        )
        prefill = scenario.prompt * params + per_pair * computed
        decode = params + per_pair * seen
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)


class AttentionMixer(Mixer):
    """The module of `Attention`."""

    def __init__(self, spec: Attention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.spec = spec
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
            spec = self.spec
            y = attend(q, k, v, spec.window, dilation=spec.dilation, global_tokens=spec.global_tokens)
            kept = None if state is None else write_keys_values(state, k, v, position)
        else:
            ring = self.spec.window is not None
            y, kept = attend_with_cache(q, k, v, state, position, sees=self._sees, ring=ring)
        return Mixed(merge(y.transpose(1, 2), self.wo), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; with a position on the device, shapes do not depend on it."""
        q, k, v = self._project(x[:, None], position)
        state = write_keys_values(state, k, v, position)
        y = attend_one_to_parts(q[:, :, 0], self._parts(state, position))
        return merge(y, self.wo), state

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """Keys and values only."""
        _, k, v = self._project(x[:, None], position)
        return write_keys_values(state, k, v, position)

    def _project(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, K], keys and values [B, G, T, K] of x [B, T, D]."""
        q, k, v = (project(x, weight).transpose(1, 2) for weight in (self.wq, self.wk, self.wv))
        if self.spec.rotary:
            q, k = rotate(q, position), rotate(k, position)
        return q, k, v

    def _parts(self, state: State, position: int | Tensor) -> list[Part]:
        """What the token at `position`, already in the state, sees of it."""
        k, v, dilation, first = state["k"], state["v"], self.spec.dilation, self.spec.global_tokens
        slots, device = k.shape[2], k.device
        if dilation > 1:
            count = -(-slots // dilation)
            if isinstance(position, int):
                count = min(count, position // dilation + 1)
            key = position - dilation * torch.arange(count, device=device)
            index = key.remainder(slots)
            k, v = k.index_select(2, index), v.index_select(2, index)
        else:
            key = slot_positions(slots, position + 1, device)
            if isinstance(position, int):
                count = min(position + 1, slots)
                k, v, key = k[:, :, :count], v[:, :, :count], key[:count]
        if not first:
            return [(k, v, None if isinstance(position, int) else key >= 0)]
        k_first, v_first, seen = state["k_global"], state["v_global"], None
        if isinstance(position, int):
            k_first, v_first = k_first[:, :, : position + 1], v_first[:, :, : position + 1]
        else:
            seen = torch.arange(first, device=device) <= position
        return [(k_first, v_first, seen), (k, v, key >= first)]

    def _sees(self, query: Tensor, key: Tensor) -> Tensor:
        spec = self.spec
        return sees(query, key, spec.window, dilation=spec.dilation, global_tokens=spec.global_tokens)
