"""The share of each family of blocks at each layer: of the front, and of networks all over the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.facts.anatomy import FAMILIES, family_of
from search_spaces.network.decoder import Decoder, has_plain_layers

PLACES = {"sequence_mixer": "sequence mixers", "channel_mixer": "channel mixers"}


@dataclass(frozen=True)
class FamilyPanel:
    """Blocks of one place in the layers: `front[family][layer]` is the share of the front with that family.

    Shares of a layer add up to less than 1 where some networks do not have so many layers, or no such block.
    """

    title: str
    families: tuple[str, ...]
    front: tuple[tuple[float, ...], ...]
    everywhere: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class FamilyFacts:
    """Panels, the number of layers of the deepest network, and how many networks were counted."""

    panels: tuple[FamilyPanel, ...]
    depth: int
    networks: int
    searched: int


def family_facts(front: Sequence[Any], everywhere: Sequence[Any]) -> FamilyFacts | None:
    """Families by layer; None where there are no decoders. A place with one family only has no panel."""
    members, seen = ([spec for spec in specs if has_plain_layers(spec)] for specs in (front, everywhere))
    depth = max((len(spec.layers) for spec in (*members, *seen)), default=0)
    if not members or not seen or not depth:
        return None
    panels = []
    for place, title in PLACES.items():
        counted = [_by_layer(specs, place, depth) for specs in (members, seen)]
        families = [name for name in FAMILIES if any(name in layer for each in counted for layer in each)]
        if len(families) > 1:
            shares = [
                tuple(tuple(layer.get(name, 0.0) for layer in each) for name in families) for each in counted
            ]
            panels.append(FamilyPanel(title, tuple(families), *shares))
    return FamilyFacts(tuple(panels), depth, len(members), len(seen)) if panels else None


def _by_layer(specs: Sequence[Decoder], place: str, depth: int) -> list[dict[str, float]]:
    found: list[dict[str, float]] = [{} for _ in range(depth)]
    for spec in specs:
        for index, layer in enumerate(spec.layers):
            block = layer.blocks.get(place)
            if block is not None:
                family = family_of(block, spec.d_model)
                found[index][family] = found[index].get(family, 0.0) + 1 / len(specs)
    return found
