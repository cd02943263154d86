"""Made-up architectures: random tables of cost and loss, and layers that suit each other or not."""

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

DEPTHS = (6, 9, 12)
WIDTHS = (1.0, 1.5, 2.0)
GROUP = 3


@dataclass(frozen=True)
class Attention:
    """A mixer with two sizes."""

    heads: Any = one_of(1, 2, 4)
    window: Any = one_of(64, 256, 1024)


@dataclass(frozen=True)
class Recurrent:
    """A mixer with one size."""

    state: Any = one_of(8, 16, 32, 64)


@dataclass(frozen=True)
class Convolution:
    """A cheap mixer."""

    kernel: Any = one_of(3, 7, 15)


@dataclass(frozen=True)
class Layer:
    """A mixer, and what follows it."""

    mixer: Any
    expansion: Any = one_of(1, 2, 3, 4)
    bits: Any = one_of(4, 8, 16)


@dataclass(frozen=True)
class Network:
    """Layers of one width."""

    width: Any
    layers: Any


RARE = Recurrent(64)


class Layered:
    """Random tables of cost and loss, and how the mixers of neighbours change both.

    `strength` is the size of random terms beside the regular one; `pairs` that of neighbours. Where layers
    are `scattered`, those that follow each other in the tables stand anywhere in the network.
    """

    def __init__(
        self,
        name: str,
        *,
        strength: float,
        pairs: float = 0.0,
        trap: float = 0.0,
        depths: tuple[int, ...] = DEPTHS,
        scattered: bool = False,
    ) -> None:
        chance = np.random.default_rng(zlib.crc32(name.encode()))
        layer = Space(Layer(one_of(Attention(), Recurrent(), Convolution())))
        self.root = Network(one_of(*WIDTHS), repeat(layer.root, depths))
        self.options: list[Layer] = [layer.close(genotype) for genotype in layer.enumerate()]
        self.index = {option: i for i, option in enumerate(self.options)}
        self.mixers = list(dict.fromkeys(option.mixer for option in self.options))
        self.mixer_of = np.array([self.mixers.index(option.mixer) for option in self.options])
        self.kinds = [type(mixer).__name__ for mixer in self.mixers]
        count, depth = len(self.options), max(depths)
        speed = {kind: chance.uniform(0.5, 1.5) for kind in dict.fromkeys(self.kinds)}
        size = np.array([_size(mixer) * speed[type(mixer).__name__] for mixer in self.mixers])
        bits = np.array([option.bits for option in self.options])
        sizes = size[self.mixer_of] + 0.6 * np.array([option.expansion for option in self.options])
        self.cost = sizes * (0.3 + bits / 16)
        importance = chance.uniform(0.5, 1.5, depth)
        gain = np.sqrt(sizes) * np.log2(bits)
        regular = importance[:, None] * (gain - gain.mean())[None, :] / gain.std()
        by_mixer = chance.normal(size=(depth, len(self.mixers)))[:, self.mixer_of]
        within = chance.normal(size=(depth, count)) * 0.5
        self.loss = -(regular + strength * (by_mixer + within)) - 1.0  # a layer more helps
        self.pairs = pairs * chance.normal(size=(len(self.mixers),) * 2)
        differ = np.array([[a != b for b in self.kinds] for a in self.kinds])
        self.switch = np.where(differ, 0.5, 0.0) if pairs else np.zeros_like(self.pairs)
        self.width_loss = {width: -1.5 * math.log2(width) for width in WIDTHS}
        self.trap, self.rare = trap, self.mixers.index(RARE)
        self.depths = depths
        self.order = chance.permutation(depth).tolist() if scattered else list(range(depth))

    def __call__(self, spec: Any) -> tuple[float, float]:
        """Cost and loss of a network."""
        chosen = [self.index[spec.layers[i]] for i in self.order[: len(spec.layers)]]
        mixers = self.mixer_of[chosen]
        cost = float(self.cost[chosen].sum() + self.switch[mixers[:-1], mixers[1:]].sum())
        loss = float(
            self.loss[np.arange(len(chosen)), chosen].sum() + self.pairs[mixers[:-1], mixers[1:]].sum()
        )
        for start in range(0, len(chosen), GROUP):
            loss += self._trapped(int((mixers[start : start + GROUP] == self.rare).sum()))
        values = self._outer(spec.width, np.array([[cost, loss]]))[0]
        return float(values[0]), float(values[1])

    def _trapped(self, rare: int) -> float:
        """What a group of layers adds that has so many of the rare mixer."""
        return self.trap * (-GROUP if rare == GROUP else rare)

    def _outer(self, width: float, sums: Points) -> Points:
        """Cost and loss (N, 2) of networks of this width, of what their layers add up to."""
        loss = 1 + 3 * np.exp((sums[:, 1] + self.width_loss[width]) * 12 / 25 / max(self.depths))
        return np.stack((width * sums[:, 0], loss), axis=1)

    def front(self) -> Points:
        """The undominated values of all architectures."""
        ends = chained(self.depths, self._options, self._step)
        found = [self._outer(width, p) for p in ends.values() for width in WIDTHS]
        return undominated(np.vstack(found))

    def _step(self, layer: int, state: Any, mixer: Any) -> tuple[Hashable, tuple[float, float]]:
        """A state is the last mixer, and how many of the group had the rare one."""
        last, rare = state or (-1, 0)
        now = rare + (mixer == self.rare) if self.trap else 0
        cost = loss = 0.0
        if last >= 0:
            cost, loss = self.switch[last, mixer], self.pairs[last, mixer]
        if (layer + 1) % GROUP == 0:
            loss += self._trapped(now)
            now = 0
        return (mixer if self.pairs.any() else 0, now), (cost, loss)

    def _options(self, layer: int) -> Mapping[Hashable, Points]:
        return {mixer: self._undominated_options(layer, mixer) for mixer in range(len(self.mixers))}

    def _undominated_options(self, layer: int, mixer: int) -> Points:
        which = self.mixer_of == mixer
        return undominated(np.stack((self.cost[which], self.loss[layer, which]), 1))


def _size(mixer: Any) -> float:
    match mixer:
        case Attention():
            return 0.5 * mixer.heads + math.log2(mixer.window) / 4
        case Recurrent():
            return math.log2(mixer.state) / 2
        case _:
            return math.log2(mixer.kernel) / 2
