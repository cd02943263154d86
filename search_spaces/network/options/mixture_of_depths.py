"""Mixture-of-depths: a layer that not every token passes.

Raposo et al. 2024, arXiv:2404.02258. A router scores each token; while learning, the `capacity` share of the
tokens of a sequence with the highest scores pass the layer, the others go around it:

    x_t = x_t + sigmoid(r_t) (layer(x)_t - x_t)     for the chosen tokens,     r_t = w' x_t

The chosen tokens are a sequence of their own: the layer sees no others, and its positions count only them.
Choosing the best of a sequence needs its future, so at inference a token is chosen when r_t > 0, and an
auxiliary loss (section 3.5 of the paper) teaches r_t > 0 to mean "among the best".

Shapes: B batch, T tokens, C tokens that pass, D d_model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Cost
from search_spaces.language.serialization import parts
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.base import LayerOption, OptionModule, check_share
from search_spaces.network.shell import Shell
from search_spaces.ops.precision import without_autocast
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@parts.add
@dataclass(frozen=True, kw_only=True)
class MixtureOfDepths(LayerOption):
    """Let about `capacity` of the tokens pass a layer; `balance` weighs the router's auxiliary loss."""

    not_additive: ClassVar[str] = "has a router"
    not_relaxable: ClassVar[str] = ""
    not_static: ClassVar[str] = "decides for every token whether it passes"

    capacity: float = 0.125
    balance: float = 0.1

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        check_share(self, "capacity")
        if not isinstance(self.balance, (int, float)) or not 0 < self.balance < math.inf:
            raise IllegalArchitecture(f"MixtureOfDepths: balance must be positive, got {self.balance!r}")

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

    @property
    def passing(self) -> float:
        """The capacity."""
        return self.capacity

    def tokens(self, count: int) -> int:
        """How many of `count` tokens pass."""
        return max(1, math.ceil(self.capacity * count))

    def seen(self, scenario: Scenario) -> Scenario:
        """The scenario of the chosen tokens only."""
        prompt = self.tokens(scenario.prompt)
        new = max(1, self.tokens(scenario.context) - prompt)
        return replace(scenario, prompt=prompt, new_tokens=new)


class Router(OptionModule):
    """Scores [B, T] of x [B, T, D]: positive for tokens that should pass."""

    def __init__(self, spec: MixtureOfDepths, d_model: int, norm: Norm) -> None:
        super().__init__()
        self.spec, self.norm_rule = spec, norm
        self.weight = nn.Parameter(torch.empty(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D]; it is normalized without vectors, so that depth does not inflate the scores."""
        with without_autocast(x):  # a rounded score would choose another token
            return self.norm_rule.apply(x.to(self.weight.dtype), x.shape[-1:]) @ self.weight

    def best(self, scores: Tensor) -> Tensor:
        """Positions [B, C] of the tokens that pass while learning, in their order."""
        count = self.spec.tokens(scores.shape[1])
        return scores.topk(count, dim=1).indices.sort(dim=1).values

    def loss(self, scores: Tensor, best: Tensor) -> Tensor:
        """What teaches the sign of a score to say whether its token is among the best."""
        among = torch.zeros_like(scores).scatter(1, best, 1.0)
        return self.spec.balance * F.binary_cross_entropy_with_logits(scores, among)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        self.weight.normal_(std=self.weight.shape[0] ** -0.5, generator=dice)
