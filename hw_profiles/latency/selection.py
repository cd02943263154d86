"""Which parts of a space to measure, when there are too many to measure all.

First a coarse grid: of every kind of block its most usual part, then again and again the one farthest from
those chosen, so that ends of ranges and all categories come early. Then, wherever the interpolation is least
certain, weighed by how much of a network's time that is: latency is a staircase in widths, and no grid chosen
beforehand knows where the steps are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from random import Random

import numpy as np

from hw_profiles.latency.features import Axes
from hw_profiles.latency.interpolation import Interpolator
from hw_profiles.latency.parts import Part, Real, at_position, parts_of
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.timings import READINGS
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

NETWORKS = 200
"""Random networks that tell how usual a part is."""

SMALL_SPACE = 48
"""A space of so few parts is measured whole."""

PARTS_AT_POSITIONS = 2
"""Parts of a kind with a growing state that are also timed at other positions."""

UNSEEN_USAGE = 0.02
"""The usage of a part that no random network had."""

KIND_LIMIT = 3
"""Parts of one kind in one step of refinement, so that it does not ask the same thing twice."""

CANDIDATES = 4000
"""Parts of one kind that are looked at; of larger kinds a random choice."""


def random_specs(space: Space, dice: Random, count: int) -> Iterator[Decoder]:
    """Random networks of a space, as a table knows them: without options whose shapes depend on values."""
    for _ in range(count):
        _, spec = space.propose_with_spec(lambda path, labels: dice.choice(labels))
        yield replace(spec, layers=tuple(layer.with_static_shapes() for layer in spec.layers))


def usage_in(space: Space, real: Real, seed: int) -> dict[Part, float]:
    """How often a part stands in a random network, on average."""
    found: Counter[Part] = Counter()
    for spec in random_specs(space, Random(f"{seed}/usage"), NETWORKS):
        found.update(parts_of(spec, real))
    return {part: count / NETWORKS for part, count in found.items()}


def coarse_grid(
    parts: Sequence[Part], usage: Mapping[Part, float], scenario: Scenario, seed: int
) -> tuple[list[Part], list[Part]]:
    """Parts to measure in any case, and parts to measure next, the most important ones first.

    With the former alone every part can be reckoned: no kind is missing, and no part is far beyond those
    measured. Together they are all parts of a small space.
    """
    by_kind: dict[str, list[Part]] = {}
    for part in parts:
        by_kind.setdefault(part.kind, []).append(part)
    least, more, small = [by_kind.pop("", [])], [], len(parts) <= SMALL_SPACE
    shares = {
        kind: sum(usage.get(part, UNSEEN_USAGE) for part in members) for kind, members in by_kind.items()
    }
    for kind in sorted(by_kind, key=lambda kind: -shares[kind]):
        members = by_kind[kind]
        if len(members) > CANDIDATES:
            members = Random(f"{seed}/{kind}").sample(members, CANDIDATES)
        axes = Axes(members, 0.0)
        spread = int(sum(axes.high > axes.low)) + sum(len(set(c)) > 1 for c in axes.levels.T)
        count = min(len(members), 3 + 2 * spread)
        order, needed = _spread_out(axes, members, usage, len(members) if small else count)
        needed = len(order) if small else needed
        least.append(order[:needed])
        more.append([*_moved(order, scenario), *order[needed:]])
    return [*least[0], *_by_rank(least[1:])], _by_rank(more)


def _by_rank(orders: Sequence[Sequence[Part]]) -> list[Part]:
    """The first of each, the second of each, and so on."""
    return [part for rank in zip_longest(*orders) for part in rank if part is not None]


def _spread_out(
    axes: Axes, parts: Sequence[Part], usage: Mapping[Part, float], count: int
) -> tuple[list[Part], int]:
    """The most usual part in the middle, the largest, the smallest, then the farthest from those chosen.

    At least `count`, and as many as it takes for all parts to be within reach: that many are needed.
    """
    weights = np.array([usage.get(part, UNSEEN_USAGE) for part in parts])
    middle = (axes.low + axes.high) / 2
    off = ((axes.x - middle) ** 2).sum(1)
    chosen = [int(np.argmax(weights / weights.max() - 0.25 * off))]
    size = ((axes.x - axes.low) / np.maximum(axes.high - axes.low, 1e-9)).sum(1)
    chosen = list(dict.fromkeys([*chosen, int(np.argmax(size)), int(np.argmin(size))]))
    gaps = axes.distances([parts[i] for i in chosen]).min(0)
    needed = len(chosen) if axes.within_reach(chosen) else 0
    while len(chosen) < count or not needed:
        gaps[chosen] = -1.0
        following = int(np.argmax(gaps + 1e-6 * weights))
        chosen.append(following)
        gaps = np.minimum(gaps, axes.distances([parts[following]])[0])
        needed = needed or (len(chosen) if axes.within_reach(chosen) else 0)
    return [parts[i] for i in chosen], needed


def _moved(order: Sequence[Part], scenario: Scenario) -> list[Part]:
    """Some growing parts at the beginning and at the end of the context."""
    if runtime_of(scenario).static_shapes:  # a step takes the same time at every position
        return []
    growing = [part for part in order if part.grows(scenario.context)][:PARTS_AT_POSITIONS]
    early, late = max(1, scenario.prompt // 4), scenario.context - 1
    return [at_position(part, position) for part in growing for position in (early, late)]


def expected_errors(
    parts: Sequence[Part],
    usage: Mapping[Part, float],
    interpolator: Interpolator,
    known: Mapping[Part, object],
) -> tuple[float, dict[Part, float]]:
    """How far interpolation puts networks off, relatively; and the share of each unmeasured part in it.

    Errors within a kind go the same way, those of different kinds do not.
    """
    worst, shares = 0.0, dict.fromkeys(parts, 0.0)
    for reading in READINGS:
        halves = [part for part in parts if part.block is not None]
        found = interpolator.estimate(halves, reading)
        total = sum(usage.get(p, 0.0) * e.ms for p, e in zip(halves, found, strict=True))
        by_kind: dict[str, float] = {}
        for part, estimate in zip(halves, found, strict=True):
            if part in known or total <= 0:
                continue
            off = usage.get(part, UNSEEN_USAGE / 10) * estimate.ms * estimate.error / total
            by_kind[part.kind] = by_kind.get(part.kind, 0.0) + off
            shares[part] = max(shares[part], off)
        worst = max(worst, float(np.sqrt(sum(value**2 for value in by_kind.values()))))
    return worst, shares


def most_uncertain(shares: Mapping[Part, float], count: int) -> list[Part]:
    """The unmeasured parts to measure next."""
    chosen: list[Part] = []
    kinds: Counter[str] = Counter()
    for part in sorted(shares, key=lambda part: -shares[part]):
        if shares[part] > 0 and kinds[part.kind] < KIND_LIMIT:
            kinds[part.kind] += 1
            chosen.append(part)
        if len(chosen) == count:
            break
    return chosen
