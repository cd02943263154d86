"""The two-layer perceptron of the first Transformers.

    y = W_down a(W_up x + b_up) + b_down

with a = GELU as in GPT-2, relu^2 as in Primer and Nemotron, or another one (`ops.activations`); without
biases unless asked for. `expansion` is the hidden width over d_model.

Shapes: B batch, T tokens, D d_model, F hidden.
"""

from __future__ import annotations

import math
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
from search_spaces.references import Function, Weights, reference
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class MLP(Block):
    """A perceptron `expansion` times as wide as the model (rounded to a whole number)."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"

    expansion: float = 4
    activation: str = "gelu"
    biases: bool = False

    @classmethod
    def examples(cls) -> tuple[MLP, ...]:
        """Two activations, whole and broken expansions, biases."""
        return (cls(expansion=2), cls(expansion=1.3, activation="relu2"), cls(expansion=1, biases=True))

    @classmethod
    def open_forms(cls) -> tuple[MLP, ...]:
        """Two widths."""
        return (cls(expansion=one_of(2, 4)),)

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
        return MLPMixer(self, d_model)

    def layout(self) -> Layout:
        """The hidden channels."""
        return Layout({"up": "F D", "down": "D F", "up_bias": "F", "down_bias": "D"}, "DF")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Two matrices."""
        hidden = self.hidden(d_model)
        per_token = 2 * scenario.batch * 2 * d_model * hidden
        params = 2 * d_model * hidden + self.biases * (hidden + d_model)
        return Cost(params, scenario.prompt * per_token, per_token)


class MLPMixer(Mixer):
    """The module of `MLP`."""

    def __init__(self, spec: MLP, d_model: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.up = nn.Parameter(torch.empty(spec.hidden(d_model), d_model))
        self.down = nn.Parameter(torch.empty(d_model, spec.hidden(d_model)))
        self.up_bias = nn.Parameter(torch.empty(spec.hidden(d_model))) if spec.biases else None
        self.down_bias = nn.Parameter(torch.empty(d_model)) if spec.biases else None

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; no biases."""
        for weight in (self.up, self.down):
            fill(weight, weight.shape[-1], dice)
        for bias in (self.up_bias, self.down_bias):
            if bias is not None:
                bias.zero_()

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        hidden = self.activation(F.linear(x, self.up, self.up_bias))
        return Mixed(biased(F.linear(hidden, self.down), self.down_bias), state)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        return self.forward(x).y, state


@reference(MLP, source="its equation")
def perceptron(spec: MLP, weights: Weights, d_model: int) -> Function:
    """GELU by the error function, or the squared ReLU."""
    nothing = torch.zeros(())

    def activated(x: Tensor) -> Tensor:
        if spec.activation == "gelu":
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        return torch.where(x > 0, x * x, 0.0)

    def run(x: Tensor) -> Tensor:
        hidden = activated(x @ weights["up"].T + weights.get("up_bias", nothing))
        return hidden @ weights["down"].T + weights.get("down_bias", nothing)

    return run
