"""Compound scaling: a network grown into a family (EfficientNet: Tan & Le 2019, arXiv:1905.11946).

    laws = laws_of(network, cost)                   # a small grid: each doubles the cost
    family = [member(network, laws[0], factor, cost) for factor in (2, 4, 8)]

The paper grows depth, width and resolution by alpha^phi, beta^phi, gamma^phi, and picks alpha, beta and gamma
once, at phi = 1, on a grid where alpha * beta^2 * gamma^2 is about 2 because FLOPs grow so. A language model
has no resolution; it has a state. And its cost is whatever is asked for, with embeddings and blocks that do
not grow as squares. So the exponents are those of the cost itself, taken at the network: growing by `shares`
(d, w, s) of one doubling means depth x 2^(d / e_depth), width x 2^(w / e_width), state x 2^(s / e_state),
where the cost grows as depth^e_depth and so on; no axis grows faster than twofold. The member at `factor`
doubles log2(factor) times.

Depths and states are whole numbers, so the width, in steps of at most 6 %, takes up what rounding left: the
member has the width whose cost is nearest to `factor` times that of the network. Depth grows by stacking (the
pattern of layers begins again: ABAB) or by stretching (each layer is repeated in its place: AABB). The
proportions within a layer are those of `search_spaces.sizing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from foundation.errors import IllegalArchitecture, SettingError
from search_spaces.blocks.base import Block
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.sizing import widened

Cost: TypeAlias = Callable[[Decoder], float]
"""What a network costs: counted, predicted or measured, and more than nothing."""

STATE = ("state_dim", "window")
"""Fields of blocks that make their decode state larger at the same width."""

TOLERANCE = 0.1
"""How far a member may be from its cost, as a share."""

WIDEST = 2**17
GROWN = 2.0
"""How much an axis grows to see how the cost follows, and at most in a doubling: states may cost little."""


@dataclass(frozen=True)
class Law:
    """How a network grows each time its cost doubles: by factors of depth, width and state."""

    depth: float
    width: float
    state: float
    stretched: bool = False

    def __str__(self) -> str:
        how = "stretched" if self.stretched else "stacked"
        return f"depth x {self.depth:.3g} ({how}), width x {self.width:.3g}, state x {self.state:.3g}"


WIDER = Law(1.0, 2.0, 1.0)
"""Width alone; how much of it a doubling takes does not matter, since the width is fitted to the cost."""


def laws_of(network: Decoder, cost: Cost, parts: int = 3) -> list[Law]:
    """A grid of laws: every way to share one doubling in `parts` equal parts among the axes that there are.

    Laws that give the same network at twice the cost are one.

    Raises:
        SettingError: the cost does not grow with the network.
    """
    exponents = _exponents(network, cost)
    found: dict[Decoder, Law] = {}
    for shares in _shares(parts, [exponent > 0 for exponent in exponents]):
        depth, width, state = (
            min(GROWN, 2 ** (s / e)) if s else 1.0 for s, e in zip(shares, exponents, strict=True)
        )
        for stretched in (False, True) if shares[0] else (False,):
            law = Law(depth, width, state, stretched)
            try:
                found.setdefault(member(network, law, 2, cost), law)
            except (SettingError, IllegalArchitecture):
                continue
    if not found:
        raise SettingError(f"no way to grow this network comes within {TOLERANCE:.0%} of twice its cost")
    return list(found.values())


def member(network: Decoder, law: Law, factor: float, cost: Cost) -> Decoder:
    """The network grown by a law to `factor` times its cost, within 10 %.

    Raises:
        SettingError: no width comes that near.
        IllegalArchitecture: a block cannot be built at that size.
    """
    grown = closest(network, law, factor, cost)
    reached = cost(grown) / cost(network)
    if abs(reached / factor - 1) > TOLERANCE:
        raise SettingError(
            f"by {law} a network of {reached:.3g} times the cost is nearest to {factor:g} times"
        )
    return grown


def closest(network: Decoder, law: Law, factor: float, cost: Cost) -> Decoder:
    """The same however far it is: the width is fitted where the law has any, else the depth."""
    doublings, wanted = math.log2(factor), factor * cost(network)
    state, depth = law.state**doublings, law.depth**doublings
    if law.width == 1 and law.state == 1:
        return _deepened(network, wanted, cost, stretched=law.stretched)
    layers = max(1, round(len(network.layers) * depth))
    base = grown(network, layers=layers, state=state, stretched=law.stretched)
    return _fitted(base, wanted, cost)


def deeper(network: Decoder, factor: float, cost: Cost, *, stretched: bool = False) -> Decoder:
    """Depth alone: as many layers as come nearest to `factor` times the cost."""
    return _deepened(network, factor * cost(network), cost, stretched=stretched)


def grown(
    network: Decoder, *, layers: int | None = None, state: float = 1.0, stretched: bool = False
) -> Decoder:
    """The network with so many layers, and states `state` times as large; the width stays."""
    stack, count = network.layers, layers or len(network.layers)
    if stretched:
        stack = tuple(stack[i * len(stack) // count] for i in range(count))
    else:
        stack = tuple(stack[i % len(stack)] for i in range(count))
    return replace(network, layers=tuple(_with_state(layer, state) for layer in stack))


def _fitted(network: Decoder, wanted: float, cost: Cost) -> Decoder:
    """The network at the width whose cost is nearest to what is wanted."""
    at = network.d_model
    low, high = at, at
    while cost(widened(network, high)) < wanted and high < WIDEST:
        low, high = high, 2 * high
    while cost(widened(network, low)) > wanted and low > 8:
        low, high = low // 2, low
    widths = _widths(low, high)
    while len(widths) > 2:  # the cost grows with the width
        middle = len(widths) // 2
        under = cost(widened(network, widths[middle])) < wanted
        widths = widths[middle:] if under else widths[: middle + 1]
    return min((widened(network, width) for width in widths), key=lambda each: abs(cost(each) - wanted))


def _deepened(network: Decoder, wanted: float, cost: Cost, *, stretched: bool) -> Decoder:
    """The network at the depth whose cost is nearest to what is wanted."""
    count = len(network.layers)
    layer = (cost(grown(network, layers=2 * count)) - cost(network)) / count
    if layer <= 0:
        raise SettingError("the cost does not grow with the depth")
    guess = max(count, round(count + (wanted - cost(network)) / layer))
    near = range(max(1, guess - 2), guess + 3)
    sizes = [grown(network, layers=layers, stretched=stretched) for layers in near]
    return min(sizes, key=lambda each: abs(cost(each) - wanted))


def _widths(low: int, high: int) -> list[int]:
    """Widths between two, in steps of at most 6 %: multiples of 4, from 128 on of 8, then 16, 32, 64."""
    widths, at = [], low
    while at < high:
        widths.append(at)
        step = max(4, min(64, 2 ** int(math.log2(max(at, 1) / 16))))
        at += step - at % step
    return [*widths, high]


def _exponents(network: Decoder, cost: Cost) -> tuple[float, float, float]:
    """How the cost grows with depth, width and state, as exponents; 0 for what the network has not.

    Raises:
        SettingError: it grows with none.
    """
    here = cost(network)
    if not here > 0:
        raise SettingError(f"compound scaling needs a cost of more than nothing, got {here}")
    larger = (
        grown(network, layers=round(GROWN * len(network.layers))),
        widened(network, round(GROWN * network.d_model)),
        grown(network, state=GROWN),
    )
    depth, width, state = (
        0.0 if each == network else math.log(cost(each) / here) / math.log(GROWN) for each in larger
    )
    if max(depth, width, state) < 0.05:
        raise SettingError("the cost does not grow with depth, width or state: scale by another objective")
    kept = [each if each >= 0.05 else 0.0 for each in (depth, width, state)]  # what is free is no axis
    return kept[0], kept[1], kept[2]


def _shares(parts: int, there: list[bool]) -> Iterator[tuple[float, float, float]]:
    """Ways to share one doubling, in `parts` equal parts, among the axes that are there."""
    for depth in range(parts + 1):
        for width in range(parts + 1 - depth):
            shares = (depth / parts, width / parts, (parts - depth - width) / parts)
            if all(has or not share for has, share in zip(there, shares, strict=True)):
                yield shares


def _with_state(layer: Layer, by: float) -> Layer:
    """A layer whose blocks have `by` times their state."""
    return layer if by == 1 else replace(layer, **{p: _larger(b, by) for p, b in layer.blocks.items()})


def _larger(block: Block, by: float) -> Any:
    values = {f.name: getattr(block, f.name) for f in fields(block) if f.name in STATE}
    return replace(block, **{n: max(1, round(v * by)) for n, v in values.items() if type(v) is int})
