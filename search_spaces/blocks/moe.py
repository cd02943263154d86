"""Mixture of experts: each token is sent to the `top_k` experts that its router likes best.

    y = sum_{e in top_k} softmax_e(W_r x) * SwiGLU_e(x)

Sparsely gated experts (Shazeer et al. 2017, arXiv:1701.06538) with gates renormalised over the chosen ones
and no token dropped, as in Mixtral (Jiang et al. 2024, arXiv:2401.04088), and the load-balancing loss of
Switch Transformers (Fedus et al. 2021, arXiv:2101.03961).

Shapes: B batch, T tokens, N = B*T, D d_model, E experts, F hidden of one expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, blocks, positive_number, whole_numbers
from search_spaces.errors import IllegalArchitecture
from search_spaces.ops.experts import expert_mixture, load_balance, route
from search_spaces.ops.linear import fill
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class MoE(Block):
    """`num_experts` SwiGLU experts, each `expansion` times as wide as the model, `top_k` per token."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"

    num_experts: int = 4
    top_k: int = 1
    expansion: float = 2
    balance: float = 0.01

    @classmethod
    def examples(cls) -> tuple[MoE, ...]:
        """One, two and all experts per token."""
        return tuple(cls(num_experts=3, top_k=k, expansion=1.5) for k in (1, 2, 3))

    def hidden(self, d_model: int) -> int:
        """The hidden width of one expert."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """No more experts can be chosen than there are."""
        whole_numbers(self, "num_experts", "top_k")
        if self.balance != 0:
            positive_number(self, "balance")
        if self.top_k > self.num_experts:
            raise IllegalArchitecture(
                f"MoE: top_k={self.top_k} must be at most num_experts={self.num_experts}"
            )
        positive_number(self, "expansion")
        if self.hidden(d_model) < 1:
            raise IllegalArchitecture(
                f"MoE: expansion={self.expansion} of d_model={d_model} must give a hidden channel at least"
            )

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return MoEMixer(self, d_model)

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """All experts are stored, the chosen ones are computed."""
        router = self.num_experts * d_model
        expert = 3 * d_model * self.hidden(d_model)
        per_token = 2 * scenario.batch * (router + self.top_k * expert)
        return Cost(router + self.num_experts * expert, scenario.prompt * per_token, per_token)


class MoEMixer(Mixer):
    """The module of `MoE`."""

    def __init__(self, spec: MoE, d_model: int) -> None:
        super().__init__()
        self.top_k, self.balance = spec.top_k, spec.balance
        hidden = spec.hidden(d_model)
        self.router = nn.Parameter(torch.empty(spec.num_experts, d_model))
        self.gated = nn.Parameter(torch.empty(spec.num_experts, hidden, d_model))
        self.up = nn.Parameter(torch.empty(spec.num_experts, hidden, d_model))
        self.down = nn.Parameter(torch.empty(spec.num_experts, d_model, hidden))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.router, self.gated, self.up, self.down):
            fill(weight, weight.shape[-1], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]; the loss is the weighted load-balancing loss."""
        flat = x.flatten(0, -2)
        logits = F.linear(flat, self.router)
        logits = logits.to(torch.promote_types(x.dtype, torch.float32))
        gates, index = route(logits, self.top_k)
        y = expert_mixture(flat, gates.to(x.dtype), index, self.gated, self.up, self.down)
        loss = self.balance * load_balance(logits, index) if torch.is_grad_enabled() else None
        return Mixed(y.view_as(x), state, loss)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        return self.forward(x).y, state
