"""Retention: linear attention that fades at a fixed rate per head.

    S_t = d_h S_{t-1} + k_t v_t'        y_t = W_o (group_norm(S_t' q_t) * silu(z_t))

Sun et al. 2023, arXiv:2307.08621: queries and keys are rotated by their position, queries scaled by N^-1/2.
Head h fades at its own rate however many heads there are, so that leading heads do not depend on it. The
paper's setting has values twice as wide as keys, `head_dim` = 2 `state_dim`, and `decay="narrow"`, d_h = 1 -
2^(-5-h): with few heads none of them looks at the last few tokens. `wide` decays, d_h = 1 - 2^(-1-2h), reach
from the last two tokens on; see docs/decisions/0010.

Shapes: B batch, T tokens, D d_model, H heads, N state_dim, P head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_even_numbers, check_whole_numbers, check_word
from search_spaces.blocks.layouts import HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import constant_decays, decay_attention, decay_attention_step, products
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.rotary import rotate
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

FADING = ("narrow", "wide")


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Retention(Block):
    """Linear attention with rotary positions and one constant decay per head."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 8.5e-3
    elementwise: ClassVar[frozenset[str]] = frozenset({"norm", "norm_bias"})

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 16
    decay: str = "wide"

    @classmethod
    def examples(cls) -> tuple[Retention, ...]:
        """Keys narrower and wider than values, both ladders of decays."""
        return (
            cls(num_heads=2, head_dim=16, state_dim=8),
            cls(num_heads=3, head_dim=8, state_dim=12, decay="narrow"),
        )

    @classmethod
    def open_forms(cls) -> tuple[Retention, ...]:
        """Both ladders of decays."""
        return (cls(num_heads=4, head_dim=32, state_dim=one_of(16, 32), decay=one_of("wide", "narrow")),)

    def check(self, d_model: int) -> None:
        """Channels of keys are rotated in pairs, a single value cannot be normalised, and heads must fade."""
        check_word(self, "decay", FADING)
        check_whole_numbers(self, "num_heads", "state_dim")
        check_even_numbers(self, "state_dim")
        check_whole_numbers(self, "head_dim", at_least=2)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return RetentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """One matrix per head."""
        return {"memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True)}

    def layout(self) -> Layout:
        """Constant decays give the heads an order, rotary positions the channels of keys."""
        gates = {"wz": "H V D", "norm": "H V", "norm_bias": "H V"}
        return Layout(HEADS | gates, "DV")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, the products within chunks, and those with the memory."""
        keys, values = self.num_heads * self.state_dim, self.num_heads * self.head_dim
        matrices = d_model * (2 * keys + 3 * values)
        mixing = products(scenario.prompt, self.num_heads, self.state_dim, self.head_dim, shared=False)
        return Cost(
            matrices + 2 * values,
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + keys * self.head_dim),
        )


class RetentionMixer(Mixer):
    """The module of `Retention`."""

    def __init__(self, spec: Retention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.decay = spec.decay
        heads, keys, values = spec.num_heads, spec.state_dim, spec.head_dim
        self.wq = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wk = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wv = nn.Parameter(torch.empty(heads, values, d_model))
        self.wz = nn.Parameter(torch.empty(heads, values, d_model))
        self.norm = nn.Parameter(torch.empty(heads, values))
        self.norm_bias = nn.Parameter(torch.empty(heads, values))
        self.wo = nn.Parameter(torch.empty(d_model, heads, values))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; norms at one."""
        for weight in (self.wq, self.wk, self.wv, self.wz):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.norm.fill_(1.0)
        self.norm_bias.zero_()

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k = (
            rotate(project(x, weight).transpose(1, 2), position).transpose(1, 2)
            for weight in (self.wq, self.wk)
        )
        g = self._log_decay(x).expand(1, x.shape[1], -1)
        memory = None if state is None else state["memory"]
        y, last = decay_attention(q * self._scale, k, project(x, self.wv), g, memory, final=state is not None)
        return Mixed(self._merge(y, x), None if last is None else {"memory": last})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, k = (
            rotate(project(x, weight)[..., None, :], position)[..., 0, :] for weight in (self.wq, self.wk)
        )
        v, g = project(x, self.wv), self._log_decay(x)
        y, memory = decay_attention_step(q * self._scale, k, v, g, state["memory"])
        return self._merge(y, x), {"memory": memory}

    @property
    def _scale(self) -> float:
        return float(self.wq.shape[1] ** -0.5)

    def _log_decay(self, x: Tensor) -> Tensor:
        """The logarithm of every head's decay [1, H]."""
        return constant_decays(self.decay, self.wq.shape[0], x)[None]

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        normed = F.layer_norm(y, y.shape[-1:], eps=1e-6) * self.norm + self.norm_bias
        return merge(normed * F.silu(project(x, self.wz)), self.wo)
