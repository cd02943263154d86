"""Gated short convolution: a few taps between two gates.

    y = W_o (c * conv_k(b * v))        b, c, v = W_in x

The mixer of LFM2 (Liquid AI 2025, arXiv:2511.23404). Its state is the last k - 1 gated inputs.

Shapes: B batch, T tokens, D d_model, k taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.language.choices import one_of
from search_spaces.ops.linear import fill, project
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class ShortConv(Block):
    """A depthwise convolution of `kernel` taps, gated before and after."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    elementwise: ClassVar[frozenset[str]] = frozenset({"conv"})

    kernel: int = 3

    @classmethod
    def examples(cls) -> tuple[ShortConv, ...]:
        """Two lengths of kernel."""
        return (cls(kernel=3), cls(kernel=4))

    @classmethod
    def open_forms(cls) -> tuple[ShortConv, ...]:
        """Three and four taps."""
        return (cls(kernel=one_of(3, 4)),)

    def check(self, d_model: int) -> None:
        """A kernel of one tap would mix nothing."""
        check_whole_numbers(self, "kernel", at_least=2)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return ShortConvMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The last gated inputs."""
        return {"conv": StateShape((self.kernel - 1, d_model))}

    def layout(self) -> Layout:
        """Taps have an order; channels have none."""
        return Layout({"w_in": ". D D", "conv": "D .", "wo": "D D"}, "D")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Four square matrices; the taps are elementwise."""
        matrices = 4 * d_model * d_model
        per_token = 2 * scenario.batch * matrices
        return Cost(matrices + self.kernel * d_model, scenario.prompt * per_token, per_token)


class ShortConvMixer(Mixer):
    """The module of `ShortConv`."""

    def __init__(self, spec: ShortConv, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.w_in = nn.Parameter(torch.empty(3, d_model, d_model))
        self.conv = nn.Parameter(torch.empty(d_model, spec.kernel))
        self.wo = nn.Parameter(torch.empty(d_model, d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.w_in, self.conv, self.wo):
            fill(weight, weight.shape[-1], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        b, c, v = project(x, self.w_in).unbind(-2)
        y, last = short_conv(b * v, self.conv, before=None if state is None else state["conv"])
        return Mixed(F.linear(c * y, self.wo), None if state is None else {"conv": last})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        mixed = self.forward(x[:, None], state)
        return mixed.y[:, 0], mixed.state or {}
