"""Targets on expected costs as an augmented Lagrangian (Hestenes 1969; Bertsekas 1982).

With g = E[cost] / target - 1, the loss of the logits gets  lambda g + mu g^2 / 2  for each target, and its
multiplier lambda grows by `dual_rate` mu g a step. What a target leaves unused is pulled in as well: a target
is where the network shall be, not a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluators.differentiable.expected_cost import ExpectedCost
from evaluators.differentiable.repair import Target
from search_spaces.mixture.conditions import Genes


@dataclass(frozen=True)
class Pull:
    """An expected cost that shall come to a value."""

    target: Target
    expected: ExpectedCost


class AugmentedLagrangian:
    """The multipliers of some pulls, and the gradient of all of them in the logits; `penalty` is mu."""

    def __init__(self, pulls: Sequence[Pull], *, penalty: float, dual_rate: float) -> None:
        self.pulls, self.penalty, self.dual_rate = tuple(pulls), penalty, dual_rate
        self.multipliers = torch.zeros(len(self.pulls), dtype=torch.float64)

    def step(self, genes: Genes, logits: Tensor) -> Tensor:
        """The gradient [N] at these logits; multipliers grow by what was missed."""
        if not self.pulls:
            return torch.zeros_like(logits)
        leaf, penalty = logits.detach().requires_grad_(), self.penalty
        shares = genes.shares(leaf)
        gaps = torch.stack([pull.expected(shares) / pull.target.value - 1 for pull in self.pulls])
        whole = (self.multipliers.to(gaps.device) * gaps + penalty / 2 * gaps.square()).sum()
        (gradient,) = torch.autograd.grad(whole, leaf)
        self.multipliers += self.dual_rate * penalty * gaps.detach().cpu()
        return gradient
