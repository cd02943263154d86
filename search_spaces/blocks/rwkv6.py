"""RWKV-6 (Finch): linear attention with a decay per channel, and inputs mixed from neighbouring tokens.

    S_t = diag(w_t) S_{t-1} + k_t v_t'        o_t = (S_{t-1} + diag(u) k_t v_t')' r_t
    y_t = W_o (group_norm(o_t) * silu(W_g a^g_t))        w_t = exp(-exp(d + B_w tanh(A_w a^w_t)))
    a^i_t = x_t + (m_i + B_i tanh(A_i b_t)) * (x_{t-1} - x_t)        b_t = x_t + m * (x_{t-1} - x_t)

for i in w, k, v, r, g; r, k, v = W_r a^r, W_k a^k, W_v a^v. Peng et al. 2024, arXiv:2404.05892. The token
reads the memory before it is written, and its own value with the bonus u. `state_dim` is the width of r and k
of one head, `head_dim` that of its values.

Shapes: B batch, T tokens, D d_model, H heads, N state_dim, P head_dim, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.ops.gated_attention import gated_attention, gated_attention_step, products
from search_spaces.ops.linear import fill, linear_per_head, merge, project
from search_spaces.ops.rwkv import token_shift
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

MIXED = 5
MIX_RANK = 32
DECAY_RANK = 64
DECAY_RANGE = (-6.0, -1.0)
STRONGEST = 5.0
"""A decay of exp(-exp(5)) is zero in float32; beyond, its gradient would be infinity times zero."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class RWKV6(Block):
    """The time mixing of RWKV-6, its low ranks those of the paper (32 for the mixing, 64 for the decay)."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 1e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"mix", "decay", "bonus", "norm", "norm_bias"})

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 32

    @classmethod
    def examples(cls) -> tuple[RWKV6, ...]:
        """Keys narrower and wider than values."""
        return (
            cls(num_heads=2, head_dim=16, state_dim=8),
            cls(num_heads=3, head_dim=8, state_dim=12),
        )

    @classmethod
    def open_forms(cls) -> tuple[RWKV6, ...]:
        """Four heads."""
        return (cls(num_heads=4, head_dim=16, state_dim=16),)

    def check(self, d_model: int) -> None:
        """One value alone cannot be normalised."""
        check_whole_numbers(self, "num_heads", "state_dim")
        check_whole_numbers(self, "head_dim", at_least=2)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return RWKV6Mixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """One matrix per head, and the last token."""
        return {
            "memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True),
            "shift": StateShape((d_model,)),
        }

    def layout(self) -> Layout:
        """Heads, the channels of keys and values, and the two low ranks."""
        return Layout(
            {"mix": ". D", "mix_in": ". A D", "mix_out": ". D A", "wr": "H N D", "wk": "H N D"}
            | {"wv": "H V D", "wg": "H V D", "decay": "H N", "decay_in": "B D", "decay_out": "H N B"}
            | {"bonus": "H N", "norm": "H V", "norm_bias": "H V", "wo": "D H V"},
            "DHNVAB",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections and low ranks, the products within chunks, and those with the memory."""
        keys, values = self.num_heads * self.state_dim, self.num_heads * self.head_dim
        low = 2 * MIXED * MIX_RANK * d_model + DECAY_RANK * (d_model + keys)
        matrices = d_model * (2 * keys + 3 * values) + low
        vectors = (MIXED + 1) * d_model + 2 * keys + 2 * values
        mixing = products(scenario.prompt, self.num_heads, self.state_dim, self.head_dim)
        return Cost(
            matrices + vectors,
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + keys * self.head_dim),
        )


class Parts(NamedTuple):
    """r, k and log w [B, T, H, N], v [B, T, H, P] and the output gate [B, T, H, P]."""

    r: Tensor
    k: Tensor
    v: Tensor
    decay: Tensor
    gate: Tensor


class RWKV6Mixer(Mixer):
    """The module of `RWKV6`."""

    def __init__(self, spec: RWKV6, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        heads, keys, values = spec.num_heads, spec.state_dim, spec.head_dim
        self.mix = nn.Parameter(torch.empty(MIXED + 1, d_model))
        self.mix_in = nn.Parameter(torch.empty(MIXED, MIX_RANK, d_model))
        self.mix_out = nn.Parameter(torch.empty(MIXED, d_model, MIX_RANK))
        self.wr = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wk = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wv = nn.Parameter(torch.empty(heads, values, d_model))
        self.wg = nn.Parameter(torch.empty(heads, values, d_model))
        self.decay = nn.Parameter(torch.empty(heads, keys))
        self.decay_in = nn.Parameter(torch.empty(DECAY_RANK, d_model))
        self.decay_out = nn.Parameter(torch.empty(heads, keys, DECAY_RANK))
        self.bonus = nn.Parameter(torch.empty(heads, keys))
        self.norm = nn.Parameter(torch.empty(heads, values))
        self.norm_bias = nn.Parameter(torch.empty(heads, values))
        self.wo = nn.Parameter(torch.empty(d_model, heads, values))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Shares uniform in [0, 1], what depends on the data at zero, decays spread over the channels."""
        for weight in (self.wr, self.wk, self.wv, self.wg, self.mix_in, self.decay_in):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        for weight in (self.mix_out, self.decay_out, self.norm_bias):
            weight.zero_()
        self.mix.uniform_(generator=dice)
        keys = self.decay.shape[1]
        self.decay.copy_(torch.linspace(*DECAY_RANGE, keys, device=self.decay.device).expand_as(self.decay))
        self.bonus.uniform_(generator=dice)
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        parts, last = self._project(x, None if state is None else state["shift"])
        y, memory = gated_attention(
            parts.r,
            parts.k,
            parts.v,
            parts.decay,
            None if state is None else state["memory"],
            bonus=self.bonus,
            final=state is not None,
        )
        return Mixed(
            self._merge(y, parts.gate), None if memory is None else {"memory": memory, "shift": last}
        )

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        parts, last = self._project(x[:, None], state["shift"])
        r, k, v, decay, gate = (part[:, 0] for part in parts)
        y, memory = gated_attention_step(r, k, v, decay, state["memory"], bonus=self.bonus)
        return self._merge(y, gate), {"memory": memory, "shift": last}

    def _project(self, x: Tensor, before: Tensor | None) -> tuple[Parts, Tensor]:
        """What the memory is written and read with, and the last token."""
        change, last = token_shift(x, before)
        w, k, v, r, g = self._mix(x, change)
        exact = torch.promote_types(x.dtype, torch.float32)
        low = project(torch.tanh(F.linear(w, self.decay_in)), self.decay_out)
        decay = -(low.to(exact) + self.decay.to(exact)).clamp(max=STRONGEST).exp()
        k, v, r, g = (
            project(a, weight) for a, weight in ((k, self.wk), (v, self.wv), (r, self.wr), (g, self.wg))
        )
        return Parts(r, k, v, decay, F.silu(g)), last

    def _mix(self, x: Tensor, change: Tensor) -> tuple[Tensor, ...]:
        """The inputs [B, T, D] of w, k, v, r and g."""
        low = torch.tanh(project(torch.addcmul(x, change, self.mix[0]), self.mix_in))
        low = low.flatten(0, 1).transpose(0, 1)
        share = linear_per_head(low, self.mix_out) + self.mix[1:, None]
        return torch.addcmul(x, change, share.unflatten(1, x.shape[:2])).unbind(0)

    def _merge(self, y: Tensor, gate: Tensor) -> Tensor:
        normed = F.layer_norm(y, y.shape[-1:], eps=64e-5) * self.norm + self.norm_bias
        return merge(normed * gate, self.wo)
