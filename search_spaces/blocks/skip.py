"""Skip: nothing is mixed, so that a sublayer can be left out.

    y = 0,      hence   x + y = x

The counterpart of `None` for channel mixers: searches need it among sequence mixers too, and differentiable
searches are known to collapse to it (Zela et al. 2020, arXiv:1909.09656). No parameters, no state, no FLOPs.
It is a part that a space may hold, not one of the registered mixers: the contract of those says that a
sequence mixer lets a token see its past.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State
from search_spaces.language.serialization import parts
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@parts.add
@dataclass(frozen=True, kw_only=True)
class Skip(Block):
    """A sequence mixer that mixes nothing."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return SkipMixer()

    def layout(self) -> Layout:
        """There are no parameters."""
        return Layout({}, "")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Nothing."""
        return Cost()


class SkipMixer(Mixer):
    """The module of `Skip`."""

    def reset_parameters(self, dice: torch.Generator) -> None:
        """There are none."""

    def init_state(self, batch: int, capacity: int) -> State:
        """There is none."""
        return {}

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        return Mixed(torch.zeros_like(x), state)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        return torch.zeros_like(x), state
