"""Mixture-of-depths: a layer that not every token passes.

Raposo et al. 2024, arXiv:2404.02258. A router scores each token; while learning, the `capacity` share of the
tokens of a sequence with the highest scores pass the layer, the others go around it:

    x_t = x_t + sigmoid(r_t) (layer(x)_t - x_t)     for the chosen tokens,     r_t = w' x_t

The chosen tokens are a sequence of their own: the layer sees no others, and its positions count only them.
At inference a token passes when r_t > 0 (`routed_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search_spaces.language.serialization import parts
from search_spaces.network.options.base import check_share
from search_spaces.network.options.routed_tokens import RoutesTokens, share_of
from search_spaces.scenario import Scenario


@parts.add
@dataclass(frozen=True, kw_only=True)
class MixtureOfDepths(RoutesTokens):
    """Let about `capacity` of the tokens pass a layer; `balance` weighs the router's auxiliary loss."""

    not_additive: ClassVar[str] = "has a router"
    not_relaxable: ClassVar[str] = ""
    not_static: ClassVar[str] = "decides for every token whether it passes"

    capacity: float = 0.125
    balance: float = 0.1

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        check_share(self, "capacity")
        super().check()

    def chosen(self, count: int) -> int:
        """How many of `count` tokens pass."""
        return share_of(self.capacity, count)

    @property
    def passing(self) -> float:
        """The capacity."""
        return self.capacity

    def tokens(self, count: int) -> int:
        """Those that pass."""
        return self.chosen(count)

    def seen(self, scenario: Scenario) -> Scenario:
        """The scenario of the chosen tokens only."""
        prompt = self.tokens(scenario.prompt)
        new = max(1, self.tokens(scenario.context) - prompt)
        return replace(scenario, prompt=prompt, new_tokens=new)
