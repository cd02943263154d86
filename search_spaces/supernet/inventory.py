"""What an open decoder may consist of: widths, blocks by place and kind, options of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.base import Block
from search_spaces.language.choices import OneOf, field_names
from search_spaces.network.decoder import OPTIONS, PLACES, Decoder, weights_site
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.base import LayerOption

Variants: TypeAlias = "dict[tuple[str, str], dict[tuple[Block, int], None]]"


class Inventory(NamedTuple):
    """What an open decoder may consist of.

    Every width, every norm, every vocabulary, every (block, width) by place and kind, and every option of a
    layer by its path.
    """

    widths: set[int]
    norms: dict[Norm, None]
    vocabularies: set[int]
    variants: Variants
    options: dict[str, dict[LayerOption, None]]


def inventory(root: Any) -> Inventory:
    """What an open decoder may consist of; blocks that cannot be built at a width are among it.

    Raises:
        SpaceError: the root is no decoder.
    """
    found = Inventory(set(), {}, set(), {}, {})
    for decoder in alternatives(root):
        if not isinstance(decoder, Decoder):
            raise SpaceError(f"a supernet needs a space of Decoder, got {type(decoder).__name__}")
        here = set(closings(decoder.d_model))
        found.widths.update(here)
        found.norms.update(dict.fromkeys(closings(decoder.norm)))
        found.vocabularies.update(closings(decoder.vocab))
        for stack in alternatives(decoder.layers):
            for i, open_layer in enumerate(stack):
                for path, block in _parts_of(open_layer, i, PLACES):
                    known = found.variants.setdefault((path, type(block).__name__), {})
                    known |= dict.fromkeys(product([block], sorted(here)))
                for path, value in _parts_of(open_layer, i, OPTIONS):
                    option = OPTIONS[path.rpartition(".")[2]].of(value)
                    if option is not None:
                        found.options.setdefault(path, {})[option] = None
    return found


def _parts_of(open_layer: Any, index: int, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Every closed part that may stand in these fields of a layer, with the path of its weights."""
    for layer in alternatives(open_layer):
        sites = {weights_site(name, index) for name in closings(layer.shared)}
        for name in names:
            for part in closings(getattr(layer, name)):
                if part is not None:
                    yield from ((f"{site}.{name}", part) for site in sorted(sites))


def alternatives(node: Any) -> tuple[Any, ...]:
    """The options of an open value, or the value itself."""
    return node.options if isinstance(node, OneOf) else (node,)


def closings(node: Any) -> Iterator[Any]:
    """Every closed value of a part of a space (each use of a shared choice taken by itself)."""
    if isinstance(node, OneOf):
        for option in node.options:
            yield from closings(option)
    elif isinstance(node, tuple):
        yield from (tuple(parts) for parts in product(*(tuple(closings(part)) for part in node)))
    elif hasattr(node, "__dataclass_fields__"):
        names = field_names(type(node))
        for values in product(*(tuple(closings(getattr(node, name))) for name in names)):
            yield type(node)(**dict(zip(names, values, strict=True)))
    else:
        yield node


def buildable(block: Block, d_model: int) -> bool:
    """Whether a block can stand in a network of this width."""
    try:
        block.check(d_model)
    except IllegalArchitecture:
        return False
    return True
