"""Based: linear attention that recalls roughly over long distances, and a small window of exact attention.

    y_t = sum over far heads + attention of near heads over the last `window` tokens
    far:  W_h sum_s phi(q_t)phi(k_s) v_s / sum_s phi(q_t)phi(k_s)        phi(q)phi(k) = 1 + z + z^2 / 2
          z = q_t k_s / sqrt(N)

Based (Arora et al. 2024, arXiv:2402.18668). phi is the second-order Taylor map of exp(z), always positive,
with 1 + N + N(N+1)/2 features: `state_dim` N is small. The paper puts both kinds of attention into layers of
their own; here they are the heads of one block, so that every layer recalls near and far. Far heads have no
positions, near ones rotary positions.

Shapes: B batch, T tokens, D d_model, H heads, N state_dim (of far q and k), P head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.blocks.layouts import GROUPED_HEADS, HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import decay_attention, decay_attention_step, products
from search_spaces.ops.features import normalised, taylor_features, taylor_size, with_ones
from search_spaces.ops.linear import fill, merge, project
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

NEAR = str.maketrans("GHKV", "ghkv")
"""The axes of the window's heads are others than those of the far ones."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Based(Block):
    """`num_heads` heads of linear attention, and `window_heads` of attention over `window` tokens.

    All have `head_dim` channels of values; keys of linear attention have `state_dim`.
    """

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    num_heads: int = 4
    window_heads: int = 2
    head_dim: int = 32
    state_dim: int = 16
    window: int = 64

    @classmethod
    def examples(cls) -> tuple[Based, ...]:
        """Windows shorter and longer than some sequences."""
        return (
            cls(num_heads=2, window_heads=1, head_dim=8, state_dim=3, window=2),
            cls(num_heads=1, window_heads=2, head_dim=6, state_dim=4, window=50),
        )

    @classmethod
    def open_forms(cls) -> tuple[Based, ...]:
        """Two windows."""
        return (cls(num_heads=4, head_dim=16, window_heads=2, state_dim=16, window=one_of(16, 64)),)

    def check(self, d_model: int) -> None:
        """The window's heads turn pairs of channels."""
        check_whole_numbers(self, "num_heads", "window_heads", "head_dim", "state_dim", "window")
        self.near.check(d_model)

    @property
    def near(self) -> Attention:
        """The window as a block of its own."""
        return Attention(
            num_heads=self.window_heads,
            num_kv_heads=self.window_heads,
            head_dim=self.head_dim,
            window=self.window,
        )

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return BasedMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The running sums of phi(k) v' and of phi(k), as one, and keys and values of the window."""
        memory = StateShape((self.num_heads, taylor_size(self.state_dim), self.head_dim + 1), exact=True)
        return {"memory": memory} | self.near.state(d_model)

    def layout(self) -> Layout:
        """All but the channels that the window rotates by their position."""
        near = {f"near.{name}": axes.translate(NEAR) for name, axes in GROUPED_HEADS.items()}
        return Layout(HEADS | near, "DHNVghv", {"h": "g"})

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections and the chunks of the running sums, and the window."""
        params = 2 * d_model * self.num_heads * (self.state_dim + self.head_dim)
        size, values = taylor_size(self.state_dim), self.head_dim + 1
        prefill = scenario.prompt * params + products(
            scenario.prompt, self.num_heads, size, values, shared=False
        )
        decode = params + self.num_heads * size * values
        far = Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)
        return far + self.near.cost(d_model, scenario)


class BasedMixer(Mixer):
    """The module of `Based`."""

    def __init__(self, spec: Based, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.wq = nn.Parameter(torch.empty(spec.num_heads, spec.state_dim, d_model))
        self.wk = nn.Parameter(torch.empty(spec.num_heads, spec.state_dim, d_model))
        self.wv = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, spec.num_heads, spec.head_dim))
        self.near = spec.near.build(d_model)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.wq, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.near.reset_parameters(dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v = self._project(x)
        near = self.near(x, state, position)
        memory = None if state is None else state["memory"]
        never = v.new_zeros(1, x.shape[1], 1)
        y, last = decay_attention(q, k, v, never, memory, final=state is not None)
        kept = None if last is None else {"memory": last} | near.state
        return Mixed(merge(normalised(y), self.wo) + near.y, kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, k, v = self._project(x)
        near, kept = self.near.step(x, state, position)
        y, memory = decay_attention_step(q, k, v, v.new_zeros(1, 1), state["memory"])
        return merge(normalised(y), self.wo) + near, {"memory": memory} | kept

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of queries and keys [..., H, 1 + N + N(N+1)/2], and values with ones [..., H, P + 1]."""
        scale = self.wq.shape[1] ** -0.25
        q, k = (taylor_features(project(x, weight) * scale) for weight in (self.wq, self.wk))
        return q, k, with_ones(project(x, self.wv))
