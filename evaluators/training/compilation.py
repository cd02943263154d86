"""Subnets that come again and again, compiled with `torch.compile`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import functional_call

from search_spaces.network.decoder import Decoder
from search_spaces.supernet import Subnet

Run: TypeAlias = Callable[[Mapping[str, Tensor], Tensor], tuple[Tensor, list[Tensor]]]
"""Logits and auxiliary losses of weights by name and tokens [B, T]."""


class Compiled:
    """Hands out a compiled call for a network that was asked for `after` times; never where that is None.

    Compiling one network of four layers took 135 to 175 s on a CPU core and then saved a fifth of its forward
    and backward pass (`laptop`, 0.15 s): it pays after thousands of visits, so not for random subnets of a
    large space, each of which comes once.
    """

    def __init__(self, after: int | None) -> None:
        self.after = after
        self._visits: Counter[Decoder] = Counter()
        self._runs: dict[Decoder, Run] = {}

    def of(self, subnet: Subnet) -> Run | None:
        """The compiled call of a subnet; None while it comes too seldom."""
        if self.after is None:
            return None
        spec = subnet.spec
        self._visits[spec] += 1
        if self._visits[spec] <= self.after:
            return None
        if spec not in self._runs:
            self._runs[spec] = torch.compile(_plain(subnet))
        return self._runs[spec]


def _plain(subnet: Subnet) -> Run:
    """A subnet as a function of its weights alone."""
    module = subnet.module

    def run(weights: Mapping[str, Tensor], tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        losses: list[Tensor] = []
        logits: Tensor = functional_call(module, dict(weights), (tokens, losses), tie_weights=False)
        return logits, losses

    return run
