"""DeepSeekMoE: many narrow experts of which some are chosen, and shared experts that serve every token.

    y = sum_{s shared} SwiGLU_s(x) + sum_{e in top_k(a + b)} g_e SwiGLU_e(x)

    gate = "softmax":   a = softmax(W_r x),  g_e = gate_scale * a_e
    gate = "sigmoid":   a = sigmoid(W_r x),  g_e = gate_scale * a_e / sum of the chosen a
    gate = "renormed":  a = softmax(W_r x),  g_e as for sigmoid

Dai et al. 2024, arXiv:2401.06066 (softmax), and DeepSeek-V3 (2024), arXiv:2412.19437 (sigmoid). No token is
dropped. With several `groups` of experts, which DeepSeek spreads over devices, a token chooses among those of
its best `top_groups` (DeepSeek-V2, arXiv:2405.04434, section 2.2.2): those with the best expert, or, with
sigmoid gates, with the best sum of two.

The shared experts may have a width of their own (`shared_expansion`), and with `shared_gate` what they add is
multiplied by sigmoid(w_s x), one number per token: both as in Qwen1.5-MoE (2024) and Qwen3-Next (2025), whose
gates are renormed.

Balance without an auxiliary loss (Wang et al. 2024, arXiv:2408.15664): the bias b is added where experts are
chosen, and nowhere else, so no gradient of the output reaches it. After each step the paper moves it against
the error of the load, b_e += u sign(mean load - load_e). Here that is a step of the ordinary optimizer: b is
a parameter, and the auxiliary loss holds a term whose value is zero and whose gradient for b_e is bias_rate *
(load_e - 1), with the load as a share of the fair one. Adam divides a gradient by its usual size, which turns
this into the paper's sign rule with u = the learning rate, whatever `bias_rate` is; plain gradient descent
moves by learning rate * bias_rate * error. `bias_rate = 0` leaves the bias out.

Shapes: B batch, T tokens, D d_model, E experts, k chosen per token, S shared experts, F hidden of one expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixer, blocks
from search_spaces.blocks.checks import (
    check_flag,
    check_hidden,
    check_positive_number,
    check_whole_numbers,
    check_word,
)
from search_spaces.blocks.layouts import EXPERTS
from search_spaces.blocks.moe import RoutedExperts, check_experts, experts_cost
from search_spaces.language.choices import one_of
from search_spaces.ops.experts import counts
from search_spaces.ops.linear import fill, merge, project
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

GATES = ("sigmoid", "softmax", "renormed")


@blocks.add
@dataclass(frozen=True, kw_only=True)
class DeepSeekMoE(Block):
    """`num_experts` experts and `shared_experts` more, each `expansion` times as wide as the model.

    `top_k` of the former serve a token, and all of the latter, which are `shared_expansion` times as wide as
    the model where that is given. `balance` and `z_loss` weigh the two auxiliary losses, `bias_rate` the load
    error that moves the bias.
    """

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"
    learning_rate: ClassVar[float] = 1.2e-2

    num_experts: int = 8
    top_k: int = 2
    shared_experts: int = 1
    expansion: float = 0.5
    gate: str = "sigmoid"
    gate_scale: float = 1.0
    bias_rate: float = 0.01
    balance: float = 0.0
    z_loss: float = 0.0
    shared_expansion: float | None = None
    shared_gate: bool = False
    groups: int = 1
    top_groups: int = 1

    @classmethod
    def examples(cls) -> tuple[DeepSeekMoE, ...]:
        """All gates, with and without bias, shared experts, a gate of theirs and losses."""
        return (
            cls(num_experts=4),
            cls(num_experts=5, top_k=3, shared_experts=2, gate="softmax", bias_rate=0, balance=0.01),
            cls(num_experts=3, shared_experts=0, gate_scale=2.5, balance=0.001, z_loss=0.001),
            cls(num_experts=4, gate="renormed", bias_rate=0, shared_expansion=0.8, shared_gate=True),
            cls(num_experts=8, groups=4, gate="softmax", bias_rate=0),
            cls(num_experts=8, groups=4, top_groups=2, top_k=3),
        )

    @classmethod
    def open_forms(cls) -> tuple[DeepSeekMoE, ...]:
        """Two or four of sixteen experts, with and without a shared one."""
        return (cls(num_experts=16, top_k=one_of(2, 4), shared_experts=one_of(0, 1), expansion=0.5),)

    def hidden(self, d_model: int) -> int:
        """The hidden width of one expert."""
        return round(self.expansion * d_model)

    def shared_hidden(self, d_model: int) -> int:
        """The hidden width of one shared expert."""
        return round((self.shared_expansion or self.expansion) * d_model)

    def check(self, d_model: int) -> None:
        """No more experts can be chosen than there are; the gate must be one of `GATES`."""
        check_experts(self, d_model, top_k=self.top_k)
        check_positive_number(self, "gate_scale")
        if self.shared_experts != 0:
            check_whole_numbers(self, "shared_experts")
        if self.bias_rate != 0:
            check_positive_number(self, "bias_rate")
        check_word(self, "gate", GATES)
        check_flag(self, "shared_gate")
        check_whole_numbers(self, "groups", "top_groups")
        if self.num_experts % self.groups or self.top_groups > self.groups:
            raise IllegalArchitecture(
                f"DeepSeekMoE: groups={self.groups} must divide num_experts={self.num_experts}"
                f" and be at least top_groups={self.top_groups}"
            )
        reached = self.top_groups * (self.num_experts // self.groups)
        if self.groups > 1 and self.top_k > reached:
            raise IllegalArchitecture(
                f"DeepSeekMoE: top_k={self.top_k} must be at most the {reached} experts of"
                f" top_groups={self.top_groups}"
            )
        if self.shared_gate and not self.shared_experts:
            raise IllegalArchitecture("DeepSeekMoE: shared_gate=True needs shared_experts of at least 1")
        if self.shared_expansion is not None:
            check_hidden(self, d_model, "shared_expansion")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return DeepSeekMoEMixer(self, d_model)

    def layout(self) -> Layout:
        """Routed and shared experts, and the hidden channels of each; groups give the former an order."""
        shared = {"bias": "E", "shared_gated": "S J D", "shared_up": "S J D", "shared_down": "D S J"}
        shared |= {"shared_gate": ". D"}
        layout = Layout(EXPERTS | shared, "DEFSJ", {"F": "E", "J": "S"})
        return layout if self.groups == 1 else layout.with_order("E")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """All experts are stored; the chosen and the shared ones are computed."""
        cost = experts_cost(
            d_model,
            scenario,
            self.num_experts,
            self.top_k,
            hidden=self.hidden(d_model),
        )
        shared = 3 * d_model * self.shared_experts * self.shared_hidden(d_model) + self.shared_gate * d_model
        per_token = 2 * scenario.batch * shared
        cost += Cost(shared, scenario.prompt * per_token, per_token)
        return cost + Cost(params=self.num_experts if self.bias_rate else 0)


class DeepSeekMoEMixer(RoutedExperts):
    """The module of `DeepSeekMoE`."""

    def __init__(self, spec: DeepSeekMoE, d_model: int) -> None:
        hidden = spec.hidden(d_model)
        super().__init__(d_model, spec.num_experts, hidden, balance=spec.balance, z_loss=spec.z_loss)
        self.top_k, self.gate, self.gate_scale = spec.top_k, spec.gate, spec.gate_scale
        self.bias_rate, self.shared = spec.bias_rate, spec.shared_experts
        self.groups, self.top_groups = spec.groups, spec.top_groups
        wide = spec.shared_hidden(d_model)
        if self.bias_rate:
            self.bias = nn.Parameter(torch.empty(spec.num_experts))
        if self.shared:
            self.shared_gated = nn.Parameter(torch.empty(self.shared, wide, d_model))
            self.shared_up = nn.Parameter(torch.empty(self.shared, wide, d_model))
            self.shared_down = nn.Parameter(torch.empty(d_model, self.shared, wide))
        self.shared_gate = nn.Parameter(torch.empty(1, d_model)) if spec.shared_gate else None

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; the bias starts at zero."""
        super().reset_parameters(dice)
        if self.bias_rate:
            self.bias.zero_()
        if self.shared:
            for weight in (self.shared_gated, self.shared_up, self.shared_down):
                fill(weight, weight.shape[-1], dice)
        if self.shared_gate is not None:
            fill(self.shared_gate, self.shared_gate.shape[-1], dice)

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The best experts of scores and bias, weighted with their scores alone."""
        scores = logits.sigmoid() if self.gate == "sigmoid" else logits.softmax(-1)
        liked = scores + self.bias if self.bias_rate else scores
        if self.groups > 1:
            liked = liked.masked_fill(~self._in_best_groups(liked), float("-inf"))
        index = liked.topk(self.top_k, dim=-1).indices
        gates = scores.gather(-1, index)
        if self.gate != "softmax":
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        return self.gate_scale * gates, index

    def _in_best_groups(self, liked: Tensor) -> Tensor:
        """Which experts [..., E] are in the best groups by what is liked of each."""
        grouped = liked.unflatten(-1, (self.groups, -1))
        best = grouped.topk(min(2 if self.gate == "sigmoid" else 1, grouped.shape[-1]), dim=-1).values.sum(-1)
        chosen = best.topk(self.top_groups, dim=-1).indices
        kept = torch.zeros_like(best).scatter(-1, chosen, 1.0) > 0
        return kept[..., None].expand_as(grouped).flatten(-2)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Scores that sum to one."""
        if self.gate != "sigmoid":
            return logits.softmax(-1)
        scores = logits.sigmoid()
        return scores / scores.sum(-1, keepdim=True)

    def loss(self, logits: Tensor, index: Tensor) -> Tensor:
        """The auxiliary losses, and the term of value zero that moves the bias."""
        loss = super().loss(logits, index)
        if not self.bias_rate:
            return loss
        experts = logits.shape[-1]
        error = experts * counts(index, experts).to(logits.dtype) / index.numel() - 1
        pull = (self.bias * error).sum()
        return loss + self.bias_rate * (pull - pull.detach())

    def _mix(self, x: Tensor, gates: Tensor, index: Tensor) -> Tensor:
        y = super()._mix(x, gates, index)
        if not self.shared:
            return y
        hidden = F.silu(project(x, self.shared_gated)) * project(x, self.shared_up)
        added = merge(hidden, self.shared_down)
        return y + (added if self.shared_gate is None else F.linear(x, self.shared_gate).sigmoid() * added)
