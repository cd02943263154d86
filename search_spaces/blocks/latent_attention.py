"""Multi-head latent attention: all heads' keys and values are made from one short vector per token.

    c_s = norm(W_c x_s)        k_sh = [U_h c_s, R_s W_r x_s]        v_sh = V_h c_s
    q_th = [W_h x_t, R_t W'_h x_t]
    y_t = W_o concat_h sum_s softmax_s(q_th k_sh / sqrt(K + R)) v_sh

DeepSeek-V2 (2024, arXiv:2405.04434, section 2.1). R_t rotates by the position; the rotated part of the key is
shared by all heads. Decode keeps only c_s and R_s W_r x_s: the products with U_h and V_h are taken with the
query and with the output instead (U_h' W_h x_t is a query to c_s), so keys and values are never formed.
Queries are not compressed, as in DeepSeek-V2-Lite, unless `q_rank` is given: then x_t is norm(W_q x_t) of
that width where queries are made. `value_dim` is the width of values where it is not that of keys. Positions
may be stretched (`rotary_scaling`), or left out: then R_t turns nothing (`rotary=False`; Kimi Linear,
arXiv:2510.26692). `scale` is what products are multiplied by (None: 1 / sqrt(K + R)).

In `forward`, values are padded by zeros to the K + R channels of the keys, because fused kernels need equal
widths; so they cannot be wider.

Shapes: B batch, T tokens, S tokens looked back at, D d_model, H heads, K head_dim, V value_dim, R rope_dim,
C kv_rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import (
    check_even_numbers,
    check_flag,
    check_positive_number,
    check_whole_numbers,
)
from search_spaces.blocks.rotary_scaling import RotaryScaling, YarnScaling, check_rotary_scaling
from search_spaces.language.choices import one_of
from search_spaces.ops.attention import USUAL, Weighing, attend, attend_to_cache, pairs
from search_spaces.ops.cache import write
from search_spaces.ops.linear import fill, head_norm, merge, multiplied_elsewhere, project
from search_spaces.ops.rotary import BASE, rotate
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class LatentAttention(Block):
    """`num_heads` heads of `head_dim` channels and `rope_dim` rotated ones, over latents of `kv_rank`."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    num_heads: int = 4
    head_dim: int = 32
    rope_dim: int = 16
    kv_rank: int = 64
    q_rank: int | None = None
    value_dim: int | None = None
    rotary: bool = True
    rotary_base: float = BASE
    rotary_scaling: RotaryScaling | None = None
    scale: float | None = None

    @classmethod
    def examples(cls) -> tuple[LatentAttention, ...]:
        """Latents that are shorter and longer than a head, compressed queries, other values and positions."""
        small = cls(num_heads=2, head_dim=6, rope_dim=4, kv_rank=6)
        stretched = replace(small, rotary_scaling=YarnScaling(length=16), rotary_base=1e5, scale=0.4)
        return (
            small,
            cls(num_heads=3, head_dim=4, rope_dim=6, kv_rank=12),
            replace(stretched, q_rank=7, value_dim=9),
            replace(small, rotary=False, value_dim=5),
        )

    @classmethod
    def open_forms(cls) -> tuple[LatentAttention, ...]:
        """Two ranks."""
        return (cls(num_heads=4, head_dim=16, rope_dim=8, kv_rank=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """Rotary positions need pairs of channels."""
        check_whole_numbers(self, "num_heads", "head_dim", "rope_dim", "kv_rank")
        check_even_numbers(self, "rope_dim")
        for name in ("q_rank", "value_dim"):
            if getattr(self, name) is not None:
                check_whole_numbers(self, name)
        if self.values > self.head_dim + self.rope_dim:
            raise IllegalArchitecture(
                f"LatentAttention: value_dim={self.values} must be at most head_dim + rope_dim ="
                f" {self.head_dim + self.rope_dim}"
            )
        check_flag(self, "rotary")
        check_positive_number(self, "rotary_base")
        check_rotary_scaling(self)
        if self.scale is not None:
            check_positive_number(self, "scale")

    @property
    def values(self) -> int:
        """The width of the values of a head."""
        return self.head_dim if self.value_dim is None else self.value_dim

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return LatentAttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The latents and the rotated keys of all tokens."""
        return {
            "latent": StateShape((self.kv_rank,), per_token=True),
            "turned": StateShape((self.rope_dim,), per_token=True),
        }

    def layout(self) -> Layout:
        """The channels that are rotated by positions have an order; all others may be sorted."""
        return Layout(
            {"wq": "H K D", "wq_turned": "H . D", "wc": "R D", "wk_turned": ". D", "norm": "R"}
            | {"wq_down": "Q D", "q_norm": "Q", "wq_up": "H K Q", "wq_up_turned": "H . Q"}
            | {"wk": "H K R", "wv": "H V R", "wo": "D H V"},
            "DHKVRQ",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and the products of each pair of tokens: of latents in decode."""
        heads, width, rank = self.num_heads, self.head_dim, self.kv_rank
        padded = width + self.rope_dim
        read = d_model if self.q_rank is None else self.q_rank
        queries = heads * padded * read + (0 if self.q_rank is None else self.q_rank * d_model)
        up = heads * (width + self.values) * rank
        weights = queries + d_model * (heads * self.values + rank + self.rope_dim) + up
        prefill = scenario.prompt * weights + 2 * heads * padded * pairs(scenario.prompt, None)
        decode = weights + heads * (2 * rank + self.rope_dim) * (scenario.decode_position + 1)
        return Cost(
            weights + rank + (self.q_rank or 0), 2 * scenario.batch * prefill, 2 * scenario.batch * decode
        )


class LatentAttentionMixer(Mixer):
    """The module of `LatentAttention`."""

    def __init__(self, spec: LatentAttention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.spec = spec
        heads, width, turned, rank = spec.num_heads, spec.head_dim, spec.rope_dim, spec.kv_rank
        if spec.q_rank is None:
            self.wq = nn.Parameter(torch.empty(heads, width, d_model))
            self.wq_turned = nn.Parameter(torch.empty(heads, turned, d_model))
        else:
            self.wq_down = nn.Parameter(torch.empty(spec.q_rank, d_model))
            self.q_norm = nn.Parameter(torch.empty(spec.q_rank))
            self.wq_up = nn.Parameter(torch.empty(heads, width, spec.q_rank))
            self.wq_up_turned = nn.Parameter(torch.empty(heads, turned, spec.q_rank))
        self.wc = nn.Parameter(torch.empty(rank, d_model))
        self.wk_turned = nn.Parameter(torch.empty(turned, d_model))
        self.norm = nn.Parameter(torch.empty(rank))
        self.wk = nn.Parameter(torch.empty(heads, width, rank))
        self.wv = nn.Parameter(torch.empty(heads, spec.values, rank))
        self.wo = nn.Parameter(torch.empty(d_model, heads, spec.values))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; norms at one."""
        if self.spec.q_rank is None:
            queries = [self.wq, self.wq_turned]
        else:
            queries = [self.wq_down, self.wq_up, self.wq_up_turned]
            self.q_norm.fill_(1.0)
        for weight in (*queries, self.wc, self.wk_turned, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, q_turned = self._queries(x, position)
        latent, turned = self._latents(x, position)
        kept = None if state is None else _remember(state, latent, turned, position)
        if kept is not None and position > 0:
            end = position + x.shape[1]
            latent, turned = kept["latent"][:, :end], kept["turned"][:, :end]
        k, v = (project(latent, weight).transpose(1, 2) for weight in (self.wk, self.wv))
        k = torch.cat((k, turned[:, None].expand(-1, k.shape[1], -1, -1)), dim=-1)
        q = torch.cat((q, q_turned), dim=-1)
        v = F.pad(v, (0, q.shape[-1] - v.shape[-1]))
        if k.shape[2] == q.shape[2]:
            y = attend(q, k, v, weighing=self._weighing())
        else:
            here = position + torch.arange(x.shape[1], device=x.device)
            seen = torch.arange(k.shape[2], device=x.device) <= here[:, None]
            y = attend_to_cache(q, k, v, seen, self._weighing())
        return Mixed(merge(y[..., : self.wv.shape[1]].transpose(1, 2), self.wo), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; heads attend to the latents themselves."""
        q, q_turned = (part[:, :, 0] for part in self._queries(x[:, None], position))
        state = _remember(state, *self._latents(x[:, None], position), position)
        latent, turned = state["latent"], state["turned"]
        if isinstance(position, int):
            latent, turned = latent[:, : position + 1], turned[:, : position + 1]
        latent = multiplied_elsewhere(latent)
        scale = self.spec.scale or (q.shape[-1] + q_turned.shape[-1]) ** -0.5
        q = (q.transpose(0, 1) @ self.wk).transpose(0, 1)
        scores = ((q * scale) @ latent.mT) + ((q_turned * scale) @ turned.mT)
        if not isinstance(position, int):
            seen = torch.arange(latent.shape[1], device=x.device) <= position
            scores = scores.masked_fill(~seen, float("-inf"))
        y = (scores.softmax(-1) @ latent).transpose(0, 1) @ self.wv.mT
        return merge(y.transpose(0, 1), self.wo), state

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """Latents only."""
        return _remember(state, *self._latents(x[:, None], position), position)

    def _queries(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor]:
        """Of x [B, T, D]: [B, H, T, K] and the rotated [B, H, T, R]."""
        if self.spec.q_rank is None:
            read, weights = x, (self.wq, self.wq_turned)
        else:
            read, weights = head_norm(F.linear(x, self.wq_down), self.q_norm), (self.wq_up, self.wq_up_turned)
        q, turned = (project(read, weight).transpose(1, 2) for weight in weights)
        return q, self._turned(turned, position)

    def _latents(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of x [B, T, D]: [B, T, C] and the rotated [B, T, R]."""
        latent = head_norm(F.linear(x, self.wc), self.norm)
        return latent, self._turned(F.linear(x, self.wk_turned), position)

    def _turned(self, y: Tensor, position: int | Tensor) -> Tensor:
        spec = self.spec
        return rotate(y, position, spec.rotary_base, spec.rotary_scaling) if spec.rotary else y

    def _weighing(self) -> Weighing:
        return USUAL if self.spec.scale is None else Weighing(self.spec.scale)


def _remember(state: State, latent: Tensor, turned: Tensor, position: int | Tensor) -> State:
    return {
        name: write(state[name], rows, position) for name, rows in (("latent", latent), ("turned", turned))
    }
