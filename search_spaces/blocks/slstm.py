"""sLSTM: a recurrence with exponential gates that see the last output of their own head.

    a_t = W x_t + R h_{t-1} + b        for each of z, i, f and o
    c_t = f_t c_{t-1} + i_t tanh(z_t)        n_t = f_t n_{t-1} + i_t        h_t = sigmoid(o_t) c_t / n_t
    y_t = W_o group_norm(h_t)        i_t = exp(a_i),  f_t = sigmoid(a_f) or exp(a_f)

Beck et al. 2024, arXiv:2405.04517. R is block-diagonal, one block per head, which is why this block can
track states that linear recurrences cannot, and why it cannot be computed in parallel over time.

Shapes: B batch, T tokens, D d_model, H heads, P head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers, check_word
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.slstm import Cell, empty, slstm, slstm_step
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

FORGET_GATES = ("sigmoid", "exponential")
FORGET_BIAS = (3.0, 6.0)
GATES = 4


@blocks.add
@dataclass(frozen=True, kw_only=True)
class SLSTM(Block):
    """A nonlinear recurrence over `num_heads` x `head_dim` channels that mix within their head."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 1.7e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"bias", "norm"})

    num_heads: int = 4
    head_dim: int = 32
    forget_gate: str = "sigmoid"

    @classmethod
    def examples(cls) -> tuple[SLSTM, ...]:
        """Both forget gates."""
        return (
            cls(num_heads=2, head_dim=8),
            cls(num_heads=3, head_dim=6, forget_gate="exponential"),
        )

    @classmethod
    def open_forms(cls) -> tuple[SLSTM, ...]:
        """Four heads."""
        return (cls(num_heads=4, head_dim=16),)

    def check(self, d_model: int) -> None:
        """One channel alone cannot be normalised."""
        check_whole_numbers(self, "num_heads")
        check_whole_numbers(self, "head_dim", at_least=2)
        check_word(self, "forget_gate", FORGET_GATES)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return SLSTMMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Output, memory, normaliser and the logarithm of their scale, for every channel."""
        shape = StateShape((self.num_heads, self.head_dim), exact=True)
        return {"hidden": shape, "memory": shape, "normaliser": shape, "peak": shape}

    def layout(self) -> Layout:
        """Heads and their channels."""
        return Layout(
            {"wx": ". H K D", "recurrent": ". H K K", "bias": ". H K", "norm": "H K", "wo": "D H K"}, "DHK"
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """The projections and the recurrent blocks."""
        inner = self.num_heads * self.head_dim
        matrices = (GATES + 1) * d_model * inner + GATES * inner * self.head_dim
        per_token = 2 * scenario.batch * matrices
        return Cost(matrices + (GATES + 1) * inner, scenario.prompt * per_token, per_token)


class SLSTMMixer(Mixer):
    """The module of `SLSTM`."""

    def __init__(self, spec: SLSTM, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.sigmoid = spec.forget_gate == "sigmoid"
        heads, width = spec.num_heads, spec.head_dim
        self.wx = nn.Parameter(torch.empty(GATES, heads, width, d_model))
        self.recurrent = nn.Parameter(torch.empty(GATES, heads, width, width))
        self.bias = nn.Parameter(torch.empty(GATES, heads, width))
        self.norm = nn.Parameter(torch.empty(heads, width))
        self.wo = nn.Parameter(torch.empty(d_model, heads, width))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; f starts from 0.95 to 0.998, or at 1 if exponential."""
        for weight in (self.wx, self.recurrent):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.bias.zero_()
        if self.sigmoid:
            width = self.bias.shape[2]
            self.bias[2].copy_(torch.linspace(*FORGET_BIAS, width, device=self.bias.device))
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        u, recurrent = self._project(x)
        cell = empty(u) if state is None else Cell(**state)
        h, cell = slstm(u, recurrent, cell, sigmoid=self.sigmoid)
        return Mixed(self._merge(h, x), None if state is None else cell._asdict())

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        h, cell = slstm_step(*self._project(x), Cell(**state), sigmoid=self.sigmoid)
        return self._merge(h, x), cell._asdict()

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What x gives to the gates [..., 4, H, P], and the recurrent weights, in float32 at least."""
        exact = torch.promote_types(x.dtype, torch.float32)
        u = project(x, self.wx).to(exact) + self.bias.to(exact)
        return u, self.recurrent.to(exact)

    def _merge(self, h: Tensor, x: Tensor) -> Tensor:
        return merge(F.layer_norm(h, h.shape[-1:], eps=1e-6).to(x.dtype) * self.norm, self.wo)
