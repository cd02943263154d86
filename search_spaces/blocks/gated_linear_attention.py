"""Gated linear attention: a matrix memory per head that each key channel forgets at its own rate.

    S_t = diag(a_t) S_{t-1} + k_t v_t'        y_t = W_o (norm(S_t' q_t) * silu(z_t))
    a_t = sigmoid(W_2 W_1 x_t + b)^(1/16)

Yang et al. 2023, arXiv:2312.06635. `state_dim` is the width of queries and keys of one head, `head_dim` that
of its values; the memory is state_dim x head_dim per head, for any length.

Shapes: B batch, T tokens, D d_model, H heads, N state_dim, P head_dim, R rank of the gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.blocks.layouts import HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.gated_attention import gated_attention, gated_attention_step, products
from search_spaces.ops.linear import fill, head_norm, merge, project
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

RANK = 16
TEMPERATURE = 16.0


@blocks.add
@dataclass(frozen=True, kw_only=True)
class GatedLinearAttention(Block):
    """Linear attention with a decay per key channel, from a gate of rank 16."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 1.2e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"gate_bias"})

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 16

    @classmethod
    def examples(cls) -> tuple[GatedLinearAttention, ...]:
        """Keys narrower and wider than values."""
        return (
            cls(num_heads=2, head_dim=16, state_dim=8),
            cls(num_heads=3, head_dim=8, state_dim=12),
        )

    @classmethod
    def open_forms(cls) -> tuple[GatedLinearAttention, ...]:
        """Two sizes of the state."""
        return (cls(num_heads=4, head_dim=16, state_dim=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers."""
        check_whole_numbers(self, "num_heads", "head_dim", "state_dim")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return GatedLinearAttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """One matrix per head."""
        return {"memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True)}

    def layout(self) -> Layout:
        """Heads, the channels of keys and values, and the rank of the gate."""
        gates = {"wz": "H V D", "gate_in": "R D", "gate_out": "H N R", "gate_bias": "H N", "norm": "V"}
        return Layout(HEADS | gates, "DHNVR")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, the products within chunks, and those with the memory."""
        keys, values = self.num_heads * self.state_dim, self.num_heads * self.head_dim
        matrices = d_model * (2 * keys + 3 * values + RANK) + RANK * keys
        mixing = products(scenario.prompt, self.num_heads, self.state_dim, self.head_dim)
        return Cost(
            matrices + keys + self.head_dim,
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + keys * self.head_dim),
        )


class GatedLinearAttentionMixer(Mixer):
    """The module of `GatedLinearAttention`."""

    def __init__(self, spec: GatedLinearAttention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        heads, keys, values = spec.num_heads, spec.state_dim, spec.head_dim
        self.wq = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wk = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wv = nn.Parameter(torch.empty(heads, values, d_model))
        self.wz = nn.Parameter(torch.empty(heads, values, d_model))
        self.gate_in = nn.Parameter(torch.empty(RANK, d_model))
        self.gate_out = nn.Parameter(torch.empty(heads, keys, RANK))
        self.gate_bias = nn.Parameter(torch.empty(heads, keys))
        self.norm = nn.Parameter(torch.empty(values))
        self.wo = nn.Parameter(torch.empty(d_model, heads, values))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; gates start half open, norms at one."""
        for weight in (self.wq, self.wk, self.wv, self.wz, self.gate_in, self.gate_out):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.gate_bias.zero_()
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v, g, z = self._project(x)
        memory = None if state is None else state["memory"]
        y, last = gated_attention(q, k, v, g, memory, final=state is not None)
        return Mixed(self._merge(y, z), None if last is None else {"memory": last})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, k, v, g, z = self._project(x)
        y, memory = gated_attention_step(q, k, v, g, state["memory"])
        return self._merge(y, z), {"memory": memory}

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, g [..., H, N] and v, z [..., H, P]; g are logarithms of decays."""
        q = project(x, self.wq) * self.wq.shape[1] ** -0.5
        gate = project(F.linear(x, self.gate_in), self.gate_out) + self.gate_bias
        g = F.logsigmoid(gate) / TEMPERATURE
        return q, project(x, self.wk), project(x, self.wv), g, project(x, self.wz)

    def _merge(self, y: Tensor, z: Tensor) -> Tensor:
        return merge(head_norm(y, self.norm) * F.silu(z), self.wo)
