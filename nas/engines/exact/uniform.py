"""Networks that are changed alike in all layers: what a choice layer by layer must beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from nas.engines.exact.slots import Budgets, Solution
from nas.engines.exact.sweep import SLACK
from nas.engines.exact.tables import ScoredSpace
from search_spaces.blocks.base import Block
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.sublayers import sublayers_in


def uniform_networks(space: Space, parent: Decoder) -> list[Genotype]:
    """The parent, and those networks of the space with one change of it in every layer that can have it.

    A change is that of the bits of layers, or of one field of a kind of block, such as its window.
    """
    specs = dict.fromkeys([parent, *_of_equal_bits(space, parent), *_of_equal_fields(space, parent)])
    return [space.genotype_of(spec) for spec in specs if space.contains(spec)]


def best_at_cost_of(
    scored: ScoredSpace,
    networks: Sequence[Genotype],
    names: Sequence[str],
    bounds: Budgets,
    *,
    seconds: float,
) -> list[Solution]:
    """The best choices that cost no more than each of these networks, by the sums of their parts.

    A network with a part that was not scored has no such sum, and is left out.
    """
    solutions = []
    for genotype in networks:
        added = {name: scored.added(scored.space.close(genotype), name) for name in names}
        allowed = {name: cost + SLACK * abs(cost) for name, cost in added.items() if cost is not None}
        if len(allowed) == len(names):
            solutions.append(scored.problem.best({**bounds, **allowed}, seconds=seconds))
    return solutions


def _of_equal_bits(space: Space, parent: Decoder) -> Iterator[Decoder]:
    for bits in dict.fromkeys(sublayer.bits for sublayer in sublayers_in(space) if sublayer.block):
        layers = (replace(layer, bits=bits, channel_bits=None) for layer in parent.layers)
        yield replace(parent, layers=tuple(layers))


def _of_equal_fields(space: Space, parent: Decoder) -> Iterator[Decoder]:
    own = {type(block): block for layer in parent.layers for block in layer.blocks.values()}
    changes: dict[tuple[type[Block], str, Any], None] = {}
    for block in dict.fromkeys(sublayer.block for sublayer in sublayers_in(space)):
        if block is None or (like := own.get(type(block))) is None:
            continue
        unlike = [f.name for f in fields(like) if getattr(block, f.name) != getattr(like, f.name)]
        if len(unlike) == 1:
            changes[type(like), unlike[0], getattr(block, unlike[0])] = None
    for kind, name, value in changes:
        yield replace(parent, layers=tuple(_changed(layer, kind, name, value) for layer in parent.layers))


def _changed(layer: Layer, kind: type[Block], name: str, value: Any) -> Layer:
    """A layer with this value in its blocks of a kind."""
    blocks = {place: getattr(layer, place) for place in PLACES}
    changed: dict[str, Any] = {
        place: replace(block, **{name: value}) for place, block in blocks.items() if type(block) is kind
    }
    return replace(layer, **changed)
