"""Softmax attention: every token reads all earlier ones, or those in a sliding window.

    y_t = W_o concat_h sum_s softmax_s(q_th k_sg / sqrt(K)) v_sg        g = the group of head h

Attention (Vaswani et al. 2017, arXiv:1706.03762) with rotary positions. `num_kv_heads` makes it multi-head
(equal to `num_heads`), grouped-query (Ainslie et al. 2023, arXiv:2305.13245) or multi-query (1; Shazeer 2019,
arXiv:1911.02150). `window` counts the tokens looked at, the current one included (Beltagy et al. 2020,
arXiv:2004.05150).

Shapes: B batch, T tokens read, S tokens looked back at, D d_model, H heads, G kv heads, K head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks, whole_numbers
from search_spaces.errors import IllegalArchitecture
from search_spaces.ops.attention import attend, attend_one, attend_to_cache, pairs
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.rotary import rotate
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Attention(Block):
    """Softmax attention with `num_heads` heads of `head_dim` channels over `num_kv_heads` keys and values."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    num_heads: int = 4
    num_kv_heads: int = 4
    head_dim: int = 32
    window: int | None = None

    @classmethod
    def examples(cls) -> tuple[Attention, ...]:
        """MHA, MQA, and GQA over a window."""
        return (
            cls(num_heads=4, num_kv_heads=4, head_dim=8),
            cls(num_heads=4, num_kv_heads=1, head_dim=8),
            cls(num_heads=4, num_kv_heads=2, head_dim=8, window=8),
        )

    def check(self, d_model: int) -> None:
        """Heads must fall into equal groups; rotary positions need pairs of channels."""
        whole_numbers(self, "num_heads", "num_kv_heads", "head_dim")
        if self.num_heads % self.num_kv_heads:
            raise IllegalArchitecture(
                f"Attention: num_heads={self.num_heads} must be a multiple of"
                f" num_kv_heads={self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise IllegalArchitecture(f"Attention: head_dim must be even, got {self.head_dim}")
        if self.window is not None:
            whole_numbers(self, "window")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return AttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Keys and values of all tokens, or of the window."""
        shape = StateShape((self.num_kv_heads, self.head_dim), per_token=True, limit=self.window)
        return {"k": shape, "v": shape}

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and two products for each pair of tokens."""
        params = 2 * d_model * self.head_dim * (self.num_heads + self.num_kv_heads)
        seen = min(scenario.decode_position + 1, self.window or scenario.decode_position + 1)
        per_pair = 2 * self.num_heads * self.head_dim
        prefill = scenario.prompt * params + per_pair * pairs(scenario.prompt, self.window)
        decode = params + per_pair * seen
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)


class AttentionMixer(Mixer):
    """The module of `Attention`."""

    def __init__(self, spec: Attention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.window = spec.window
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
        q, k, v = (project(x, weight).transpose(1, 2) for weight in (self.wq, self.wk, self.wv))
        q, k = rotate(q, position), rotate(k, position)
        if state is None or position == 0:
            y = attend(q, k, v, self.window)
        else:
            y = self._attend_behind(q, k, v, state, position)
        kept = None if state is None else _remember(state, k, v, position)
        return Mixed(merge(y.transpose(1, 2), self.wo), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; with a position on the device, shapes do not depend on it."""
        q, k, v = (project(x, weight) for weight in (self.wq, self.wk, self.wv))
        q, k = rotate(q[:, :, None], position)[:, :, 0], rotate(k[:, :, None], position)
        state = _remember(state, k, v[:, :, None], position)
        slots = state["k"].shape[2]
        if isinstance(position, int):
            filled = min(position + 1, slots)
            y = attend_one(q, state["k"][:, :, :filled], state["v"][:, :, :filled])
        else:
            seen = torch.arange(slots, device=x.device) <= position
            y = attend_one(q, state["k"], state["v"], seen)
        return merge(y, self.wo), state

    def _attend_behind(self, q: Tensor, k: Tensor, v: Tensor, state: State, position: int) -> Tensor:
        """Attention of tokens from `position` on over what the state holds and themselves."""
        slots, count = state["k"].shape[2], q.shape[2]
        device = q.device
        # the latest position before this one that was written to each slot
        held = position - 1 - (position - 1 - torch.arange(slots, device=device)).remainder(slots)
        here = position + torch.arange(count, device=device)
        key = torch.cat((held, here))[None, :]
        seen = (key >= 0) & (key <= here[:, None])
        if self.window is not None:
            seen &= key > here[:, None] - self.window
        k, v = torch.cat((state["k"], k), dim=2), torch.cat((state["v"], v), dim=2)
        return attend_to_cache(q, k, v, seen)


def _remember(state: State, k: Tensor, v: Tensor, position: int | Tensor) -> State:
    """Write k and v [B, G, T, K] to their slots; of more tokens than slots, the last ones."""
    slots, count = state["k"].shape[2], k.shape[2]
    kept = min(count, slots)
    first = position + (count - kept)
    if isinstance(first, int) and first % slots + kept <= slots:
        where = slice(first % slots, first % slots + kept)
        state["k"][:, :, where], state["v"][:, :, where] = k[:, :, -kept:], v[:, :, -kept:]
        return state
    index = (first + torch.arange(kept, device=k.device)).remainder(slots)
    return {
        "k": state["k"].index_copy_(2, index, k[:, :, -kept:]),
        "v": state["v"].index_copy_(2, index, v[:, :, -kept:]),
    }
