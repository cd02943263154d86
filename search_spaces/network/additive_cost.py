"""Costs that add up over the sublayers of networks: what each part adds, and how far the sums are off.

A cost is a plain function of closed networks, so nothing here depends on where it comes from. What a part
adds is the difference of two small networks, with the part and without it. Latency tables, decode-state
bytes, and weight bytes and parameters (unless layers share their weights) are exactly such sums; a peak of
memory is not. Which is the case is measured on random networks (`deviation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeAlias

from foundation.errors import SettingError
from search_spaces.blocks.base import Block
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.sublayers import Sublayer

Total: TypeAlias = Callable[[Sequence[Decoder]], Sequence[float]]
"""A cost of closed networks, all of them at once."""

CHECKED = 48
"""Random networks on which a deviation is measured."""

EXACT = 1e-6
"""The relative error below which a cost adds up."""


@dataclass(frozen=True)
class Difference:
    """The cost of the network `whole`, less that of the network `without` it, if there is one."""

    whole: Decoder
    without: Decoder | None = None


def added_by(sublayer: Sublayer, empty: Decoder, *, beside: Block, **options: Any) -> Difference:
    """What a sublayer with a block adds to the network `empty`, which has no layers.

    A channel mixer stands in a layer with the sequence mixer `beside` it. `options` are further fields of the
    layer, and count with its sequence mixer.
    """
    assert sublayer.block is not None
    place = sublayer.norm.place
    options = {"norm_place": None if place == empty.norm.place else place, **options}
    if sublayer.place == PLACES[0]:
        reads = sublayer.reads_embedding
        layer = Layer(sequence_mixer=sublayer.block, bits=sublayer.bits, reads_embedding=reads, **options)
        return Difference(replace(empty, layers=(layer,)), empty)
    without = Layer(sequence_mixer=beside, bits=sublayer.bits, **options)
    whole = replace(without, channel_mixer=sublayer.block)
    return Difference(replace(empty, layers=(whole,)), replace(empty, layers=(without,)))


def prices(total: Total, differences: Iterable[Difference]) -> dict[Difference, float]:
    """What each of these adds to a cost, which is asked once.

    Raises:
        SettingError: the cost of a network is not a finite number.
    """
    wanted = list(dict.fromkeys(differences))
    specs = list(dict.fromkeys(spec for d in wanted for spec in (d.whole, d.without) if spec is not None))
    costs = dict(zip(specs, map(float, total(specs)), strict=True))
    for spec, cost in costs.items():
        if not math.isfinite(cost):
            raise SettingError(f"a cost must be a finite number, got {cost} for {spec}")
    return {d: costs[d.whole] - (costs[d.without] if d.without is not None else 0.0) for d in wanted}


def deviation(
    space: Space, total: Total, added: Callable[[Genotype, Decoder], float | None], *, seed: int = 0
) -> float:
    """The largest relative error of a sum of parts, `added`, on random networks of a space.

    Networks for which it is None are left out.
    """
    dice, worst = Random(f"{seed}/deviation"), 0.0
    genotypes = [space.sample(dice) for _ in range(CHECKED)]
    networks = [(genotype, space.close(genotype)) for genotype in genotypes]
    sums = [(spec, amount) for g, spec in networks if (amount := added(g, spec)) is not None]
    wholes = total([spec for spec, _ in sums]) if sums else ()
    for (_, amount), whole in zip(sums, wholes, strict=True):
        worst = max(worst, abs(amount - whole) / max(abs(whole), 1e-12))
    return worst
