"""Differential attention: what two softmaxes have in common is noise, and their difference the signal.

    y_t = W_o concat_h (1 - lambda_0) norm((A1_th - lambda A2_th) v_g)        v_g of 2K channels
    A1, A2 = softmax(q1 k1' / sqrt(K)), softmax(q2 k2' / sqrt(K))
    lambda = exp(l_q1 l_k1) - exp(l_q2 l_k2) + lambda_0

The Differential Transformer (Ye et al. 2024, arXiv:2410.05258), with rotary positions and grouped keys and
values. The vectors l are shared by all heads. lambda_0, `lambda_init`, is 0.8 - 0.6 exp(-0.3 (i - 1)) in the
i-th layer of the paper, which also finds 0.8 everywhere as good; a block has no access to its depth. The root
mean square norm of a head's output has no weight of its own: it would be one with that of W_o.

In `forward` both softmaxes are heads of one fused call, with queries and keys padded by zeros to the 2K
channels of the values, because fused kernels need equal widths.

Shapes: B batch, T tokens, S tokens looked back at, D d_model, H heads, G kv heads, K head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import (
    check_equal_groups,
    check_even_numbers,
    check_positive_number,
    check_whole_numbers,
)
from search_spaces.language.choices import one_of
from search_spaces.ops.attention import Weighing, attend, attend_to_cache, pairs
from search_spaces.ops.cache import slot_positions, write
from search_spaces.ops.linear import fill, project
from search_spaces.ops.rotary import rotate
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class DifferentialAttention(Block):
    """`num_heads` differences of two softmaxes, over `num_kv_heads` pairs of keys of `head_dim` channels."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 8.5e-3
    elementwise: ClassVar[frozenset[str]] = frozenset({"lambda_q", "lambda_k"})

    num_heads: int = 2
    num_kv_heads: int = 2
    head_dim: int = 32
    lambda_init: float = 0.8

    @classmethod
    def examples(cls) -> tuple[DifferentialAttention, ...]:
        """As many keys as heads, and groups."""
        return (
            cls(num_heads=2, num_kv_heads=2, head_dim=4),
            cls(num_heads=4, num_kv_heads=2, head_dim=6, lambda_init=0.2),
        )

    @classmethod
    def open_forms(cls) -> tuple[DifferentialAttention, ...]:
        """Two pairs of heads."""
        return (cls(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=16),)

    def check(self, d_model: int) -> None:
        """Heads must fall into equal groups; rotary positions need pairs of channels."""
        check_whole_numbers(self, "num_heads", "num_kv_heads", "head_dim")
        check_positive_number(self, "lambda_init")
        check_equal_groups(self)
        check_even_numbers(self, "head_dim")
        if self.lambda_init >= 1:
            raise IllegalArchitecture(
                f"DifferentialAttention: lambda_init must be below 1, got {self.lambda_init}"
            )

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return DifferentialAttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Keys and values of all tokens."""
        shape = StateShape((2, self.num_kv_heads, self.head_dim), per_token=True)
        return {"k": shape, "v": shape}

    def layout(self) -> Layout:
        """Rotary positions give the channels of keys an order."""
        axes = {"wq": ". GH K D", "wk": ". G K D", "wv": ". G V D", "wo": "D GH . V"}
        return Layout(axes | dict.fromkeys(("lambda_q", "lambda_k"), ". K"), "DGHV", {"H": "G"})

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and for each pair of tokens two products per softmax, of padded width in prefill."""
        weights = 4 * d_model * self.head_dim * (self.num_heads + self.num_kv_heads)
        inner = self.num_heads * self.head_dim
        prefill = scenario.prompt * weights + 8 * inner * pairs(scenario.prompt, None)
        decode = weights + 4 * inner * (scenario.decode_position + 1)
        params = weights + 4 * self.head_dim
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)


class DifferentialAttentionMixer(Mixer):
    """The module of `DifferentialAttention`."""

    def __init__(self, spec: DifferentialAttention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.lambda_init = spec.lambda_init
        self.wq = nn.Parameter(torch.empty(2, spec.num_heads, spec.head_dim, d_model))
        self.wk = nn.Parameter(torch.empty(2, spec.num_kv_heads, spec.head_dim, d_model))
        self.wv = nn.Parameter(torch.empty(2, spec.num_kv_heads, spec.head_dim, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, spec.num_heads, 2, spec.head_dim))
        self.lambda_q = nn.Parameter(torch.empty(2, spec.head_dim))
        self.lambda_k = nn.Parameter(torch.empty(2, spec.head_dim))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; those of lambda have a deviation of 0.1, as in the paper."""
        for weight in (self.wq, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1:].numel(), dice)
        self.lambda_q.normal_(std=0.1, generator=dice)
        self.lambda_k.normal_(std=0.1, generator=dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v = self._project(x, position)
        kept, seen = None, None
        if state is not None:
            kept = _write_keys_values(state, k, v, position)
        if kept is not None and position > 0:
            k, v = kept["k"], kept["v"]
            here = position + torch.arange(x.shape[1], device=x.device)
            key = slot_positions(k.shape[-2], position + x.shape[1], x.device)
            seen = (key >= 0) & (key <= here[:, None])
        return Mixed(self._merge(self._attend(q, k, v, seen)), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; the weights of both softmaxes are subtracted first, so that values are read once."""
        q, k, v = self._project(x[:, None], position)
        state = _write_keys_values(state, k, v, position)
        k, v = state["k"], state["v"]
        if isinstance(position, int):
            k, v = k[..., : position + 1, :], v[..., : position + 1, :]
        groups, width = k.shape[2], k.shape[-1]
        q = q[..., 0, :].unflatten(2, (groups, -1))
        scores = (q * width**-0.5) @ k.mT
        if not isinstance(position, int):
            seen = torch.arange(k.shape[-2], device=x.device) <= position
            scores = scores.masked_fill(~seen, float("-inf"))
        signal, noise = scores.softmax(-1).unbind(1)
        y = (signal - self._lambda() * noise)[:, None] @ v
        return self._merge(y.flatten(2, 3).transpose(1, 2)), state

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """Keys and values only."""
        _, k, v = self._project(x[:, None], position)
        return _write_keys_values(state, k, v, position)

    def _project(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, 2, H, T, K], keys and halves of values [B, 2, G, T, K] of x [B, T, D]."""
        q, k, v = (project(x, weight).movedim(1, 3) for weight in (self.wq, self.wk, self.wv))
        return rotate(q, position), rotate(k, position), v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """The differences [B, T, H, 2, K]; `seen` is causal if None."""
        heads, width = q.shape[2], q.shape[-1]
        q, k = (F.pad(part, (0, width)).flatten(1, 2) for part in (q, k))
        v = torch.cat((v[:, 0], v[:, 1]), dim=-1).repeat(1, 2, 1, 1)
        weighing = Weighing(scale=width**-0.5)
        y = attend(q, k, v, weighing=weighing) if seen is None else attend_to_cache(q, k, v, seen, weighing)
        signal, noise = y.unflatten(1, (2, heads)).unbind(1)
        return (signal - self._lambda() * noise).transpose(1, 2).unflatten(-1, (2, width))

    def _merge(self, y: Tensor) -> Tensor:
        """y [..., H, 2, K], normed over both halves, by the output weights."""
        normed = F.rms_norm(y.flatten(-2), (2 * y.shape[-1],), eps=1e-6) * (1 - self.lambda_init)
        return F.linear(normed.flatten(-2), self.wo.flatten(1))

    def _lambda(self) -> Tensor:
        first, second = (self.lambda_q * self.lambda_k).sum(-1).exp().unbind(0)
        return first - second + self.lambda_init


def _write_keys_values(state: State, k: Tensor, v: Tensor, position: int | Tensor) -> State:
    """Write k and v [B, 2, G, T, K] of the tokens from `position` on."""
    return {name: write(state[name], rows, position) for name, rows in (("k", k), ("v", v))}
