"""SwiGLU: the gated two-layer perceptron.

    y = W_down (a(W_gated x + b_gated) * (W_up x + b_up)) + b_down

Shazeer 2020, arXiv:2002.05202, with a = silu. Another `activation` makes it another gated perceptron (Gemma:
"gelu_tanh"; see `ops.activations`); without biases unless asked for. `expansion` is the hidden width over
d_model.

Shapes: B batch, T tokens, D d_model, F hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, blocks
from search_spaces.blocks.checks import check_flag, check_hidden, check_word
from search_spaces.language.choices import one_of
from search_spaces.ops.activations import ACTIVATIONS
from search_spaces.ops.linear import fill
from search_spaces.ops.shards import biased
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class SwiGLU(Block):
    """A gated perceptron `expansion` times as wide as the model (rounded to a whole number)."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"

    expansion: float = 3
    activation: str = "silu"
    biases: bool = False

    @classmethod
    def examples(cls) -> tuple[SwiGLU, ...]:
        """Whole and broken expansions, another activation, biases."""
        return (cls(expansion=2), cls(expansion=1.3), cls(expansion=1, activation="gelu_tanh", biases=True))

    @classmethod
    def open_forms(cls) -> tuple[SwiGLU, ...]:
        """Three widths."""
        return (cls(expansion=one_of(1, 2, 3)),)

    def hidden(self, d_model: int) -> int:
        """The hidden width."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """There must be at least one hidden channel, and the activation must be one of `ACTIVATIONS`."""
        check_hidden(self, d_model)
        check_word(self, "activation", ACTIVATIONS)
        check_flag(self, "biases")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return SwiGLUMixer(self, d_model)

    def layout(self) -> Layout:
        """The hidden channels."""
        biases = {"gated_bias": "F", "up_bias": "F", "down_bias": "D"}
        return Layout({"gated": "F D", "up": "F D", "down": "D F"} | biases, "DF")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Three matrices."""
        hidden = self.hidden(d_model)
        per_token = 2 * scenario.batch * 3 * d_model * hidden
        params = 3 * d_model * hidden + self.biases * (2 * hidden + d_model)
        return Cost(params, scenario.prompt * per_token, per_token)


class SwiGLUMixer(Mixer):
    """The module of `SwiGLU`."""

    def __init__(self, spec: SwiGLU, d_model: int) -> None:
        super().__init__()
        hidden = spec.hidden(d_model)
        self.activation = ACTIVATIONS[spec.activation]
        self.gated = nn.Parameter(torch.empty(hidden, d_model))
        self.up = nn.Parameter(torch.empty(hidden, d_model))
        self.down = nn.Parameter(torch.empty(d_model, hidden))
        self.gated_bias = nn.Parameter(torch.empty(hidden)) if spec.biases else None
        self.up_bias = nn.Parameter(torch.empty(hidden)) if spec.biases else None
        self.down_bias = nn.Parameter(torch.empty(d_model)) if spec.biases else None

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; no biases."""
        for weight in (self.gated, self.up, self.down):
            fill(weight, weight.shape[-1], dice)
        for bias in (self.gated_bias, self.up_bias, self.down_bias):
            if bias is not None:
                bias.zero_()

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        gate = self.activation(F.linear(x, self.gated, self.gated_bias))
        hidden = gate * F.linear(x, self.up, self.up_bias)
        return Mixed(biased(F.linear(hidden, self.down), self.down_bias), state)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        return self.forward(x).y, state
