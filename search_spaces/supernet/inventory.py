"""What an open decoder may consist of: widths, blocks by place and kind, options of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from search_spaces.blocks.base import Block
from search_spaces.network.decoder import OPTIONS, PLACES, weights_site
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.base import LayerOption
from search_spaces.network.shell import Shell
from search_spaces.network.sublayers import OpenLayer, decoders_in

Variants: TypeAlias = "dict[tuple[str, str], dict[tuple[Block, int], None]]"


class Inventory(NamedTuple):
    """What an open decoder may consist of.

    Every width, every shell, every (block, width) and every norm before or behind a block by place and kind,
    and every option of a layer by its path.
    """

    widths: set[int]
    shells: dict[Shell, None]
    variants: Variants
    norms: dict[tuple[str, str], dict[Norm, None]]
    options: dict[str, dict[LayerOption, None]]


def inventory(root: Any) -> Inventory:
    """What an open decoder may consist of; blocks that cannot be built at a width are among it.

    Raises:
        SpaceError: the root is no decoder.
    """
    parts = Inventory(set(), {}, {}, {}, {})
    for decoder in decoders_in(root):
        widths = {width.value for width in decoder.closings("d_model")}
        parts.widths.update(widths)
        parts.shells.update((around.shell, None) for around, _ in decoder.around())
        for layer in decoder.layers():
            around = product(layer.norms, layer.closings("norm_place"))
            norms = dict.fromkeys(norm.value.at(place.value) for norm, place in around)
            for path, block in _parts_of(layer, PLACES):
                key = (path, type(block).__name__)
                variants = parts.variants.setdefault(key, {})
                variants |= dict.fromkeys(product([block], sorted(widths)))
                parts.norms.setdefault(key, {}).update(norms)
            for path, value in _parts_of(layer, OPTIONS):
                option = OPTIONS[path.rpartition(".")[2]].of(value)
                if option is not None:
                    parts.options.setdefault(path, {})[option] = None
    return parts


def _parts_of(layer: OpenLayer, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Every closed part that may stand in these fields of a layer, with the path of its weights."""
    sites = sorted({weights_site(shared.value, layer.index) for shared in layer.closings("shared")})
    for name in names:
        for part in layer.closings(name):
            if part.value is not None:
                yield from ((f"{site}.{name}", part.value) for site in sites)
