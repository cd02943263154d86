"""Gated DeltaNet: the delta rule with a memory that fades, and a gated output.

    S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}' k_t)'        y_t = W_o (norm(S_t' q_t) * silu(W_z x_t))
    a_t = exp(-A dt_t)        dt_t = softplus(W_dt x_t + c)        b_t = sigmoid(W_b x_t)

Yang et al. 2024, arXiv:2412.06464; queries, keys, values and variants as in `search_spaces.blocks.delta_net`.

Shapes: B batch, T tokens, D d_model, H heads, P head_dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Cost, Mixer, blocks
from search_spaces.blocks.delta_net import DeltaNet, DeltaNetMixer
from search_spaces.blocks.layouts import DELTA_RULE
from search_spaces.ops.linear import fill, head_norm, merge, project
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

DT_RANGE = (1e-3, 1e-1)
A_RANGE = (1.0, 16.0)


@blocks.add
@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(DeltaNet):
    """The delta rule with one decay per head and token, and an output gate."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return GatedDeltaNetMixer(self, d_model)

    def layout(self) -> Layout:
        """Heads, and the channels of keys and values."""
        gates = {"wz": "GH V D", "wdt": "GH D", "dt_bias": "GH", "a_log": "GH"}
        return Layout(DELTA_RULE | gates, "DGHNV", {"H": "G"})

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """As `DeltaNet`, and the projections to the decay and to the output gate."""
        more = d_model * self.num_heads * (self.head_dim + 1)
        per_token = 2 * scenario.batch * more
        gates = Cost(more + 2 * self.num_heads, scenario.prompt * per_token, per_token)
        return super().cost(d_model, scenario) + gates


class GatedDeltaNetMixer(DeltaNetMixer):
    """The module of `GatedDeltaNet`."""

    def __init__(self, spec: GatedDeltaNet, d_model: int) -> None:
        super().__init__(spec, d_model)
        self.wz = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim, d_model))
        self.wdt = nn.Parameter(torch.empty(spec.num_heads, d_model))
        self.dt_bias = nn.Parameter(torch.empty(spec.num_heads))
        self.a_log = nn.Parameter(torch.empty(spec.num_heads))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """A uniform in [1, 16], dt log-uniform in [0.001, 0.1]."""
        super().reset_parameters(dice)
        for weight in (self.wz, self.wdt):
            fill(weight, weight.shape[-1], dice)
        self.a_log.uniform_(*A_RANGE, generator=dice).log_()
        self.dt_bias.uniform_(*map(math.log, DT_RANGE), generator=dice).exp_()
        self.dt_bias.add_((-torch.expm1(-self.dt_bias)).log_())  # the inverse of softplus

    def _log_decay(self, x: Tensor) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        dt = F.softplus(F.linear(x, self.wdt).to(exact) + self.dt_bias.to(exact))
        return dt * -self.a_log.to(exact).contiguous().exp()

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        normed = head_norm(y, self.norm, self.norm_epsilon)
        return merge(normed * F.silu(project(x, self.wz)), self.wo)
