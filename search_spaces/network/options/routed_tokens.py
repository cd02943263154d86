"""A router that chooses a share of the tokens, for the options of a layer that treat tokens differently.

While learning, the `share` of the tokens of a sequence with the highest scores are chosen. That needs the
future of a sequence, so at inference a token is chosen when its score is positive, and an auxiliary loss
teaches a positive score to mean "among the best" (Raposo et al. 2024, arXiv:2404.02258, section 3.5).

Shapes: B batch, T tokens, C chosen tokens, D d_model.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Cost
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.base import LayerOption, OptionModule
from search_spaces.network.shell import Shell
from search_spaces.ops.precision import without_autocast
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


class RoutesTokens(LayerOption):
    """An option with a router; a subclass is a dataclass with this field, and says how many are chosen."""

    balance: float
    """The weight of the router's auxiliary loss."""

    def chosen(self, count: int) -> int:
        """How many of `count` tokens are chosen."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        if not isinstance(self.balance, (int, float)) or not 0 < self.balance < math.inf:
            kind = type(self).__name__
            raise IllegalArchitecture(f"{kind}: balance must be positive, got {self.balance!r}")

    @classmethod
    def layout(cls) -> Layout:
        """The router's axes."""
        return Layout({"weight": "D"}, "D")

    def build(self, shell: Shell) -> Router:
        """The router."""
        return Router(self, shell.d_model, shell.norm)

    def cost(self, shell: Shell, scenario: Scenario) -> Cost:
        """A score for every token."""
        score = 2 * scenario.batch * shell.d_model
        return Cost(shell.d_model, scenario.prompt * score, score)


class Router(OptionModule):
    """Scores [B, T] of x [B, T, D]: positive for tokens that should be chosen."""

    def __init__(self, spec: RoutesTokens, d_model: int, norm: Norm) -> None:
        super().__init__()
        self.spec, self.norm_rule = spec, norm
        self.weight = nn.Parameter(torch.empty(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D]; it is normalized without vectors, so that depth does not inflate the scores."""
        with without_autocast(x):  # a rounded score would choose another token
            return self.norm_rule.apply(x.to(self.weight.dtype), x.shape[-1:]) @ self.weight

    def best(self, scores: Tensor) -> Tensor:
        """Positions [B, C] of the tokens that are chosen while learning, in their order."""
        count = self.spec.chosen(scores.shape[1])
        return scores.topk(count, dim=1).indices.sort(dim=1).values

    def loss(self, scores: Tensor, best: Tensor) -> Tensor:
        """What teaches the sign of a score to say whether its token is among the best."""
        among = torch.zeros_like(scores).scatter(1, best, 1.0)
        return self.spec.balance * F.binary_cross_entropy_with_logits(scores, among)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        self.weight.normal_(std=self.weight.shape[0] ** -0.5, generator=dice)


def share_of(share: float, count: int) -> int:
    """A share of so many tokens: one at least."""
    return max(1, math.ceil(share * count))
