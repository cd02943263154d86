"""Hyena: a long convolution between two gates, whose kernel is a small network of the lag.

    y_t = W_o (q_t * (sum_l h_l u_{t-l} + skip * u_t))          u_t = k_t * v_t
    q, k, v = short_conv(W_q x), short_conv(W_k x), short_conv(W_v x)
    h_l = mlp(features(l)) * exp(-exp(fade) l / SCALE)     features(l) = l / SCALE, its sines and cosines

Poli et al. 2023, arXiv:2302.10866, of order two. The kernel is a function of the lag alone, not of the length
of the sequence, so a longer sequence only adds taps. It is no recurrence: decode keeps every u of the past
(or the last `length`) beside the tap of every lag so far, and its time and memory grow with them. `cost` has
no such term, for one sum of products per channel is elementwise work, bound by the reading of the state.

Shapes: B batch, T tokens, S tokens held, D d_model, L lags, F width of the kernel's network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.ops.linear import fill
from search_spaces.ops.long_conv import long_conv
from search_spaces.ops.ring import ring_ages, ring_read, ring_write
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

SCALE = 1024.0
"""Tokens after which the slowest feature of a lag has turned once."""

BANDS = 8
FEATURES = 1 + 2 * BANDS
KINDS = 3


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Hyena(Block):
    """Gated long convolution; its kernel is a network of `filter_dim` units, cut at `length` lags."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    elementwise: ClassVar[frozenset[str]] = frozenset({"conv"})

    filter_dim: int = 32
    conv_kernel: int = 3
    length: int | None = None

    @classmethod
    def examples(cls) -> tuple[Hyena, ...]:
        """As long as the sequence, and cut."""
        return (cls(filter_dim=8), cls(filter_dim=12, conv_kernel=4, length=19))

    @classmethod
    def open_forms(cls) -> tuple[Hyena, ...]:
        """A small filter network."""
        return (cls(filter_dim=32),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers; a short convolution has two taps at least."""
        check_whole_numbers(self, "filter_dim")
        check_whole_numbers(self, "conv_kernel", at_least=2)
        if self.length is not None:
            check_whole_numbers(self, "length")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return HyenaMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """What the long convolution has read and its taps, and the last inputs of the short ones."""
        return {
            "past": StateShape((d_model,), per_token=True, limit=self.length),
            "taps": StateShape((d_model,), per_token=True, limit=self.length, derived=True),
            "conv": StateShape((self.conv_kernel - 1, KINDS * d_model)),
        }

    def layout(self) -> Layout:
        """Channels, and the hidden channels of the filter network."""
        return Layout(
            {"w_in": ". D D", "conv": ". D .", "filter_in": "F .", "filter_in_bias": "F"}
            | {"filter_hidden": "F F", "filter_hidden_bias": "F", "frequency": "F", "filter_out": "D F"}
            | {"fade": "D", "skip": "D", "wo": "D D"},
            "DF",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and the kernel's network: at every lag for a prompt, at one more for each new token.

        It is evaluated once for the whole batch. Transforms and sums of products are elementwise work.
        """
        matrices = 4 * d_model * d_model
        network = self.filter_dim * (FEATURES + self.filter_dim + d_model)
        small = 2 * self.filter_dim + self.filter_dim + 2 * d_model
        lags = min(scenario.prompt, self.length or scenario.prompt)
        return Cost(
            matrices + network + small + KINDS * d_model * self.conv_kernel,
            2 * (scenario.batch * scenario.prompt * matrices + lags * network),
            2 * (scenario.batch * matrices + network),
        )


class HyenaMixer(Mixer):
    """The module of `Hyena`."""

    def __init__(self, spec: Hyena, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.length, width = spec.length, spec.filter_dim
        self.w_in = nn.Parameter(torch.empty(KINDS, d_model, d_model))
        self.conv = nn.Parameter(torch.empty(KINDS, d_model, spec.conv_kernel))
        self.filter_in = nn.Parameter(torch.empty(width, FEATURES))
        self.filter_in_bias = nn.Parameter(torch.empty(width))
        self.filter_hidden = nn.Parameter(torch.empty(width, width))
        self.filter_hidden_bias = nn.Parameter(torch.empty(width))
        self.frequency = nn.Parameter(torch.empty(width))
        self.filter_out = nn.Parameter(torch.empty(d_model, width))
        self.fade = nn.Parameter(torch.empty(d_model))
        self.skip = nn.Parameter(torch.empty(d_model))
        self.wo = nn.Parameter(torch.empty(d_model, d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; half-lives of a few tokens to a thousand."""
        for weight in (self.w_in, self.wo, self.conv, self.filter_in, self.filter_hidden, self.filter_out):
            fill(weight, weight.shape[-1], dice)
        for bias in (self.filter_in_bias, self.filter_hidden_bias):
            bias.uniform_(-math.pi, math.pi, generator=dice)
        self.frequency.fill_(1.0)
        self.fade.uniform_(math.log(1.0), math.log(SCALE / 4), generator=dice)
        self.skip.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, u, conv = self._project(x, None if state is None else state["conv"])
        past = u[:, :0] if state is None else ring_read(state["past"], position)
        count = past.shape[1] + u.shape[1]
        taps = self._taps(torch.arange(min(count, self.length or count), device=x.device))
        mixed = long_conv(torch.cat((past, u), dim=1), taps)[:, past.shape[1] :]
        y = F.linear(q * (mixed + self.skip * u), self.wo)
        if state is None:
            return Mixed(y)
        lags = torch.arange(position, position + u.shape[1], device=x.device)
        new = taps.mT[lags if self.length is None else lags.remainder(self.length)]
        kept = {
            "past": ring_write(state["past"], u, position),
            "taps": ring_write(state["taps"], new.to(u.dtype).expand_as(u), position),
            "conv": conv,
        }
        return Mixed(y, kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, u, conv = self._project(x[:, None], state["conv"])
        past, slots = ring_write(state["past"], u, position), state["past"].shape[1]
        lag = torch.as_tensor(position, device=x.device).remainder(slots)
        taps = ring_write(state["taps"], self._taps(lag[None]).mT.to(u.dtype).expand_as(u), position)
        filled = slots if isinstance(position, Tensor) else min(position + 1, slots)
        ages = ring_ages(slots, position, x.device)[:filled]
        mixed = (past[:, :filled] * taps.index_select(1, ages)).sum(1)
        y = F.linear(q[:, 0] * (mixed + self.skip * u[:, 0]), self.wo)
        return y, {"past": past, "taps": taps, "conv": conv}

    def _project(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """q and u [B, T, D], and the last inputs of the short convolutions."""
        projected = F.linear(x, self.w_in.flatten(0, 1))
        mixed, last = short_conv(projected, self.conv.flatten(0, 1), before=before)
        q, k, v = mixed.chunk(KINDS, dim=-1)
        return q, k * v, last

    def _taps(self, lags: Tensor) -> Tensor:
        """The kernel [D, L] at these lags [L]."""
        dtype = self.filter_in.dtype
        exact = torch.promote_types(dtype, torch.float32)
        time = lags.to(exact)[:, None] / SCALE
        angle = 2 * math.pi * time * 2.0 ** torch.arange(BANDS, device=lags.device)
        features = torch.cat((time, angle.sin(), angle.cos()), dim=-1).to(dtype)
        hidden = torch.sin(self.frequency * F.linear(features, self.filter_in, self.filter_in_bias))
        hidden = torch.sin(self.frequency * F.linear(hidden, self.filter_hidden, self.filter_hidden_bias))
        window = torch.exp(-self.fade.to(exact).exp() * time)
        return (F.linear(hidden, self.filter_out) * window.to(dtype)).mT
