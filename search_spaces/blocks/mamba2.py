"""Mamba-2: a state space layer with one decay per head, computed as chunked linear attention.

    h_t = exp(dt_t A) h_{t-1} + B_t (dt_t x_t)'        y_t = h_t' C_t + D x_t
    out = W_o norm(y * silu(z)),  dt = softplus(W_dt u + b),  x, B, C = silu(conv4(W u))

Dao & Gu 2024, arXiv:2405.21060. B and C are shared by all heads. `state_dim` is the width N of B and C; the
state is N x head_dim per head, for any length.

Shapes: B batch, T tokens, D d_model, H heads, P head_dim, N state_dim, k taps.
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
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import decay_attention, decay_attention_step, products
from search_spaces.ops.linear import fill, project
from search_spaces.ops.shards import rms_norm_of_parts
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

DT_RANGE = (1e-3, 1e-1)
A_RANGE = (1.0, 16.0)


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Mamba2(Block):
    """A selective state space of `num_heads` heads of `head_dim` channels with `state_dim` states each."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 8e-3
    elementwise: ClassVar[frozenset[str]] = frozenset(
        {"conv_x", "conv_x_bias", "conv_bc", "conv_bc_bias", "norm"}
    )

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 32
    conv_kernel: int = 4

    @classmethod
    def examples(cls) -> tuple[Mamba2, ...]:
        """States wider and narrower than heads."""
        return (
            cls(num_heads=2, head_dim=8, state_dim=16),
            cls(num_heads=3, head_dim=16, state_dim=8, conv_kernel=3),
        )

    @classmethod
    def open_forms(cls) -> tuple[Mamba2, ...]:
        """Two sizes of the state."""
        return (cls(num_heads=4, head_dim=32, state_dim=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers."""
        check_whole_numbers(self, "num_heads", "head_dim", "state_dim", "conv_kernel")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return Mamba2Mixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The state of every head, and the last inputs of the short convolutions."""
        before = self.conv_kernel - 1
        return {
            "memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True),
            "conv_x": StateShape((before, self.num_heads * self.head_dim)),
            "conv_bc": StateShape((before, 2 * self.state_dim)),
        }

    def layout(self) -> Layout:
        """Heads, their channels, and the state."""
        return Layout(
            {
                "wz": "H P D",
                "wx": "H P D",
                "wbc": ". N D",
                "wdt": "H D",
                "conv_x": "H P .",
                "conv_x_bias": "H P",
            }
            | {"conv_bc": ". N .", "conv_bc_bias": ". N", "norm": "H P", "wo": "D H P"}
            | dict.fromkeys(("dt_bias", "a_log", "skip"), "H"),
            "DHPN",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, the products within chunks, and those with the state."""
        inner = self.num_heads * self.head_dim
        matrices = d_model * (3 * inner + 2 * self.state_dim + self.num_heads)
        taps = (self.conv_kernel + 1) * (inner + 2 * self.state_dim)
        mixing = products(scenario.prompt, self.num_heads, self.state_dim, self.head_dim, shared=True)
        return Cost(
            matrices + taps + 3 * self.num_heads + inner,
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + inner * self.state_dim),
        )


class Mamba2Mixer(Mixer):
    """The module of `Mamba2`."""

    def __init__(self, spec: Mamba2, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        heads, width, states, taps = spec.num_heads, spec.head_dim, spec.state_dim, spec.conv_kernel
        self.wz = nn.Parameter(torch.empty(heads, width, d_model))
        self.wx = nn.Parameter(torch.empty(heads, width, d_model))
        self.wbc = nn.Parameter(torch.empty(2, states, d_model))
        self.wdt = nn.Parameter(torch.empty(heads, d_model))
        self.conv_x = nn.Parameter(torch.empty(heads, width, taps))
        self.conv_x_bias = nn.Parameter(torch.empty(heads, width))
        self.conv_bc = nn.Parameter(torch.empty(2, states, taps))
        self.conv_bc_bias = nn.Parameter(torch.empty(2, states))
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.a_log = nn.Parameter(torch.empty(heads))
        self.skip = nn.Parameter(torch.empty(heads))
        self.norm = nn.Parameter(torch.empty(heads, width))
        self.wo = nn.Parameter(torch.empty(d_model, heads, width))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """As in the paper's code: A uniform in [1, 16], dt log-uniform in [0.001, 0.1]."""
        for weight in (self.wz, self.wx, self.wbc, self.wdt, self.conv_x, self.conv_bc):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        for bias in (self.conv_x_bias, self.conv_bc_bias):
            bias.zero_()
        self.a_log.uniform_(*A_RANGE, generator=dice).log_()
        self.dt_bias.uniform_(*map(math.log, DT_RANGE), generator=dice).exp_()
        self.dt_bias.add_((-torch.expm1(-self.dt_bias)).log_())  # the inverse of softplus
        self.skip.fill_(1.0)
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        v, b, c, before = self._convolve(x, state)
        dt = self._dt(x)
        y, last = decay_attention(
            c[:, :, None],
            b[:, :, None],
            v * dt[..., None].to(v.dtype),
            dt * -self._exact(self.a_log).exp(),
            None if state is None else state["memory"],
            final=state is not None,
        )
        kept = None if last is None else {"memory": last, **before}
        return Mixed(self._merge(y, v, x), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        v, b, c, before = self._convolve(x[:, None], state)
        v, b, c, dt = v[:, 0], b, c, self._dt(x)
        g = dt * -self._exact(self.a_log).exp()
        y, memory = decay_attention_step(c, b, v * dt[..., None].to(v.dtype), g, state["memory"])
        return self._merge(y, v, x), {"memory": memory, **before}

    def _convolve(self, x: Tensor, state: State | None) -> tuple[Tensor, Tensor, Tensor, State]:
        """v [B, T, H, P], b and c [B, T, N], and the last inputs of the convolutions."""
        v, last_v = short_conv(
            project(x, self.wx).flatten(-2),
            self.conv_x.flatten(0, 1),
            self.conv_x_bias.flatten(),
            None if state is None else state["conv_x"],
        )
        bc, last_bc = short_conv(
            project(x, self.wbc).flatten(-2),
            self.conv_bc.flatten(0, 1),
            self.conv_bc_bias.flatten(),
            None if state is None else state["conv_bc"],
        )
        b, c = F.silu(bc).chunk(2, dim=-1)
        v = F.silu(v).unflatten(-1, self.norm.shape)
        return v, b, c, {"conv_x": last_v, "conv_bc": last_bc}

    def _dt(self, x: Tensor) -> Tensor:
        """Step sizes [..., H], in float32 at least."""
        return F.softplus(self._exact(F.linear(x, self.wdt)) + self._exact(self.dt_bias))

    def _merge(self, y: Tensor, v: Tensor, x: Tensor) -> Tensor:
        y = (y + v * self.skip[:, None]) * F.silu(project(x, self.wz))
        normed = rms_norm_of_parts(y.flatten(-2), self.norm.flatten(), 1e-5)
        return F.linear(normed, self.wo.flatten(1))

    @staticmethod
    def _exact(x: Tensor) -> Tensor:
        return x if x.dtype is torch.float64 else x.float()
