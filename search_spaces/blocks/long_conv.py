"""Long convolution: every channel is mixed by one fixed kernel of many taps.

    y_t = W_o (silu(W_z x_t) * (sum_{l < L} h_l v_{t-l} + skip * v_t))          v = W_v x
    h = sign(taps) max(|taps| - squash, 0)

The kernels are free parameters, regularised by a soft threshold: small taps are zero, which keeps a kernel of
many taps from being mostly noise (Fu et al. 2023, arXiv:2302.06646, section 3.2). They are static: the
mixing does not depend on the input. With L taps the decode state is the last L inputs.

Shapes: B batch, T tokens, S tokens held, D d_model (also the channels), L taps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.language.choices import one_of
from search_spaces.ops.linear import fill
from search_spaces.ops.long_conv import long_conv
from search_spaces.ops.ring import ring_ages, ring_read, ring_write
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

FADE = 0.3
"""How fast kernels fade when they are filled: their spread at lag l is (1 + l)^-(1/2 + FADE)."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class LongConv(Block):
    """A depthwise convolution of `length` free taps per channel, those below `squash` zero, gated."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    elementwise: ClassVar[frozenset[str]] = frozenset({"taps"})

    length: int = 128
    squash: float = 0.003

    @classmethod
    def examples(cls) -> tuple[LongConv, ...]:
        """Shorter and longer than the sequences of the tests."""
        return (cls(length=13), cls(length=90, squash=0.1))

    @classmethod
    def open_forms(cls) -> tuple[LongConv, ...]:
        """Two lengths."""
        return (cls(length=one_of(64, 256)),)

    def stays_exact(self, name: str) -> bool:
        """Not the taps: they are most of its weights."""
        return name != "taps" and super().stays_exact(name)

    def check(self, d_model: int) -> None:
        """The length is a whole number, the threshold at least zero."""
        check_whole_numbers(self, "length")
        squash = self.squash
        if not isinstance(squash, (int, float)) or isinstance(squash, bool) or not 0 <= squash < math.inf:
            raise IllegalArchitecture(f"LongConv: squash must be a number from zero on, got {squash!r}")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return LongConvMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The latest inputs of the convolution."""
        return {"past": StateShape((d_model,), per_token=True, limit=self.length)}

    def layout(self) -> Layout:
        """Taps have an order; channels have none."""
        return Layout(dict.fromkeys(("wv", "wz", "wo"), "D D") | {"taps": "D .", "skip": "D"}, "D")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """The projections; transforms and sums of products by channel are elementwise work."""
        matrices = 3 * d_model * d_model
        per_token = 2 * scenario.batch * matrices
        return Cost(matrices + d_model * (self.length + 1), scenario.prompt * per_token, per_token)


class LongConvMixer(Mixer):
    """The module of `LongConv`."""

    def __init__(self, spec: LongConv, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.squash = spec.squash
        self.wv = nn.Parameter(torch.empty(d_model, d_model))
        self.wz = nn.Parameter(torch.empty(d_model, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, d_model))
        self.taps = nn.Parameter(torch.empty(d_model, spec.length))
        self.skip = nn.Parameter(torch.empty(d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; kernels that fade with the lag."""
        for weight in (self.wv, self.wz, self.wo):
            fill(weight, weight.shape[-1], dice)
        lags = torch.arange(1, self.taps.shape[-1] + 1, device=self.taps.device)
        self.taps.normal_(generator=dice).mul_(lags ** -(0.5 + FADE))
        self.skip.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        v = F.linear(x, self.wv)
        past = v[:, :0] if state is None else ring_read(state["past"], position)
        mixed = long_conv(torch.cat((past, v), dim=1), self._kernel())[:, past.shape[1] :]
        kept = None if state is None else {"past": ring_write(state["past"], v, position)}
        return Mixed(self._merge(x, v, mixed), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        v = F.linear(x, self.wv)
        past = ring_write(state["past"], v[:, None], position)
        # a slot that was never written holds zeros, so its tap does not matter
        taps = self._kernel()[:, ring_ages(past.shape[1], position, x.device)]
        return self._merge(x, v, (past * taps.mT).sum(1)), {"past": past}

    def _kernel(self) -> Tensor:
        return F.softshrink(self.taps, self.squash)

    def _merge(self, x: Tensor, v: Tensor, mixed: Tensor) -> Tensor:
        return F.linear((mixed + self.skip * v) * F.silu(F.linear(x, self.wz)), self.wo)
