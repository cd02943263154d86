"""SwiGLU: the gated two-layer perceptron.

    y = W_down (silu(W_gated x) * W_up x)

Shazeer 2020, arXiv:2002.05202. `expansion` is the hidden width over d_model.

Shapes: B batch, T tokens, D d_model, F hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, blocks
from search_spaces.blocks.checks import check_hidden
from search_spaces.language.choices import one_of
from search_spaces.ops.linear import fill
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class SwiGLU(Block):
    """A gated perceptron `expansion` times as wide as the model (rounded to a whole number)."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"

    expansion: float = 3

    @classmethod
    def examples(cls) -> tuple[SwiGLU, ...]:
        """Whole and broken expansions."""
        return (cls(expansion=2), cls(expansion=1.3))

    @classmethod
    def open_forms(cls) -> tuple[SwiGLU, ...]:
        """Three widths."""
        return (cls(expansion=one_of(1, 2, 3)),)

    def hidden(self, d_model: int) -> int:
        """The hidden width."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """There must be at least one hidden channel."""
        check_hidden(self, d_model)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return SwiGLUMixer(d_model, self.hidden(d_model))

    def layout(self) -> Layout:
        """The hidden channels."""
        return Layout({"gated": "F D", "up": "F D", "down": "D F"}, "DF")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Three matrices."""
        params = 3 * d_model * self.hidden(d_model)
        per_token = 2 * scenario.batch * params
        return Cost(params, scenario.prompt * per_token, per_token)


class SwiGLUMixer(Mixer):
    """The module of `SwiGLU`."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gated = nn.Parameter(torch.empty(hidden, d_model))
        self.up = nn.Parameter(torch.empty(hidden, d_model))
        self.down = nn.Parameter(torch.empty(d_model, hidden))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.gated, self.up, self.down):
            fill(weight, weight.shape[-1], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        return Mixed(F.linear(F.silu(F.linear(x, self.gated)) * F.linear(x, self.up), self.down), state)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        return self.forward(x).y, state
