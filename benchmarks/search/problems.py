"""Problems of which the true front is known: textbook functions and made-up architectures.

ZDT1 to ZDT3 (Zitzler, Deb and Thiele 2000) and DTLZ2 (Deb et al. 2002) with genes of 33 levels.

The architectures of `layered` have 6 to 12 layers, in each of which stand a mixer of one of three kinds with
sizes of its own, an expansion and a number of bits, and one width for all. Cost grows with all of them; the
loss falls with them, less and less, and by tables of random numbers that differ from layer to layer:

    additive      nothing else
    interacting   every two mixers that follow each other suit each other or not, and changes of kind cost
    noisy         as interacting, and the loss is measured with an error
    deceptive     three layers are best with one rare mixer in all of them, and the worse the nearer to that
    scattered     as interacting, but those that suit each other stand anywhere among 12 layers
    hundreds      as interacting, with 40 or 57 layers: 400 genes

Those of `hybrid` have conditional mixers and channel mixers, effects of layers two apart, and one of the best
layer in the network.

Their fronts are computed exactly, but for rounding. No table was chosen by what a strategy makes of it: they
are drawn by the problem's name. `scattered`, `hybrid` and `hundreds` are held out: no choice in a strategy of
this project was made by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.search.chains import Points
from benchmarks.search.hybrid import Hybrid
from benchmarks.search.layered import Layered
from nas.pareto import hypervolume, reference_point
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space

LEVELS = 33


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


def _architectures(name: str, kind: Callable[..., Any], *, noise: float = 0.0, **tables: Any) -> Problem:
    networks = kind(name, **tables)
    front = networks.front()
    reference = reference_point(front)
    spread = float(np.ptp(front[:, 1]))
    space = Space(networks.root, name=name)
    return Problem(name, space, networks, reference, hypervolume(front, reference), noise * spread)


MAKERS: Mapping[str, Callable[[], Problem]] = {
    "zdt1": lambda: _zdt(1),
    "zdt2": lambda: _zdt(2),
    "zdt3": lambda: _zdt(3),
    "dtlz2": _dtlz2,
    "additive": lambda: _architectures("additive", Layered, strength=0.3),
    "interacting": lambda: _architectures("interacting", Layered, strength=0.5, pairs=0.7),
    "interacting, strong": lambda: _architectures("interacting, strong", Layered, strength=1.0, pairs=1.5),
    "noisy": lambda: _architectures("noisy", Layered, strength=0.5, pairs=0.7, noise=0.1),
    "deceptive": lambda: _architectures("deceptive", Layered, strength=0.3, trap=0.7),
    "scattered": lambda: _architectures(
        "scattered", Layered, strength=0.5, pairs=0.7, depths=(12,), scattered=True
    ),
    "hybrid": lambda: _architectures("hybrid", Hybrid),
    "hundreds": lambda: _architectures("hundreds", Layered, strength=0.5, pairs=0.7, depths=(40, 57)),
}


@cache
def problem(name: str) -> Problem:
    """The problem of a name."""
    return MAKERS[name]()
