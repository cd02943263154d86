"""Mamba-2: a state space layer with one decay per head, computed as chunked linear attention.

    h_t = exp(dt_t A) h_{t-1} + B_t (dt_t x_t)'        y_t = h_t' C_t + D x_t
    out = W_o norm(y * silu(z)),  dt = softplus(W_dt u + b),  x, B, C = silu(conv4(W u))

Dao & Gu 2024, arXiv:2405.21060. B and C are shared by all heads, or by those of each of `groups` groups.
`state_dim` is the width N of B and C; the state is N x head_dim per head, for any length.

Published hybrids vary what follows the recurrence. `norm` says how the gate and the norm stand together:
"gated" as above, "ungated" with the gate behind the norm, norm(y) * silu(z), or "none" with the gate alone
(Falcon-H1, arXiv:2507.22448, has all three). `norm_over` takes the mean square over all heads or over those
of each group (Zamba 2, arXiv:2411.15242; Nemotron-H, arXiv:2504.03624). `dt_least` bounds dt from below.

Shapes: B batch, T tokens, D d_model, H heads, P head_dim, G groups, N state_dim, k taps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_positive_number, check_whole_numbers, check_word
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import decay_attention, decay_attention_step, products
from search_spaces.ops.linear import fill, project
from search_spaces.ops.precision import rms_norm
from search_spaces.ops.shards import rms_norm_of_parts
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

DT_RANGE = (1e-3, 1e-1)
A_RANGE = (1.0, 16.0)

NORMS = ("gated", "ungated", "none")
"""The gate is in front of the norm, behind it, or alone."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Mamba2(Block):
    """A selective state space of `num_heads` heads of `head_dim` channels with `state_dim` states each."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 8e-3
    elementwise: ClassVar[frozenset[str]] = frozenset(
        {"conv_x", "conv_x_bias", "conv_bc", "conv_bc_bias", "norm"}
        | {"conv_bc_groups", "conv_bc_bias_groups"}
    )

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 32
    conv_kernel: int = 4
    groups: int = 1
    norm: str = "gated"
    norm_over: str = "heads"
    norm_epsilon: float = 1e-5
    dt_least: float = 0.0

    @classmethod
    def examples(cls) -> tuple[Mamba2, ...]:
        """States wider and narrower than heads, and heads in groups with other norms."""
        grouped = cls(num_heads=4, head_dim=8, state_dim=4, groups=2)
        return (
            cls(num_heads=2, head_dim=8, state_dim=16),
            cls(num_heads=3, head_dim=16, state_dim=8, conv_kernel=3),
            replace(grouped, norm_over="group", dt_least=0.02),
            replace(grouped, norm="ungated", norm_epsilon=1e-6),
            cls(num_heads=2, head_dim=8, state_dim=4, norm="none"),
        )

    @classmethod
    def open_forms(cls) -> tuple[Mamba2, ...]:
        """Two sizes of the state."""
        return (cls(num_heads=4, head_dim=32, state_dim=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers, and heads fall into equal groups."""
        check_whole_numbers(self, "num_heads", "head_dim", "state_dim", "conv_kernel", "groups")
        if self.num_heads % self.groups:
            raise IllegalArchitecture(
                f"Mamba2: num_heads={self.num_heads} must be a multiple of groups={self.groups}"
            )
        check_word(self, "norm", NORMS)
        check_word(self, "norm_over", ("heads", "group"))
        check_positive_number(self, "norm_epsilon")
        if self.dt_least != 0:
            check_positive_number(self, "dt_least")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return Mamba2Mixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The state of every head, and the last inputs of the short convolutions."""
        before = self.conv_kernel - 1
        return {
            "memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True),
            "conv_x": StateShape((before, self.num_heads * self.head_dim)),
            "conv_bc": StateShape((before, 2 * self.groups * self.state_dim)),
        }

    def layout(self) -> Layout:
        """Heads, their channels, and the state: of all heads (N), or of each group (M)."""
        axes = {"wz": "GH P D", "wx": "GH P D", "wdt": "GH D", "wo": "D GH P", "norm": "GH P"}
        axes |= {"conv_x": "GH P .", "conv_x_bias": "GH P"}
        axes |= dict.fromkeys(("dt_bias", "a_log", "skip"), "GH")
        axes |= {"wbc": ". N D", "conv_bc": ". N .", "conv_bc_bias": ". N"}
        axes |= {"wbc_groups": ". G M D", "conv_bc_groups": ". G M .", "conv_bc_bias_groups": ". G M"}
        return Layout(axes, "DGHPNM", {"H": "G", "M": "G"})

    def named(self, name: str) -> str:
        """The name of a parameter of B and C: those in groups have an axis more, and a name of their own."""
        return name if self.groups == 1 else f"{name}_groups"

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, the products within chunks, and those with the state."""
        inner, shared = self.num_heads * self.head_dim, 2 * self.groups * self.state_dim
        matrices = d_model * (3 * inner + shared + self.num_heads)
        taps = (self.conv_kernel + 1) * (inner + shared)
        heads = self.num_heads // self.groups
        mixing = self.groups * products(scenario.prompt, heads, self.state_dim, self.head_dim, shared=True)
        return Cost(
            matrices + taps + 3 * self.num_heads + (0 if self.norm == "none" else inner),
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + inner * self.state_dim),
        )


class Mamba2Mixer(Mixer):
    """The module of `Mamba2`."""

    def __init__(self, spec: Mamba2, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.spec = spec
        heads, width, states, taps = spec.num_heads, spec.head_dim, spec.state_dim, spec.conv_kernel
        shared = (2, states) if spec.groups == 1 else (2, spec.groups, states)
        self.wz = nn.Parameter(torch.empty(heads, width, d_model))
        self.wx = nn.Parameter(torch.empty(heads, width, d_model))
        self._add("wbc", (*shared, d_model))
        self.wdt = nn.Parameter(torch.empty(heads, d_model))
        self.conv_x = nn.Parameter(torch.empty(heads, width, taps))
        self.conv_x_bias = nn.Parameter(torch.empty(heads, width))
        self._add("conv_bc", (*shared, taps))
        self._add("conv_bc_bias", shared)
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.a_log = nn.Parameter(torch.empty(heads))
        self.skip = nn.Parameter(torch.empty(heads))
        self.norm = None if spec.norm == "none" else nn.Parameter(torch.empty(heads, width))
        self.wo = nn.Parameter(torch.empty(d_model, heads, width))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """As in the paper's code: A uniform in [1, 16], dt log-uniform in [0.001, 0.1]."""
        wbc, conv_bc = self._shared("wbc"), self._shared("conv_bc")
        for weight in (self.wz, self.wx, wbc, self.wdt, self.conv_x, conv_bc):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        for bias in (self.conv_x_bias, self._shared("conv_bc_bias")):
            bias.zero_()
        self.a_log.uniform_(*A_RANGE, generator=dice).log_()
        self.dt_bias.uniform_(*map(math.log, DT_RANGE), generator=dice).exp_()
        self.dt_bias.add_((-torch.expm1(-self.dt_bias)).log_())  # the inverse of softplus
        for gain in (self.skip, self.norm):
            if gain is not None:
                gain.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        v, b, c, before = self._convolve(x, state)
        dt = self._dt(x)
        # groups are rows of a batch, whose heads share B and C
        y, last = decay_attention(
            self._by_group(c)[:, :, None],
            self._by_group(b)[:, :, None],
            self._by_group(v * dt[..., None].to(v.dtype), heads=True),
            self._by_group(dt * -self._exact(self.a_log).exp(), heads=True),
            None if state is None else self._rows(state["memory"]),
            final=state is not None,
        )
        if self.spec.groups > 1:
            y = y.unflatten(0, (x.shape[0], -1)).transpose(1, 2).flatten(2, 3)
            last = None if last is None else last.reshape(x.shape[0], -1, *last.shape[2:])
        kept = None if last is None else {"memory": last, **before}
        return Mixed(self._merge(y, v, x), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        v, b, c, before = self._convolve(x[:, None], state)
        v, dt = v[:, 0], self._dt(x)
        if self.spec.groups > 1:
            b, c = (part[:, 0].repeat_interleave(self._heads, dim=1) for part in (b, c))
        g = dt * -self._exact(self.a_log).exp()
        y, memory = decay_attention_step(c, b, v * dt[..., None].to(v.dtype), g, state["memory"])
        return self._merge(y, v, x), {"memory": memory, **before}

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        """A parameter of B and C."""
        self.register_parameter(self.spec.named(name), nn.Parameter(torch.empty(shape)))

    def _shared(self, name: str) -> Tensor:
        weight: Tensor = getattr(self, self.spec.named(name))
        return weight

    @property
    def _heads(self) -> int:
        """Heads of a group; of a part of the block, those that are there."""
        heads: int = self.wx.shape[0]
        return heads if self.spec.groups == 1 else heads // self._shared("wbc").shape[1]

    def _by_group(self, x: Tensor, heads: bool = False) -> Tensor:
        """x [B, T, G, ...], or of `heads` [B, T, H, ...], with groups as rows: [B G, T, ...]."""
        if self.spec.groups == 1:
            return x
        x = x.unflatten(2, (-1, self._heads)) if heads else x
        return x.transpose(1, 2).flatten(0, 1)

    def _rows(self, memory: Tensor) -> Tensor:
        """A state [B, H, N, P] with groups as rows."""
        return memory if self.spec.groups == 1 else memory.unflatten(1, (-1, self._heads)).flatten(0, 1)

    def _convolve(self, x: Tensor, state: State | None) -> tuple[Tensor, Tensor, Tensor, State]:
        """v [B, T, H, P], b and c [B, T, N] or [B, T, G, N], and the last inputs of the convolutions."""
        v, last_v = short_conv(
            project(x, self.wx).flatten(-2),
            self.conv_x.flatten(0, 1),
            self.conv_x_bias.flatten(),
            None if state is None else state["conv_x"],
        )
        wbc = self._shared("wbc")
        bc, last_bc = short_conv(
            project(x, wbc).flatten(2),
            self._shared("conv_bc").flatten(0, -2),
            self._shared("conv_bc_bias").flatten(),
            None if state is None else state["conv_bc"],
        )
        b, c = F.silu(bc).unflatten(-1, wbc.shape[:-1]).unbind(2)
        v = F.silu(v).unflatten(-1, self.wx.shape[:2])
        return v, b, c, {"conv_x": last_v, "conv_bc": last_bc}

    def _dt(self, x: Tensor) -> Tensor:
        """Step sizes [..., H], in float32 at least."""
        dt = F.softplus(self._exact(F.linear(x, self.wdt)) + self._exact(self.dt_bias))
        return dt.clamp(min=self.spec.dt_least) if self.spec.dt_least else dt

    def _merge(self, y: Tensor, v: Tensor, x: Tensor) -> Tensor:
        y, gate = y + v * self.skip[:, None], F.silu(project(x, self.wz))
        if self.spec.norm != "ungated":
            y = y * gate
        if self.norm is not None:
            y = self._normed(y, self.norm)
        if self.spec.norm == "ungated":
            y = y * gate
        return F.linear(y.flatten(-2), self.wo.flatten(1))

    def _normed(self, y: Tensor, gain: Tensor) -> Tensor:
        """y [..., H, P] over its root mean square, of all heads or of each group's."""
        if self.spec.norm_over == "group" and self.spec.groups > 1:
            apart = y.unflatten(-2, (-1, self._heads)).flatten(-2)
            gains = gain.unflatten(0, (-1, self._heads)).flatten(-2)
            normed = rms_norm(apart, apart.shape[-1:], None, self.spec.norm_epsilon) * gains
            return normed.unflatten(-1, (self._heads, -1)).flatten(-3, -2)
        normed = rms_norm_of_parts(y.flatten(-2), gain.flatten(), self.spec.norm_epsilon)
        return normed.unflatten(-1, gain.shape)

    @staticmethod
    def _exact(x: Tensor) -> Tensor:
        return x if x.dtype is torch.float64 else x.float()
