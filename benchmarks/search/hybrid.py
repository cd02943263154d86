"""Made-up hybrids: what a network can recall is what the best of its layers can.

Of 4, 6 or 8 layers each has a mixer of one of four families and a dense channel mixer or one of experts,
with sizes of their own. Loss falls with sizes by tables of random numbers, by how well mixer and channel
mixer of a layer suit each other, by how a layer's family suits that of the layer before the one before it,
and by the largest reach of any attention in the network: a term that no sum over layers is. Costs of a layer
multiply.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search.chains import Points, chained, undominated
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space

DEPTHS = (4, 6, 8)
WIDTHS = (128, 192, 256, 384)
REACHES = (64, 256, 1024)
RECALL = (0.0, 2.0, 3.5, 4.0)
"""What the largest reach takes from the loss: none, and each of `REACHES`."""


@dataclass(frozen=True)
class Attention:
    """Sees as far as its window."""

    heads: Any = one_of(2, 4, 8)
    window: Any = one_of(*REACHES)


@dataclass(frozen=True)
class DeltaNet:
    """A matrix as a state."""

    state: Any = one_of(32, 64)
    heads: Any = one_of(2, 4)


@dataclass(frozen=True)
class Recurrent:
    """A vector as a state."""

    state: Any = one_of(16, 32, 64, 128)


@dataclass(frozen=True)
class Convolution:
    """Sees a few tokens."""

    kernel: Any = one_of(4, 16)


@dataclass(frozen=True)
class Dense:
    """One channel mixer for all tokens."""

    expansion: Any = one_of(1, 2, 3, 4)


@dataclass(frozen=True)
class Experts:
    """Several, of which a token asks some."""

    count: Any = one_of(4, 8, 16)
    asked: Any = one_of(1, 2)


@dataclass(frozen=True)
class Block:
    """A layer."""

    mixer: Any
    channel: Any
    bits: Any = one_of(4, 8, 16)


@dataclass(frozen=True)
class Stack:
    """Layers of one width."""

    width: Any
    layers: Any


class Hybrid:
    """Cost and loss of such networks; tables are drawn by the name."""

    def __init__(self, name: str, depths: tuple[int, ...] = DEPTHS) -> None:
        chance = np.random.default_rng(zlib.crc32(name.encode()))
        block = Space(
            Block(one_of(Attention(), DeltaNet(), Recurrent(), Convolution()), one_of(Dense(), Experts()))
        )
        self.depths = depths
        self.root = Stack(one_of(*WIDTHS), repeat(block.root, depths))
        self.options: list[Block] = [block.close(genotype) for genotype in block.enumerate()]
        self.index = {option: i for i, option in enumerate(self.options)}
        families = [type(option.mixer).__name__ for option in self.options]
        self.names = list(dict.fromkeys(families))
        self.family = np.array([self.names.index(family) for family in families])
        self.reach = np.array([_reach(option.mixer) for option in self.options])
        mixing = np.array([_mixing(option.mixer) for option in self.options])
        channels = np.array([_channels(option.channel) for option in self.options])
        bits = np.array([option.bits for option in self.options])
        self.cost = mixing[:, 0] * (0.2 + bits / 16) + channels[:, 0] * (0.1 + bits / 16)
        depth = max(depths)
        mixers = list(dict.fromkeys(option.mixer for option in self.options))
        mixer = np.array([mixers.index(option.mixer) for option in self.options])
        kind = np.array([isinstance(option.channel, Experts) for option in self.options], int)
        regular = mixing[:, 1] + channels[:, 1] + 0.4 * np.log2(bits)
        regular = (regular - regular.mean()) / regular.std()
        suits = 0.5 * chance.normal(size=(len(mixers), 2))[mixer, kind]
        placed = 0.5 * chance.normal(size=(depth, len(mixers)))[:, mixer]
        self.loss = -(chance.uniform(0.5, 1.5, depth)[:, None] * regular + suits + placed) - 0.8
        self.apart = 0.8 * chance.normal(size=(len(self.names),) * 2)
        """By family of a layer, and of that before the one before it."""

    def __call__(self, spec: Any) -> tuple[float, float]:
        """Cost and loss of a network."""
        chosen = [self.index[layer] for layer in spec.layers]
        family = self.family[chosen]
        loss = self.loss[np.arange(len(chosen)), chosen].sum() + self.apart[family[:-2], family[2:]].sum()
        loss -= RECALL[self.reach[chosen].max()]
        values = self._outer(spec.width, np.array([[self.cost[chosen].sum(), loss]]))[0]
        return float(values[0]), float(values[1])

    @staticmethod
    def _outer(width: int, sums: Points) -> Points:
        """Cost and loss (N, 2) of networks of this width, of what their layers add up to."""
        ratio = width / WIDTHS[0]
        loss = 1 + 3 * np.exp((sums[:, 1] - 2.5 * math.log2(ratio)) / 15)
        return np.stack((ratio**1.5 * sums[:, 0], loss), axis=1)

    def front(self) -> Points:
        """The undominated values of all architectures."""
        ends = chained(self.depths, self._options, self._step)
        return undominated(np.vstack([self._outer(width, p) for p in ends.values() for width in WIDTHS]))

    def _step(self, layer: int, state: Any, kind: Any) -> tuple[Hashable, tuple[float, float]]:
        """A state is the families of the last two layers, and the largest reach so far."""
        before, last, reached = state or (-1, -1, 0)
        family, reach = kind
        most = max(reach, reached)
        loss = RECALL[reached] - RECALL[most]
        if before >= 0:
            loss += self.apart[before, family]
        return (last, family, most), (0.0, loss)

    def _options(self, layer: int) -> Mapping[Hashable, Points]:
        kinds = dict.fromkeys(zip(self.family.tolist(), self.reach.tolist(), strict=True))
        return {kind: self._undominated_options(layer, *kind) for kind in kinds}

    def _undominated_options(self, layer: int, family: int, reach: int) -> Points:
        which = (self.family == family) & (self.reach == reach)
        return undominated(np.stack((self.cost[which], self.loss[layer, which]), axis=1))


def _reach(mixer: Any) -> int:
    return 1 + REACHES.index(mixer.window) if isinstance(mixer, Attention) else 0


def _mixing(mixer: Any) -> tuple[float, float]:
    """What a mixer costs, and gives before chance."""
    match mixer:
        case Attention():
            return 1 + mixer.heads * math.sqrt(mixer.window) / 64, math.log2(mixer.heads)
        case DeltaNet():
            return 0.8 + mixer.heads * mixer.state / 128, math.log2(mixer.heads * mixer.state) - 4
        case Recurrent():
            return 0.6 + mixer.state / 64, math.log2(mixer.state) - 4
        case _:
            return 0.3 + mixer.kernel / 32, 0.5 * math.log2(mixer.kernel) - 1


def _channels(channel: Any) -> tuple[float, float]:
    """What a channel mixer costs, and gives before chance."""
    if isinstance(channel, Dense):
        return 0.6 * channel.expansion, 1.5 * math.log2(1 + channel.expansion)
    return 0.4 * channel.asked + 0.1 * channel.count, 0.7 * math.log2(channel.count * (1 + channel.asked))
