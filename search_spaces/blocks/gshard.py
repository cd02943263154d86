"""GShard: each token goes to its two best experts; the second one at random, and both while there is room.

    p = softmax(W_r x);  e, f = the two best;  g_e, g_f = p_e, p_f over their sum
    y = g_e SwiGLU_e(x) + g_f SwiGLU_f(x),  the second term with probability min(1, 2 g_f)
    capacity = ceil(capacity_factor * 2 T / E) tokens of a sequence for each expert

Lepikhin et al. 2020, arXiv:2006.16668, algorithm 1; the load-balancing loss counts first choices. The experts
are SwiGLU perceptrons here, so that all mixtures of this project differ in their routing only; the paper's
are two-layer perceptrons.

Two rules differ from the paper, so that no token depends on a later one: each sequence has its own
capacities, and room goes to the earlier token, then to its better expert (in the paper all first choices of
a group come before any second choice). The chance of the second expert is a hash of the token's own router
logits, so training depends on its seed only. Randomness and capacities apply only while training (see
`RoutedExperts`); at inference both experts are always used.

Shapes: B batch, T tokens, D d_model, E experts, F hidden of one expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from torch import Tensor

from search_spaces.blocks.base import Block, Cost, Mixer, blocks
from search_spaces.blocks.checks import check_positive_number
from search_spaces.blocks.layouts import ROUTED_EXPERTS
from search_spaces.blocks.moe import RoutedExperts, check_experts, experts_cost
from search_spaces.ops.experts import hashed_uniform, route
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

TOP_K = 2


@blocks.add
@dataclass(frozen=True, kw_only=True)
class GShard(Block):
    """`num_experts` experts, each `expansion` times as wide as the model, two per token.

    `balance` and `z_loss` weigh the two auxiliary losses.
    """

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"

    num_experts: int = 4
    expansion: float = 2
    capacity_factor: float = 1.0
    balance: float = 0.01
    z_loss: float = 0.0

    @classmethod
    def examples(cls) -> tuple[GShard, ...]:
        """Scarce and ample room, with and without the z-loss."""
        return (
            cls(num_experts=3, expansion=1.5, capacity_factor=1.5),
            cls(num_experts=4, expansion=1, capacity_factor=0.75, z_loss=0.001),
            cls(num_experts=2, expansion=1.3),
        )

    @classmethod
    def open_forms(cls) -> tuple[GShard, ...]:
        """Room for two choices of every token."""
        return (cls(num_experts=8, expansion=2, capacity_factor=2.0),)

    def hidden(self, d_model: int) -> int:
        """The hidden width of one expert."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """There must be two experts at least, of some width and with some room."""
        check_experts(self, d_model, top_k=TOP_K)
        check_positive_number(self, "capacity_factor")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return GShardMixer(self, d_model)

    def layout(self) -> Layout:
        """Experts, and the hidden channels of each."""
        return ROUTED_EXPERTS

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """All experts are stored, two are computed; at inference nothing is dropped."""
        return experts_cost(d_model, scenario, self.num_experts, TOP_K, hidden=self.hidden(d_model))


class GShardMixer(RoutedExperts):
    """The module of `GShard`."""

    def __init__(self, spec: GShard, d_model: int) -> None:
        hidden = spec.hidden(d_model)
        super().__init__(d_model, spec.num_experts, hidden, balance=spec.balance, z_loss=spec.z_loss)
        self.capacity_factor, self.num_experts = spec.capacity_factor, spec.num_experts

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The two likeliest experts, weighted with their probabilities over the sum of both."""
        return route(logits, TOP_K)

    def capacity(self, tokens: int) -> int:
        """The expert's fair share of both choices of the sequence, times the factor."""
        return ceil(self.capacity_factor * TOP_K * tokens / self.num_experts)

    def requested(self, logits: Tensor, gates: Tensor) -> Tensor:
        """The first choice always, the second with twice its gate for a probability."""
        second = 2 * gates[..., 1] > hashed_uniform(logits)
        return torch.stack((torch.ones_like(second), second), dim=-1)

    def counted_choices(self, index: Tensor) -> Tensor:
        """First choices."""
        return index[..., :1]
