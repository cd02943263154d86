"""Mixture of experts: each token is sent to the `top_k` experts of the highest router scores.

    y = sum_{e in top_k} softmax_e(W_r x) * SwiGLU_e(x)

Sparsely gated experts (Shazeer et al. 2017, arXiv:1701.06538) with gates renormalised over the chosen ones
and no token dropped, as in Mixtral (Jiang et al. 2024, arXiv:2401.04088), the load-balancing loss of Switch
Transformers (Fedus et al. 2021, arXiv:2101.03961), and the z-loss of ST-MoE (Zoph et al. 2022,
arXiv:2202.08906). With another `activation` (see `ops.activations.GATED`) and with `biases` of the router and
of all matrices they are the experts of gpt-oss (2025, arXiv:2508.10925).

`RoutedExperts` is the module of this and of similar blocks (`Switch`, `GShard`, `DeepSeekMoE`), which differ
in how a token chooses its experts, and in which tokens are dropped.

Metrics: `load` is the share of the choices that fell on the busiest expert, times E (1 is balanced, E is
all on one); `dropped` is the share of the choices beyond the capacities.

Shapes: B batch, T tokens, D d_model, E experts, k chosen experts per token, F hidden of one expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, blocks
from search_spaces.blocks.checks import (
    check_flag,
    check_hidden,
    check_positive_number,
    check_whole_numbers,
    check_word,
)
from search_spaces.blocks.layouts import EXPERTS
from search_spaces.language.choices import one_of
from search_spaces.ops.activations import GATED
from search_spaces.ops.experts import (
    ExpertWeights,
    Inside,
    balance_of,
    choices_with_room,
    counts,
    expert_mixture,
    route,
    z_loss,
)
from search_spaces.ops.linear import fill
from search_spaces.ops.precision import without_autocast
from search_spaces.ops.shards import parts_in_all
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class MoE(Block):
    """`num_experts` SwiGLU experts, each `expansion` times as wide as the model, `top_k` per token.

    `balance` and `z_loss` weigh the two auxiliary losses.
    """

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"
    learning_rate: ClassVar[float] = 7.2e-3
    elementwise: ClassVar[frozenset[str]] = frozenset({"gated_bias", "up_bias", "down_bias"})

    num_experts: int = 4
    top_k: int = 1
    expansion: float = 2
    balance: float = 0.01
    z_loss: float = 0.0
    activation: str = "silu"
    biases: bool = False

    @classmethod
    def examples(cls) -> tuple[MoE, ...]:
        """One, two and all experts per token; those of gpt-oss."""
        some = (cls(num_experts=3, top_k=k, expansion=1.5) for k in (1, 2, 3))
        other = cls(num_experts=3, top_k=2, expansion=1, activation="clamped_silu", biases=True)
        return (*some, cls(num_experts=3, top_k=2, expansion=1, balance=0, z_loss=0.001), other)

    @classmethod
    def open_forms(cls) -> tuple[MoE, ...]:
        """Few or many, narrow or wide experts, one or two per token."""
        return (cls(num_experts=one_of(4, 8), top_k=one_of(1, 2), expansion=one_of(1, 3)),)

    def hidden(self, d_model: int) -> int:
        """The hidden width of one expert."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """No more experts can be chosen than there are; the activation must be one of `GATED`."""
        check_experts(self, d_model, top_k=self.top_k)
        check_word(self, "activation", GATED)
        check_flag(self, "biases")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return MoEMixer(self, d_model)

    def layout(self) -> Layout:
        """Experts, and the hidden channels of each."""
        biases = {"router_bias": "E", "gated_bias": "E F .", "up_bias": "E F .", "down_bias": "E D ."}
        return Layout(EXPERTS | biases, "DEF", {"F": "E"})

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """All experts are stored, the chosen ones are computed."""
        hidden = self.hidden(d_model)
        biases = Cost(self.biases * self.num_experts * (1 + 2 * hidden + d_model))
        return experts_cost(d_model, scenario, self.num_experts, self.top_k, hidden=hidden) + biases


def check_experts(block: Any, d_model: int, *, top_k: int) -> None:
    """Raise `IllegalArchitecture` if such experts cannot be built, or so many cannot be chosen."""
    kind = type(block).__name__
    check_whole_numbers(block, *(name for name in ("num_experts", "top_k") if hasattr(block, name)))
    for name in ("balance", "z_loss"):
        if getattr(block, name) != 0:
            check_positive_number(block, name)
    if top_k > block.num_experts:
        raise IllegalArchitecture(f"{kind}: top_k={top_k} must be at most num_experts={block.num_experts}")
    check_hidden(block, d_model)


def experts_cost(d_model: int, scenario: Scenario, num_experts: int, top_k: int, *, hidden: int) -> Cost:
    """All experts are stored, the chosen ones are computed."""
    router = num_experts * d_model
    expert = 3 * d_model * hidden
    per_token = 2 * scenario.batch * (router + top_k * expert)
    return Cost(router + num_experts * expert, scenario.prompt * per_token, per_token)


class RoutedExperts(Mixer):
    """A router and gated experts. Subclasses define how a token chooses, and what is dropped while training.

    At inference every choice is computed: with full experts the output of a token would depend on other
    tokens, and decode would not equal prefill.
    """

    router_bias: nn.Parameter
    gated_bias: nn.Parameter
    up_bias: nn.Parameter
    down_bias: nn.Parameter

    def __init__(
        self,
        d_model: int,
        num_experts: int,
        hidden: int,
        *,
        balance: float,
        z_loss: float,
        activation: str = "silu",
        biases: bool = False,
    ) -> None:
        super().__init__()
        self.balance, self.z_loss, self.function, self.biases = balance, z_loss, GATED[activation], biases
        self.router = nn.Parameter(torch.empty(num_experts, d_model))
        self.gated = nn.Parameter(torch.empty(num_experts, hidden, d_model))
        self.up = nn.Parameter(torch.empty(num_experts, hidden, d_model))
        self.down = nn.Parameter(torch.empty(num_experts, d_model, hidden))
        if biases:  # with a last axis of one they are stored in 32 bits, like gains
            self.router_bias = nn.Parameter(torch.empty(num_experts))
            self.gated_bias = nn.Parameter(torch.empty(num_experts, hidden, 1))
            self.up_bias = nn.Parameter(torch.empty(num_experts, hidden, 1))
            self.down_bias = nn.Parameter(torch.empty(num_experts, d_model, 1))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; no biases."""
        for weight in (self.router, self.gated, self.up, self.down):
            fill(weight, weight.shape[-1], dice)
        if self.biases:
            for bias in (self.router_bias, self.gated_bias, self.up_bias, self.down_bias):
                bias.zero_()

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Gates and indices [..., k] of the experts for router logits [..., E], best ones first."""
        raise NotImplementedError

    def capacity(self, tokens: int) -> int | None:
        """How many tokens of a sequence an expert takes while training; None for all."""
        return None

    def requested(self, logits: Tensor, gates: Tensor) -> Tensor | None:
        """Which choices [B, T, k] are made at all while training; None for all."""
        return None

    def probabilities(self, logits: Tensor) -> Tensor:
        """The probabilities of the experts in the load-balancing loss [..., E]."""
        return logits.softmax(-1)

    def counted_choices(self, index: Tensor) -> Tensor:
        """The choices [B, T, k] that the load-balancing loss counts."""
        return index

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]; the loss is the weighted sum of the auxiliary losses."""
        logits = self._logits(x)
        gates, index = self.choose(logits)
        dropped = torch.zeros((), device=x.device)
        capacity = self.capacity(x.shape[1])
        if self.learning and capacity is not None:
            requested = self.requested(logits, gates)
            kept = choices_with_room(index, logits.shape[-1], capacity, requested)
            gates = gates * kept
            dropped = 1 - kept.sum() / (index.numel() if requested is None else requested.sum())
        y = self._mix(x, gates, index)
        load = logits.shape[-1] * counts(index, logits.shape[-1]).max() / index.numel()
        loss = self.loss(logits, index) if torch.is_grad_enabled() else None
        return Mixed(y, state, loss, {"load": load, "dropped": dropped})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]; every choice is computed."""
        return self._mix(x, *self.choose(self._logits(x))), state

    def loss(self, logits: Tensor, index: Tensor) -> Tensor:
        """The weighted auxiliary losses of logits [B, T, E] and choices [B, T, k]."""
        loss = logits.new_zeros(())
        if self.balance:
            loss = loss + self.balance * balance_of(self.probabilities(logits), self.counted_choices(index))
        if self.z_loss:
            loss = loss + self.z_loss * z_loss(logits)
        return loss

    def _logits(self, x: Tensor) -> Tensor:
        with without_autocast(x):  # a rounded score would choose another expert
            bias = self.router_bias.to(self.router.dtype) if self.biases else None
            logits = F.linear(x.to(self.router.dtype), self.router, bias)
        return logits.to(torch.promote_types(x.dtype, torch.float32))

    def _mix(self, x: Tensor, gates: Tensor, index: Tensor) -> Tensor:
        flat, gates, index = x.flatten(0, -2), gates.flatten(0, -2).to(x.dtype), index.flatten(0, -2)
        weights = ExpertWeights(self.gated, self.up, self.down)
        one_each = x.dim() == 2 if torch.compiler.is_exporting() else None  # a token of each sequence
        inside = self._inside(x.dtype)
        return expert_mixture(flat, gates, index, weights, inside, few=one_each).view_as(x)

    def _inside(self, dtype: torch.dtype) -> Inside:
        if not self.biases:
            return Inside(self.function)
        shared = self.down_bias[..., 0] / parts_in_all()
        biases = (bias.to(dtype) for bias in (self.gated_bias[..., 0], self.up_bias[..., 0], shared))
        return Inside(self.function, *biases)


class MoEMixer(RoutedExperts):
    """The module of `MoE`."""

    def __init__(self, spec: MoE, d_model: int) -> None:
        super().__init__(
            d_model,
            spec.num_experts,
            spec.hidden(d_model),
            balance=spec.balance,
            z_loss=spec.z_loss,
            activation=spec.activation,
            biases=spec.biases,
        )
        self.top_k = spec.top_k

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The softmax over the chosen logits."""
        return route(logits, self.top_k)
