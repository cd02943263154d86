"""DeltaNet: linear attention that corrects what its memory holds under a key, instead of adding to it.

    S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}' k_t)'        y_t = W_o norm(S_t' q_t)
    q, k, v = silu(conv(W x_t)), q and k brought to length one        b_t = sigmoid(W_b x_t)

Yang et al. 2024, arXiv:2406.06484; queries are scaled by N^-1/2. `state_dim` is the width of queries and keys
of one head, `head_dim` that of its values; the memory is state_dim x head_dim per head, for any length.

Variants: with `num_key_heads` groups of heads share their queries and keys, as in Qwen3-Next (2025). With
`negative_eigenvalues` b_t is twice the sigmoid, so that what stands under a key may change its sign (Grazzi
et al. 2024, arXiv:2411.12537).

Shapes: B batch, T tokens, D d_model, H heads, G key heads, N state_dim, P head_dim, k taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import (
    check_equal_groups,
    check_flag,
    check_positive_number,
    check_whole_numbers,
)
from search_spaces.blocks.layouts import DELTA_RULE
from search_spaces.language.choices import one_of
from search_spaces.ops.delta_rule import delta_rule, delta_rule_step, products
from search_spaces.ops.linear import fill, head_norm, merge, project
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class DeltaNet(Block):
    """Linear attention by the delta rule, behind short convolutions.

    `num_key_heads=None` gives every head queries and keys of its own.
    """

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 1.2e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"conv_qk", "conv_v"})

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 32
    conv_kernel: int = 4
    num_key_heads: int | None = None
    negative_eigenvalues: bool = False
    norm_epsilon: float = 1e-6

    @classmethod
    def examples(cls) -> tuple[DeltaNet, ...]:
        """Keys narrower and wider than values, shared ones, and corrections of up to two."""
        return (
            cls(num_heads=2, head_dim=16, state_dim=8),
            cls(num_heads=3, head_dim=8, state_dim=12, conv_kernel=3),
            cls(num_heads=4, num_key_heads=2, head_dim=8, state_dim=6, norm_epsilon=1e-5),
            cls(num_heads=2, head_dim=8, state_dim=8, negative_eigenvalues=True),
        )

    @classmethod
    def open_forms(cls) -> tuple[DeltaNet, ...]:
        """Two sizes of the state."""
        return (cls(num_heads=4, head_dim=16, state_dim=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers; heads must fall into equal groups that share keys."""
        check_whole_numbers(self, "num_heads", "head_dim", "state_dim", "conv_kernel")
        if self.num_key_heads is not None:
            check_whole_numbers(self, "num_key_heads")
            check_equal_groups(self, "num_key_heads")
        check_flag(self, "negative_eigenvalues")
        check_positive_number(self, "norm_epsilon")

    @property
    def key_heads(self) -> int:
        """How many heads of queries and keys there are."""
        return self.num_heads if self.num_key_heads is None else self.num_key_heads

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return DeltaNetMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """One matrix per head, and the last inputs of the short convolutions."""
        before = self.conv_kernel - 1
        return {
            "memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True),
            "conv_qk": StateShape((before, 2 * self.key_heads * self.state_dim)),
            "conv_v": StateShape((before, self.num_heads * self.head_dim)),
        }

    def layout(self) -> Layout:
        """Heads, and the channels of keys and values."""
        return Layout(DELTA_RULE, "DGHNV", {"H": "G"})

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, the products within chunks, and those with the memory."""
        keys, values = self.key_heads * self.state_dim, self.num_heads * self.head_dim
        matrices = d_model * (2 * keys + 2 * values + self.num_heads)
        taps = self.conv_kernel * (2 * keys + values)
        mixing = products(scenario.prompt, self.num_heads, self.state_dim, self.head_dim)
        return Cost(
            matrices + taps + self.head_dim,
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + 2 * values * self.state_dim),
        )


class DeltaNetMixer(Mixer):
    """The module of `DeltaNet`."""

    def __init__(self, spec: DeltaNet, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        heads, keys, values, taps = spec.num_heads, spec.state_dim, spec.head_dim, spec.conv_kernel
        self.heads_per_key, self.norm_epsilon = heads // spec.key_heads, spec.norm_epsilon
        self.largest_rate = 2 if spec.negative_eigenvalues else 1
        self.wqk = nn.Parameter(torch.empty(2, spec.key_heads, keys, d_model))
        self.wv = nn.Parameter(torch.empty(heads, values, d_model))
        self.wb = nn.Parameter(torch.empty(heads, d_model))
        self.conv_qk = nn.Parameter(torch.empty(2, spec.key_heads, keys, taps))
        self.conv_v = nn.Parameter(torch.empty(heads, values, taps))
        self.norm = nn.Parameter(torch.empty(values))
        self.wo = nn.Parameter(torch.empty(d_model, heads, values))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; norms at one."""
        for weight in (self.wqk, self.wv, self.wb, self.conv_qk, self.conv_v):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v, before = self._convolve(x, state)
        memory = None if state is None else state["memory"]
        y, last = delta_rule(
            q, k, v, self._rate(x), self._log_decay(x), state=memory, final=state is not None
        )
        return Mixed(self._merge(y, x), None if last is None else {"memory": last, **before})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, k, v, before = self._convolve(x[:, None], state)
        b, g = self._rate(x), self._log_decay(x)
        y, memory = delta_rule_step(q[:, 0], k[:, 0], v[:, 0], b, g, state=state["memory"])
        return self._merge(y, x), {"memory": memory, **before}

    def _convolve(self, x: Tensor, state: State | None) -> tuple[Tensor, Tensor, Tensor, State]:
        """q and k [B, T, H, N], v [B, T, H, P], and the last inputs of the convolutions."""
        parts, last = [], {}
        for name, weight, taps in (
            ("conv_qk", self.wqk, self.conv_qk),
            ("conv_v", self.wv, self.conv_v),
        ):
            before = None if state is None else state[name]
            y, last[name] = short_conv(project(x, weight).flatten(2), taps.flatten(0, -2), None, before)
            parts.append(F.silu(y).unflatten(-1, weight.shape[:-1]))
        q, k = _unit(parts[0]).unbind(2)
        if self.heads_per_key > 1:
            q, k = (part.repeat_interleave(self.heads_per_key, dim=2) for part in (q, k))
        return q * k.shape[-1] ** -0.5, k, parts[1], last

    def _rate(self, x: Tensor) -> Tensor:
        """How much of a correction is written [..., H]."""
        rate = torch.sigmoid(_exact(F.linear(x, self.wb)))
        return rate if self.largest_rate == 1 else self.largest_rate * rate

    def _log_decay(self, x: Tensor) -> Tensor | None:
        """The logarithms of decays [..., H]; None where nothing fades."""
        return None

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        return merge(head_norm(y, self.norm, self.norm_epsilon), self.wo)


def _unit(x: Tensor) -> Tensor:
    """Vectors of length one along the last axis; nearly zero ones stay so."""
    exact = _exact(x)
    return (exact * (exact.square().sum(-1, keepdim=True) + 1e-6).rsqrt()).to(x.dtype)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float64 else x.float()
