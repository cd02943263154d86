"""Layers: the network's own first layers, which share its weights.

Self-speculation (Zhang et al. 2023, arXiv:2309.08168; Elhoushi et al. 2024, arXiv:2404.16710). Behind the
last of them stands its early exit, if it has one, else the head of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.serving.drafts.base import Begin, Draft, NetworkProposer, drafts
from search_spaces.network.model import Model


@drafts.add
@dataclass(frozen=True, kw_only=True)
class FirstLayers(Draft):
    """What the first layers alone would write."""

    name: ClassVar[str] = "layers"

    first: int = setting(1, help="How many of the first layers.", least=1, most=MANY)

    def begun(self, network: Model) -> Begin:
        """No weights are copied."""
        return partial(NetworkProposer, self.model(network))

    def model(self, network: Model) -> Model:
        """A network of these layers.

        Raises:
            SettingError: the network has no more layers.
        """
        if self.first >= len(network.spec.layers):
            raise SettingError(
                f"draft layers: first={self.first} must be less than the {len(network.spec.layers)} layers of"
                " the network"
            )
        return shortened(network, self.first)

    @classmethod
    def choices(cls, network: Model) -> Sequence[Draft]:
        """Those behind which an early exit stands, and halves of the depth."""
        layers = network.spec.layers
        firsts = {i + 1 for i, layer in enumerate(layers[:-1]) if layer.exit is not None}
        depth = len(layers) // 2
        while depth:
            firsts.add(depth)
            depth //= 2
        return tuple(cls(first=first) for first in sorted(firsts) if first < len(layers))


class Shortened(Model):
    """A network whose last layer may have a head of its own."""

    def logits(self, x: Tensor) -> Tensor:
        """Those of the exit of the last layer, if it has one."""
        exit = self.decoder_layers[-1].exit
        return super().logits(x) if exit is None else exit(x)


def shortened(network: Model, first: int) -> Model:
    """The first layers of a network, as a network that shares its parameters."""
    short = Shortened.__new__(Shortened)
    short.__dict__.update(copy.copy(network).__dict__)
    short._modules = dict(network._modules)
    short.layers = nn.ModuleList(network.decoder_layers[:first])
    short.spec = replace(network.spec, layers=network.spec.layers[:first])
    return short
