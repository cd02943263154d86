"""Softmax attention: every token reads all earlier ones, or a sliding window of them.

    y_t = W_o concat_h sum_s softmax_s(q_th k_sg / sqrt(K)) v_sg        g = the group of head h

Attention (Vaswani et al. 2017, arXiv:1706.03762) with rotary positions, or without positions as in Jamba
(Lieber et al. 2024, arXiv:2403.19887). `num_kv_heads` makes it multi-head (equal to `num_heads`),
grouped-query (Ainslie et al. 2023, arXiv:2305.13245) or multi-query (1; Shazeer 2019, arXiv:1911.02150).

Variants of published families are values, too. `biases` of the projections: those of queries, keys and values
("inputs": Qwen2, arXiv:2407.10671), of the output ("output": RecurrentGemma) or "all" (gpt-oss). `qk_norm`
puts every head of queries and keys through a root mean square norm before it is turned (Qwen3,
arXiv:2505.09388; Gemma 3, arXiv:2503.19786); with `qk_norm_over="heads"` it is one norm over all heads
together (OLMo 2, arXiv:2501.00656). `rotary_base` is the base of the angles, `rotary_share` the share of the
channels of a head that are turned, the first ones, and `rotary_scaling` stretches positions. `scale` is what
products are multiplied by (None: 1 / sqrt(K)); `softcap` and `sinks` are those of
`search_spaces.ops.attention.Weighing`.
With `output_gate` what the heads read is multiplied by sigmoid(W_z x_t), entry by entry, before W_o (Qiu et
al. 2025, arXiv:2505.06708; Qwen3-Next).

`window` counts the tokens looked at, the current one included. They may lie `dilation` apart, and the first
`global_tokens` of the sequence are seen by all tokens as well: the causal form of Longformer (Beltagy et
al. 2020, arXiv:2004.05150), where global tokens see all tokens before them, which are global as well. Decode
keeps a ring that reaches back to the oldest token of the window, and the global tokens.

Shapes: B batch, T tokens read, S tokens looked back at, D d_model, H heads, G kv heads, K head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import (
    check_equal_groups,
    check_even_numbers,
    check_flag,
    check_positive_number,
    check_whole_numbers,
    check_word,
)
from search_spaces.blocks.layouts import GROUPED_HEADS
from search_spaces.blocks.rotary_scaling import (
    Llama3Scaling,
    RotaryScaling,
    YarnScaling,
    check_rotary_scaling,
)
from search_spaces.language.choices import one_of
from search_spaces.ops.attention import USUAL, Weighing, attend, attend_one_to_parts, pairs, sees
from search_spaces.ops.cache import attend_with_cache, slot_positions, write_keys_values
from search_spaces.ops.linear import fill, head_norm, merge, project
from search_spaces.ops.rotary import BASE, rotate_share
from search_spaces.ops.shards import parts_in_all, rms_norm_of_parts
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

BIASES = ("none", "inputs", "output", "all")
"""Which projections have one: none, those of queries, keys and values, that of the output, or all."""

VARIANTS = {"bq": "GH K .", "bk": "G K .", "bv": "G V .", "bo": "D", "q_norm": "K", "k_norm": "K"}
VARIANTS |= {"sinks": "GH .", "q_norm_heads": "GH K .", "k_norm_heads": "G K .", "wz": "GH V D"}
"""The parameters that variants add, with their axes."""

Part = tuple[Tensor, Tensor, Tensor | None]
"""Keys, values, and which of them are seen (None: all)."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Attention(Block):
    """Softmax attention with `num_heads` heads of `head_dim` channels over `num_kv_heads` keys and values."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    elementwise: ClassVar[frozenset[str]] = frozenset(
        {"bq", "bk", "bv", "sinks", "q_norm_heads", "k_norm_heads"}
    )

    num_heads: int = 4
    num_kv_heads: int = 4
    head_dim: int = 32
    window: int | None = None
    rotary: bool = True
    dilation: int = 1
    global_tokens: int = 0
    biases: str = "none"
    qk_norm: bool = False
    rotary_base: float = BASE
    rotary_share: float = 1.0
    scale: float | None = None
    softcap: float | None = None
    sinks: bool = False
    qk_norm_over: str = "head"
    qk_norm_epsilon: float = 1e-6
    rotary_scaling: RotaryScaling | None = None
    output_gate: bool = False

    @classmethod
    def examples(cls) -> tuple[Attention, ...]:
        """MHA, MQA, GQA over a window, no positions, the causal forms of Longformer, and other variants."""
        grouped = cls(num_heads=4, num_kv_heads=2, head_dim=8, window=8)
        return (
            cls(num_heads=4, num_kv_heads=4, head_dim=8),
            cls(num_heads=4, num_kv_heads=1, head_dim=8),
            grouped,
            cls(num_heads=4, num_kv_heads=2, head_dim=7, rotary=False),
            replace(grouped, dilation=2),
            replace(grouped, global_tokens=3),
            replace(grouped, window=5, dilation=4, global_tokens=11),
            replace(grouped, window=None, biases="inputs", qk_norm=True, rotary_base=500_000.0),
            replace(grouped, biases="all", rotary_share=0.5, sinks=True),
            replace(grouped, window=None, scale=0.3, softcap=0.7, biases="output"),
            replace(grouped, rotary=False, qk_norm=True, global_tokens=3, softcap=2.0, sinks=True),
            replace(grouped, qk_norm=True, qk_norm_over="heads", rotary_scaling=Llama3Scaling(length=64)),
            replace(grouped, window=None, rotary_share=0.5, rotary_scaling=YarnScaling(length=16)),
            replace(grouped, output_gate=True, qk_norm=True),
        )

    @classmethod
    def open_forms(cls) -> tuple[Attention, ...]:
        """Full, without positions, over a window, and the causal form of Longformer."""
        heads: dict[str, Any] = {"num_heads": 4, "head_dim": 16}
        return (
            cls(**heads, num_kv_heads=one_of(1, 2, 4)),
            cls(**heads, num_kv_heads=one_of(1, 2, 4), rotary=False),
            cls(**heads, num_kv_heads=one_of(1, 2, 4), window=one_of(32, 64, 128)),
            cls(**heads, num_kv_heads=one_of(1, 4), window=32, dilation=one_of(1, 2), global_tokens=4),
        )

    def check(self, d_model: int) -> None:
        """Heads must fall into equal groups; rotary positions need pairs of channels."""
        check_whole_numbers(self, "num_heads", "num_kv_heads", "head_dim", "dilation")
        check_equal_groups(self)
        self._check_variants()
        if self.rotary and self.rotary_share == 1:
            check_even_numbers(self, "head_dim")
        elif self.rotary and not (2 <= self.turned <= self.head_dim and self.turned % 2 == 0):
            raise IllegalArchitecture(
                f"Attention: rotary_share={self.rotary_share} of head_dim={self.head_dim} is {self.turned}"
                f" channels, which are turned in pairs: it must be an even number from 2 to {self.head_dim}"
            )
        if self.global_tokens != 0:
            check_whole_numbers(self, "global_tokens")
        if self.window is not None:
            check_whole_numbers(self, "window")
        elif self.dilation > 1 or self.global_tokens:
            raise IllegalArchitecture(
                f"Attention: dilation={self.dilation} and global_tokens={self.global_tokens} need a window"
            )

    def _check_variants(self) -> None:
        check_word(self, "biases", BIASES)
        check_positive_number(self, "rotary_base")
        check_positive_number(self, "rotary_share")
        check_positive_number(self, "qk_norm_epsilon")
        check_word(self, "qk_norm_over", ("head", "heads"))
        check_flag(self, "output_gate")
        check_rotary_scaling(self)
        for name in ("scale", "softcap"):
            if getattr(self, name) is not None:
                check_positive_number(self, name)

    @property
    def turned(self) -> int:
        """Channels of a head that rotary positions turn."""
        return round(self.rotary_share * self.head_dim) if self.rotary else 0

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return AttentionMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Keys and values of all tokens, or of the reach of the window and the global tokens."""
        reach = None if self.window is None else (self.window - 1) * self.dilation + 1
        shape = StateShape((self.num_kv_heads, self.head_dim), per_token=True, limit=reach)
        if not self.global_tokens:
            return {"k": shape, "v": shape}
        first = StateShape((self.num_kv_heads, self.global_tokens, self.head_dim))
        return {"k": shape, "v": shape, "k_global": first, "v_global": first}

    def layout(self) -> Layout:
        """Rotary positions give the channels of keys an order."""
        layout = Layout(GROUPED_HEADS | VARIANTS, "DGHVK", {"H": "G"})
        return layout.with_order("K") if self.rotary else layout

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, and two products for each pair of tokens."""
        matrices = d_model * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        matrices += self.output_gate * d_model * self.head_dim * self.num_heads
        position = scenario.decode_position
        near = position // self.dilation + 1
        seen = min(near, self.window or near) + min(position + 1, self.global_tokens)
        per_pair = 2 * self.num_heads * self.head_dim
        computed = pairs(
            scenario.prompt,
            self.window,
            dilation=self.dilation,
            global_tokens=self.global_tokens,
            by_kernels=self.softcap is None and not self.sinks,
        )
        prefill = scenario.prompt * matrices + per_pair * computed
        decode = matrices + per_pair * seen
        params = matrices + sum(map(prod, self.variant_shapes(d_model).values()))
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)

    def variant_shapes(self, d_model: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of what its variants add to the four matrices."""
        heads, groups, width = self.num_heads, self.num_kv_heads, self.head_dim
        shapes: dict[str, tuple[int, ...]] = {}
        if self.biases in ("inputs", "all"):  # with a last axis of one they are stored in 32 bits, like gains
            shapes |= {"bq": (heads, width, 1), "bk": (groups, width, 1), "bv": (groups, width, 1)}
        if self.biases in ("output", "all"):
            shapes["bo"] = (d_model,)
        if self.qk_norm and self.qk_norm_over == "heads":
            shapes |= {"q_norm_heads": (heads, width, 1), "k_norm_heads": (groups, width, 1)}
        elif self.qk_norm:
            shapes |= {"q_norm": (width,), "k_norm": (width,)}
        if self.sinks:
            shapes["sinks"] = (heads, 1)
        return shapes


class AttentionMixer(Mixer):
    """The module of `Attention`."""

    bq: nn.Parameter
    bk: nn.Parameter
    bv: nn.Parameter
    bo: nn.Parameter
    q_norm: nn.Parameter
    k_norm: nn.Parameter
    q_norm_heads: nn.Parameter
    k_norm_heads: nn.Parameter
    sinks: nn.Parameter
    wz: nn.Parameter

    def __init__(self, spec: Attention, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.spec = spec
        self.wq = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim, d_model))
        self.wk = nn.Parameter(torch.empty(spec.num_kv_heads, spec.head_dim, d_model))
        self.wv = nn.Parameter(torch.empty(spec.num_kv_heads, spec.head_dim, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, spec.num_heads, spec.head_dim))
        for name, shape in spec.variant_shapes(d_model).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        if spec.output_gate:
            self.wz = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim, d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.wq, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        for name in VARIANTS:
            if name == "wz" and self.spec.output_gate:
                fill(self.wz, self.wz.shape[-1], dice)
            elif hasattr(self, name):
                getattr(self, name).fill_(1.0 if "_norm" in name else 0.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v = self._project(x, position)
        if state is None or position == 0:
            spec = self.spec
            y = attend(
                q,
                k,
                v,
                spec.window,
                dilation=spec.dilation,
                global_tokens=spec.global_tokens,
                weighing=self._weighing(),
            )
            kept = None if state is None else write_keys_values(state, k, v, position)
        else:
            ring = self.spec.window is not None
            weighing = self._weighing()
            y, kept = attend_with_cache(
                q, k, v, state, position, sees=self._sees, ring=ring, weighing=weighing
            )
        return Mixed(self._merge(y.transpose(1, 2), x), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; with a position on the device, shapes do not depend on it."""
        q, k, v = self._project(x[:, None], position)
        state = write_keys_values(state, k, v, position)
        y = attend_one_to_parts(q[:, :, 0], self._parts(state, position), self._weighing())
        return self._merge(y, x), state

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """Keys and values only."""
        _, k, v = self._project(x[:, None], position)
        return write_keys_values(state, k, v, position)

    def _project(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, K], keys and values [B, G, T, K] of x [B, T, D]."""
        spec = self.spec
        q, k, v = (project(x, weight) for weight in (self.wq, self.wk, self.wv))
        if spec.biases in ("inputs", "all"):
            q, k, v = (y + bias[..., 0] for y, bias in ((q, self.bq), (k, self.bk), (v, self.bv)))
        if spec.qk_norm:
            q, k = self._normed(q, "q_norm"), self._normed(k, "k_norm")
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        if spec.rotary:
            q, k = (self._turned(y, position) for y in (q, k))
        return q, k, v

    def _normed(self, y: Tensor, name: str) -> Tensor:
        """Queries or keys [..., H, K] through their norm, head by head or over all heads together."""
        spec = self.spec
        if spec.qk_norm_over == "head":
            return head_norm(y, getattr(self, name), spec.qk_norm_epsilon)
        gain = getattr(self, f"{name}_heads").flatten()
        return rms_norm_of_parts(y.flatten(-2), gain, spec.qk_norm_epsilon).unflatten(-1, y.shape[-2:])

    def _turned(self, y: Tensor, position: int | Tensor) -> Tensor:
        spec = self.spec
        return rotate_share(y, position, spec.turned, spec.rotary_base, spec.rotary_scaling)

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        """The output [..., D] of heads [..., H, K], for x [..., D]."""
        merged = merge(y * project(x, self.wz).sigmoid() if self.spec.output_gate else y, self.wo)
        return merged + self.bo / parts_in_all() if self.spec.biases in ("output", "all") else merged

    def _weighing(self) -> Weighing:
        spec = self.spec
        if spec.scale is None and spec.softcap is None and not spec.sinks:
            return USUAL
        return Weighing(spec.scale, spec.softcap, self.sinks[:, 0] if spec.sinks else None)

    def _parts(self, state: State, position: int | Tensor) -> list[Part]:
        """What the token at `position`, already in the state, sees of it."""
        k, v, dilation, first = state["k"], state["v"], self.spec.dilation, self.spec.global_tokens
        slots, device = k.shape[2], k.device
        if (
            isinstance(position, int) and dilation == 1 and not first
        ):  # in the common case nothing is computed
            count = min(position + 1, slots)
            return [(k[:, :, :count], v[:, :, :count], None)]
        if dilation > 1:
            count = -(-slots // dilation)
            if isinstance(position, int):
                count = min(count, position // dilation + 1)
            key = position - dilation * torch.arange(count, device=device)
            index = (key + slots).remainder(slots)  # never negative: see `slot_positions`
            k, v = k.index_select(2, index), v.index_select(2, index)
        else:
            key = slot_positions(slots, position + 1, device)
            if isinstance(position, int):
                count = min(position + 1, slots)
                k, v, key = k[:, :, :count], v[:, :, :count], key[:count]
        if not first:
            return [(k, v, None if isinstance(position, int) else key >= 0)]
        k_first, v_first, seen = state["k_global"], state["v_global"], None
        if isinstance(position, int):
            k_first, v_first = k_first[:, :, : position + 1], v_first[:, :, : position + 1]
        else:
            seen = torch.arange(first, device=device) <= position
        return [(k_first, v_first, seen), (k, v, key >= first)]

    def _sees(self, query: Tensor, key: Tensor) -> Tensor:
        spec = self.spec
        return sees(query, key, spec.window, dilation=spec.dilation, global_tokens=spec.global_tokens)
