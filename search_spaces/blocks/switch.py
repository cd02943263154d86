"""Switch: each token goes to the expert of its highest router score, as long as there is room.

    p = softmax(W_r x);  e = argmax p;  y = p_e * SwiGLU_e(x)
    capacity = ceil(capacity_factor * T / E) tokens of a sequence for each expert

Fedus et al. 2021, arXiv:2101.03961: load-balancing loss (section 2.2), capacity, and dropped tokens that pass
on through the residual connection alone (y = 0), plus the z-loss of ST-MoE (Zoph et al. 2022,
arXiv:2202.08906). The experts are SwiGLU perceptrons here, so that all mixtures of this project differ in
their routing only; the paper's are two-layer perceptrons.

Each sequence has its own capacities, and earlier tokens come first, so that no token depends on a
later one. Capacities apply only while training (see `RoutedExperts`).

Shapes: B batch, T tokens, D d_model, E experts, F hidden of one expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

from torch import Tensor

from search_spaces.blocks.base import Block, Cost, Mixer, blocks
from search_spaces.blocks.checks import check_positive_number
from search_spaces.blocks.layouts import ROUTED_EXPERTS
from search_spaces.blocks.moe import RoutedExperts, check_experts, experts_cost
from search_spaces.language.choices import one_of
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Switch(Block):
    """`num_experts` experts, each `expansion` times as wide as the model, one per token.

    `balance` and `z_loss` weigh the two auxiliary losses.
    """

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"
    learning_rate: ClassVar[float] = 8.5e-3

    num_experts: int = 4
    expansion: float = 2
    capacity_factor: float = 1.25
    balance: float = 0.01
    z_loss: float = 0.001

    @classmethod
    def examples(cls) -> tuple[Switch, ...]:
        """Scarce and ample room, and one expert alone."""
        return (
            cls(num_experts=3, expansion=1.5, capacity_factor=2),
            cls(num_experts=4, expansion=1, capacity_factor=0.75, balance=0),
            cls(num_experts=1, expansion=1.3, capacity_factor=1),
        )

    @classmethod
    def open_forms(cls) -> tuple[Switch, ...]:
        """Scarce and ample room."""
        return (cls(num_experts=8, expansion=2, capacity_factor=one_of(1.0, 1.25)),)

    def hidden(self, d_model: int) -> int:
        """The hidden width of one expert."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """Experts must have a width, and some room."""
        check_experts(self, d_model, top_k=1)
        check_positive_number(self, "capacity_factor")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return SwitchMixer(self, d_model)

    def layout(self) -> Layout:
        """Experts, and the hidden channels of each."""
        return ROUTED_EXPERTS

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """All experts are stored, one is computed; at inference nothing is dropped."""
        return experts_cost(d_model, scenario, self.num_experts, 1, hidden=self.hidden(d_model))


class SwitchMixer(RoutedExperts):
    """The module of `Switch`."""

    def __init__(self, spec: Switch, d_model: int) -> None:
        hidden = spec.hidden(d_model)
        super().__init__(d_model, spec.num_experts, hidden, balance=spec.balance, z_loss=spec.z_loss)
        self.capacity_factor, self.num_experts = spec.capacity_factor, spec.num_experts

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest expert, weighted with its probability."""
        probability, index = logits.softmax(-1).topk(1, dim=-1)
        return probability, index

    def capacity(self, tokens: int) -> int:
        """The expert's fair share of the sequence, times the factor."""
        return ceil(self.capacity_factor * tokens / self.num_experts)
