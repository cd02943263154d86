"""Problems of which the true front is known: textbook functions and made-up architectures.

ZDT1 to ZDT3 (Zitzler, Deb and Thiele 2000) and DTLZ2 (Deb et al. 2002) with genes of 33 levels.

The architectures have 6 to 12 layers, in each of which stand a mixer of one of three kinds with sizes of
its own, an expansion and a number of bits, and one width for all. Cost grows with all of them; the loss falls
with them, less and less, and by tables of random numbers that differ from layer to layer:

    additive      nothing else
    interacting   every two mixers that follow each other suit each other or not, and changes of kind cost
    noisy         as interacting, and the loss is measured with an error
    deceptive     three layers are best with one rare mixer in all of them, and the worse the nearer to that

Their fronts are computed exactly, but for rounding, by going through the layers with all undominated
beginnings. No table was chosen by what a strategy makes of it: they are drawn by the problem's name.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.pareto import hypervolume, nondominated, reference_point
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space

Points = NDArray[np.float64]

LEVELS = 33
DEPTHS = (6, 9, 12)
WIDTHS = (1.0, 1.5, 2.0)
GROUP = 3
ROUNDED = 400
"""Undominated beginnings that are kept apart, along the range of costs."""


@dataclass(frozen=True)
class Problem:
    """Objectives of an architecture, to be minimised; `noise` is the error with which the last is measured.

    `ideal` is the hypervolume of the true front below `reference`.
    """

    name: str
    space: Space
    evaluate: Callable[[Any], tuple[float, ...]]
    reference: Points
    ideal: float
    noise: float = 0.0

    @property
    def objectives(self) -> int:
        """How many there are."""
        return len(self.reference)


@dataclass(frozen=True)
class Vector:
    """A point of a textbook problem."""

    x: Any


def _textbook(name: str, genes: int, values: Callable[[Points], tuple[float, ...]], front: Points) -> Problem:
    level = one_of(*(round(i / (LEVELS - 1), 6) for i in range(LEVELS)))
    reference = np.full(front.shape[1], 11.0 if front.shape[1] == 2 else 1.1)
    return Problem(
        name,
        Space(Vector((level,) * genes), name=name),
        lambda spec: values(np.array(spec.x)),
        reference,
        hypervolume(front, reference),
    )


def _zdt(number: int) -> Problem:
    def shape(first: float, g: float) -> float:
        ratio = first / g
        if number == 2:
            return float(1 - ratio**2)
        waves = ratio * math.sin(10 * math.pi * first) if number == 3 else 0.0
        return float(1 - math.sqrt(ratio) - waves)

    def values(x: Points) -> tuple[float, ...]:
        g = 1 + 9 * float(x[1:].mean())
        return float(x[0]), g * shape(float(x[0]), g)

    firsts = np.linspace(0, 1, LEVELS)
    return _textbook(f"zdt{number}", 30, values, np.array([(x, shape(x, 1.0)) for x in firsts]))


def _dtlz2() -> Problem:
    def values(x: Points) -> tuple[float, ...]:
        radius = 1 + float(((x[2:] - 0.5) ** 2).sum())
        a, b = x[:2] * math.pi / 2
        return (
            radius * math.cos(a) * math.cos(b),
            radius * math.cos(a) * math.sin(b),
            radius * math.sin(a),
        )

    levels, middle = np.linspace(0, 1, LEVELS), np.full(10, 0.5)
    front = np.array([values(np.concatenate(([a, b], middle))) for a in levels for b in levels])
    return _textbook("dtlz2", 12, values, front)


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

    `strength` is the size of random terms beside the regular one; `pairs` that of neighbours.
    """

    def __init__(self, name: str, *, strength: float, pairs: float = 0.0, trap: float = 0.0) -> None:
        chance = np.random.default_rng(zlib.crc32(name.encode()))
        layer = Space(Layer(one_of(Attention(), Recurrent(), Convolution())))
        self.root = Network(one_of(*WIDTHS), repeat(layer.root, DEPTHS))
        self.options: list[Layer] = [layer.close(genotype) for genotype in layer.enumerate()]
        self.index = {option: i for i, option in enumerate(self.options)}
        self.mixers = list(dict.fromkeys(option.mixer for option in self.options))
        self.mixer_of = np.array([self.mixers.index(option.mixer) for option in self.options])
        self.kinds = [type(mixer).__name__ for mixer in self.mixers]
        count, depth = len(self.options), max(DEPTHS)
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

    def __call__(self, spec: Any) -> tuple[float, float]:
        """Cost and loss of a network."""
        chosen = [self.index[layer] for layer in spec.layers]
        mixers = self.mixer_of[chosen]
        cost = float(self.cost[chosen].sum() + self.switch[mixers[:-1], mixers[1:]].sum())
        loss = float(
            self.loss[np.arange(len(chosen)), chosen].sum() + self.pairs[mixers[:-1], mixers[1:]].sum()
        )
        for start in range(0, len(chosen), GROUP):
            loss += self._trapped(int((mixers[start : start + GROUP] == self.rare).sum()))
        return self._outer(spec.width, cost, loss)

    def _trapped(self, rare: int) -> float:
        """What a group of layers adds that has so many of the rare mixer."""
        return self.trap * (-GROUP if rare == GROUP else rare)

    @staticmethod
    def _outer_loss(loss: Any) -> Any:
        return 1 + 3 * np.exp(loss / 25)

    def _outer(self, width: float, cost: float, loss: float) -> tuple[float, float]:
        return width * cost, float(self._outer_loss(loss + self.width_loss[width]))

    def front(self) -> Points:
        """The undominated values of all architectures."""
        # a state is the last mixer, and how many of the group had the rare one
        states: dict[tuple[int, int], Points] = {}
        found = []
        for layer in range(max(DEPTHS)):
            best = {mixer: self._undominated_options(layer, mixer) for mixer in range(len(self.mixers))}
            reached: dict[tuple[int, int], list[Points]] = {}
            beginnings = states or {(-1, 0): np.zeros((1, 2))}
            for (last, rare), points in beginnings.items():
                for mixer, options in best.items():
                    now = rare + (mixer == self.rare) if self.trap else 0
                    added = options.copy()
                    if last >= 0:
                        added += (self.switch[last, mixer], self.pairs[last, mixer])
                    if (layer + 1) % GROUP == 0:
                        added[:, 1] += self._trapped(now)
                        now = 0
                    both = (points[:, None, :] + added[None, :, :]).reshape(-1, 2)
                    reached.setdefault((mixer if self.pairs.any() else 0, now), []).append(both)
            states = {state: _thinned(np.vstack(several)) for state, several in reached.items()}
            if layer + 1 in DEPTHS:
                found += [
                    np.stack((width * p[:, 0], self._outer_loss(p[:, 1] + self.width_loss[width])), 1)
                    for p in states.values()
                    for width in WIDTHS
                ]
        return _undominated(np.vstack(found))

    def _undominated_options(self, layer: int, mixer: int) -> Points:
        which = self.mixer_of == mixer
        return _undominated(np.stack((self.cost[which], self.loss[layer, which]), 1))


def _size(mixer: Any) -> float:
    match mixer:
        case Attention():
            return 0.5 * mixer.heads + math.log2(mixer.window) / 4
        case Recurrent():
            return math.log2(mixer.state) / 2
        case _:
            return math.log2(mixer.kernel) / 2


def _undominated(points: Points) -> Points:
    kept: Points = points[np.array(nondominated(points.tolist()), dtype=bool)]
    return kept


def _thinned(points: Points) -> Points:
    """The undominated ones, the best of each small range of costs."""
    points = _undominated(points)
    if len(points) <= ROUNDED:
        return points
    points = points[np.argsort(points[:, 0])]
    bins = ((points[:, 0] - points[0, 0]) / (np.ptp(points[:, 0]) + 1e-12) * ROUNDED).astype(int)
    return points[np.flatnonzero(np.diff(bins, append=bins[-1] + 1))]


def _architectures(name: str, *, noise: float = 0.0, **tables: float) -> Problem:
    layered = Layered(name, **tables)
    front = layered.front()
    reference = reference_point(front.tolist())
    spread = float(np.ptp(front[:, 1]))
    space = Space(layered.root, name=name)
    return Problem(name, space, layered, reference, hypervolume(front, reference), noise * spread)


MAKERS: Mapping[str, Callable[[], Problem]] = {
    "zdt1": lambda: _zdt(1),
    "zdt2": lambda: _zdt(2),
    "zdt3": lambda: _zdt(3),
    "dtlz2": _dtlz2,
    "additive": lambda: _architectures("additive", strength=0.3),
    "interacting": lambda: _architectures("interacting", strength=0.5, pairs=0.7),
    "interacting, strong": lambda: _architectures("interacting, strong", strength=1.0, pairs=1.5),
    "noisy": lambda: _architectures("noisy", strength=0.5, pairs=0.7, noise=0.1),
    "deceptive": lambda: _architectures("deceptive", strength=0.3, trap=0.7),
}


@cache
def problem(name: str) -> Problem:
    """The problem of a name."""
    return MAKERS[name]()
