"""Mamba: a diagonal state space per channel whose step size, input and output maps depend on the token.

    h_t = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t'        y_t = h_t C_t + D u_t        A = -exp(a_log)
    out = W_o (y * silu(W_z x)),  u = silu(conv4(W_x x)),  B, C = W_bc u,  dt = softplus(W_2 W_1 u + b)

Gu & Dao 2023, arXiv:2312.00752. B and C are shared by all channels; dt comes from a product of rank
`dt_rank`. With `norms`, W_1 u, B and C pass a root mean square norm first, as in Jamba (Lieber et al. 2024,
arXiv:2403.19887). The state is `state_dim` values per channel, for any length.

Shapes: B batch, T tokens, D d_model, C channels, N state_dim, R dt_rank, k taps.
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
from search_spaces.ops.linear import fill, head_norm, project
from search_spaces.ops.selective_scan import selective_scan, selective_scan_step
from search_spaces.ops.shards import sum_over_parts
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

DT_RANGE = (1e-3, 1e-1)


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Mamba(Block):
    """A selective state space of `channels` channels with `state_dim` states each."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 8.5e-3
    elementwise: ClassVar[frozenset[str]] = frozenset({"conv", "a_log", "bc_norm"})

    channels: int = 128
    state_dim: int = 16
    dt_rank: int = 8
    conv_kernel: int = 4
    norms: bool = False

    @classmethod
    def examples(cls) -> tuple[Mamba, ...]:
        """Mamba and Jamba."""
        return (
            cls(channels=24, state_dim=8, dt_rank=3),
            cls(channels=16, state_dim=5, dt_rank=4, conv_kernel=3, norms=True),
        )

    @classmethod
    def open_forms(cls) -> tuple[Mamba, ...]:
        """Two widths and two sizes of the state, with and without the norms of Jamba."""
        return (cls(channels=one_of(64, 128), state_dim=one_of(16, 32), norms=one_of(False, True)),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers."""
        check_whole_numbers(self, "channels", "state_dim", "dt_rank", "conv_kernel")
        if not isinstance(self.norms, bool):
            raise IllegalArchitecture(f"Mamba: norms must be True or False, got {self.norms!r}")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return MambaMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The states of every channel, and the last inputs of the short convolution."""
        return {
            "memory": StateShape((self.channels, self.state_dim), exact=True),
            "conv": StateShape((self.conv_kernel - 1, self.channels)),
        }

    def layout(self) -> Layout:
        """Inner channels, the state, and the rank of dt."""
        return Layout(
            {"wz": "C D", "wx": "C D", "conv": "C .", "conv_bias": "C", "wbc": ". N C", "dt_in": "R C"}
            | {"dt_out": "C R", "dt_bias": "C", "a_log": "C N", "skip": "C", "wo": "D C"}
            | {"dt_norm": "R", "bc_norm": ". N"},
            "DCNR",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections and the products of states with C; the recurrence itself is elementwise."""
        selected = self.dt_rank + 2 * self.state_dim
        matrices = self.channels * (3 * d_model + selected + self.dt_rank)
        # taps and their bias, the bias of dt, D
        vectors = self.channels * (self.conv_kernel + 1 + 1 + 1) + (selected if self.norms else 0)
        per_token = 2 * scenario.batch * (matrices + self.channels * self.state_dim)
        params = matrices + vectors + self.channels * self.state_dim
        return Cost(params, scenario.prompt * per_token, per_token)


class MambaMixer(Mixer):
    """The module of `Mamba`.

    Weights that go into a vectorised function are made contiguous first, so that a slice of a larger weight
    takes the same path, and gives the same bits, as its copy.
    """

    def __init__(self, spec: Mamba, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        channels, states, rank = spec.channels, spec.state_dim, spec.dt_rank
        self.wz = nn.Parameter(torch.empty(channels, d_model))
        self.wx = nn.Parameter(torch.empty(channels, d_model))
        self.conv = nn.Parameter(torch.empty(channels, spec.conv_kernel))
        self.conv_bias = nn.Parameter(torch.empty(channels))
        self.wbc = nn.Parameter(torch.empty(2, states, channels))
        self.dt_in = nn.Parameter(torch.empty(rank, channels))
        self.dt_out = nn.Parameter(torch.empty(channels, rank))
        self.dt_bias = nn.Parameter(torch.empty(channels))
        self.a_log = nn.Parameter(torch.empty(channels, states))
        self.skip = nn.Parameter(torch.empty(channels))
        self.wo = nn.Parameter(torch.empty(d_model, channels))
        self.dt_norm = nn.Parameter(torch.empty(rank)) if spec.norms else None
        self.bc_norm = nn.Parameter(torch.empty(2, states)) if spec.norms else None

    def reset_parameters(self, dice: torch.Generator) -> None:
        """As in the paper: A is -1, -2, ... in every channel, dt log-uniform in [0.001, 0.1]."""
        for weight in (self.wz, self.wx, self.conv, self.wbc, self.dt_in, self.wo):
            fill(weight, weight.shape[-1], dice)
        bound = self.dt_out.shape[-1] ** -0.5
        self.dt_out.uniform_(-bound, bound, generator=dice)
        self.dt_bias.uniform_(*map(math.log, DT_RANGE), generator=dice).exp_()
        self.dt_bias.add_((-torch.expm1(-self.dt_bias)).log_())  # the inverse of softplus
        states = torch.arange(1, self.a_log.shape[-1] + 1, device=self.a_log.device)
        self.a_log.copy_(states.log().expand_as(self.a_log))
        self.conv_bias.zero_()
        for scale in (self.skip, self.dt_norm, self.bc_norm):
            if scale is not None:
                scale.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        u, last = self._convolve(x, None if state is None else state["conv"])
        dt, a, b, c = self._select(u)
        y, memory = selective_scan(u, dt, a, b, c=c, state=None if state is None else state["memory"])
        kept = None if state is None else {"memory": memory, "conv": last}
        return Mixed(self._merge(y, u, x), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        extended, last = self._convolve(x[:, None], state["conv"])
        u = extended[:, 0]
        dt, a, b, c = self._select(u)
        y, memory = selective_scan_step(u, dt, a, b, c=c, state=state["memory"])
        return self._merge(y, u, x), {"memory": memory, "conv": last}

    def _convolve(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """u [B, T, C] and the last inputs of the convolution."""
        u, last = short_conv(F.linear(x, self.wx), self.conv, self.conv_bias, before)
        return F.silu(u), last

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """dt [..., C] and A [C, N] in float32 at least, and B and C [..., N], of u [..., C]."""
        bc, low = sum_over_parts(project(u, self.wbc)), sum_over_parts(F.linear(u, self.dt_in))
        if self.dt_norm is not None and self.bc_norm is not None:
            low = head_norm(low, self.dt_norm)
            bc = head_norm(bc, bc.new_ones(bc.shape[-1])) * self.bc_norm
        dt = F.softplus(self._exact(F.linear(low, self.dt_out)) + self._exact(self.dt_bias))
        b, c = bc.unbind(-2)
        return dt, -self._exact(self.a_log.contiguous()).exp(), b, c

    def _merge(self, y: Tensor, u: Tensor, x: Tensor) -> Tensor:
        y = torch.addcmul(y, self._exact(u), self._exact(self.skip)).to(x.dtype)
        return F.linear(y * F.silu(F.linear(x, self.wz)), self.wo)

    @staticmethod
    def _exact(x: Tensor) -> Tensor:
        return x if x.dtype is torch.float64 else x.float()
