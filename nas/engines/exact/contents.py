"""What may stand in each slot of a space, and under which answers: widths, sublayers, layers left out.

The genes of the space say which options may stand together: the bits of a layer are those of both sublayers,
the width is that of all layers, and behind the last layer of a shallow network every later one is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from evaluators.blockwise.additive_part import NOT_ADDITIVE
from evaluators.blockwise.replacement_scores import LayerRemoved, Width
from foundation.errors import SpaceError
from search_spaces.language.space import Space
from search_spaces.language.walk import Closing, Condition, intersection
from search_spaces.network.decoder import PLACES, Decoder, weights_site
from search_spaces.network.sublayers import OpenDecoder, OpenLayer, Sublayer, decoders_in


@dataclass(frozen=True)
class NothingBeside:
    """The second place of a layer that is left out: the first has the score of both."""

    d_model: int


Content: TypeAlias = "Width | Sublayer | LayerRemoved | NothingBeside"
"""What an option of a slot stands for."""

Contents: TypeAlias = "dict[Content, list[Condition]]"
"""What may stand in a slot, and under which answers."""

AROUND = "around the layers"
"""The slot of the width."""


def slots_of(space: Space, parent: Decoder) -> dict[str, Contents]:
    """What may stand in each slot: the width, and the two places of each layer; all else stays.

    Raises:
        SpaceError: the space has networks deeper than the parent.
    """
    depth = len(parent.layers)
    slots: dict[str, Contents] = {AROUND: {}}
    slots |= {f"{weights_site(None, i)}.{place}": {} for i, place in product(range(depth), PLACES)}
    for decoder in decoders_in(space.root):
        widths = list(_widths(decoder, parent))
        for width in widths:
            slots[AROUND].setdefault(Width(width.value), []).append(width.condition)
        for layer, place in product(decoder.layers(), PLACES):
            if layer.index >= depth:
                raise SpaceError(
                    f"the space has networks deeper than the {depth} layers of the parent:"
                    " choose a deeper one"
                )
            slot = slots[f"{weights_site(None, layer.index)}.{place}"]
            for sublayer, condition in _sublayers(layer, place, widths):
                slot.setdefault(sublayer, []).append(condition)
        for index, place in product(range(depth), PLACES):
            slot = slots[f"{weights_site(None, index)}.{place}"]
            for content, condition in _removed(decoder, index, place, widths):
                slot.setdefault(content, []).append(condition)
    return slots


def _widths(decoder: OpenDecoder, parent: Decoder) -> Iterator[Closing]:
    """The widths of the decoders with all else around their layers as in the parent."""
    for around, condition in decoder.around():
        if around == replace(parent, d_model=around.d_model, layers=()):
            yield Closing(around.d_model, condition)


def _sublayers(
    layer: OpenLayer, place: str, widths: Sequence[Closing]
) -> Iterator[tuple[Sublayer, Condition]]:
    """What may stand at a place of a layer whose sublayers add up."""
    plain = [
        condition
        for options in product(*(_absent(layer, name) for name in NOT_ADDITIVE))
        if (condition := intersection(*options)) is not None
    ]
    for (sublayer, inner), outer in product(layer.sublayers(place, widths), plain):
        condition = intersection(inner, outer)
        if condition is not None:
            yield sublayer, condition


def _removed(
    decoder: OpenDecoder, index: int, place: str, widths: Sequence[Closing]
) -> Iterator[tuple[Content, Condition]]:
    """What stands at a place of a layer that is left out."""
    for width, shallow in product(widths, decoder.shallower(index)):
        condition = intersection(shallow, width.condition)
        if condition is not None:
            first = place == PLACES[0]
            yield LayerRemoved(index, width.value) if first else NothingBeside(width.value), condition


def _absent(layer: OpenLayer, name: str) -> list[Condition]:
    """When a layer does not have an option."""
    kind = NOT_ADDITIVE[name]
    return [condition for value, condition in layer.closings(name) if kind.of(value) is None]
