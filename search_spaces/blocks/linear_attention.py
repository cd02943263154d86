"""Linear attention: the exponential of softmax attention becomes a product of features.

    y_t = W_o concat_h sum_s d_h^(t-s) phi(q_th)phi(k_sh) v_sh / sum_s d_h^(t-s) phi(q_th)phi(k_sh)
    phi(x) = elu(x) + 1

(Katharopoulos et al. 2020, arXiv:2006.16236). The sums over s <= t are a state of fixed size, updated by each
token; `forward` computes them in chunks.

The paper's form has `decay="none"`: d_h = 1. It has no order of tokens, and must find the last one among
all: on bytes it learns little more than their frequencies. Constant decays (`ops.decay_attention.DECAYS`), as
in RetNet, give heads of short and of long reach without parameters; see docs/decisions/0010.

Shapes: B batch, T tokens, D d_model, H heads, N state_dim (of q and k), P head_dim (of v).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers, check_word
from search_spaces.blocks.layouts import HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import (
    DECAYS,
    constant_decays,
    decay_attention,
    decay_attention_step,
    products,
)
from search_spaces.ops.features import elu_features, normalised, with_ones
from search_spaces.ops.linear import fill, merge, project
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class LinearAttention(Block):
    """Linear attention with `num_heads` heads, `state_dim` channels of keys and `head_dim` of values."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 8.5e-3

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 32
    decay: str = "wide"

    @classmethod
    def examples(cls) -> tuple[LinearAttention, ...]:
        """Square and oblong states, that fade and do not."""
        square = cls(num_heads=2, head_dim=8, state_dim=8)
        return (
            square,
            replace(square, decay="none"),
            cls(num_heads=3, head_dim=5, state_dim=7, decay="narrow"),
        )

    @classmethod
    def open_forms(cls) -> tuple[LinearAttention, ...]:
        """With and without decays."""
        return (cls(num_heads=4, head_dim=16, state_dim=one_of(16, 32), decay=one_of("wide", "none")),)

    def check(self, d_model: int) -> None:
        """Sizes are whole numbers, and the decay is one of `DECAYS`."""
        check_whole_numbers(self, "num_heads", "head_dim", "state_dim")
        check_word(self, "decay", DECAYS)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return LinearAttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The running sums of phi(k) v' and of phi(k), as one."""
        return {"memory": StateShape((self.num_heads, self.state_dim, self.head_dim + 1), exact=True)}

    def layout(self) -> Layout:
        """Constant decays give the heads an order."""
        layout = Layout(HEADS, "DHNV")
        return layout if self.decay == "none" else layout.with_order("H")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and the chunks of the running sums."""
        params = 2 * d_model * self.num_heads * (self.state_dim + self.head_dim)
        values = self.head_dim + 1
        summed = products(scenario.prompt, self.num_heads, self.state_dim, values, shared=False)
        prefill = scenario.prompt * params + summed
        decode = params + self.num_heads * self.state_dim * values
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)


class LinearAttentionMixer(Mixer):
    """The module of `LinearAttention`."""

    def __init__(self, spec: LinearAttention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.decay = spec.decay
        self.wq = nn.Parameter(torch.empty(spec.num_heads, spec.state_dim, d_model))
        self.wk = nn.Parameter(torch.empty(spec.num_heads, spec.state_dim, d_model))
        self.wv = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, spec.num_heads, spec.head_dim))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.wq, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v = self._project(x)
        g = constant_decays(self.decay, q.shape[2], x).expand(1, x.shape[1], -1)
        memory = None if state is None else state["memory"]
        y, last = decay_attention(q, k, v, g, memory, final=state is not None)
        return Mixed(merge(normalised(y), self.wo), None if last is None else {"memory": last})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, k, v = self._project(x)
        g = constant_decays(self.decay, q.shape[1], x)[None]
        y, memory = decay_attention_step(q, k, v, g, state["memory"])
        return merge(normalised(y), self.wo), {"memory": memory}

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of queries and keys [..., H, N], and values with ones [..., H, P + 1]."""
        q, k = (elu_features(project(x, weight)) for weight in (self.wq, self.wk))
        return q, k, with_ones(project(x, self.wv))
