"""Which blocks of a space have their learning rates swept: one of each kind, at the base width."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from foundation.errors import NasError, SpaceError
from foundation.registry import known_name
from search_spaces.blocks.base import Block
from search_spaces.blocks.skip import Skip
from search_spaces.language.space import Space
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.scaling import BASE_WIDTH
from search_spaces.supernet.inventory import inventory


def swept_blocks(space: Space, kinds: Collection[str] = ()) -> list[Block]:
    """A block of each kind of the space, or of these kinds: the one in the middle by parameters.

    Raises:
        UnknownName: the space has no block of a kind.
        SpaceError: no block of a kind can be built at the base width.
    """
    found: dict[str, dict[Block, None]] = {}
    for (_, kind), variants in inventory(space.root).variants.items():
        found.setdefault(kind, {}).update(dict.fromkeys(block for block, _ in variants))
    found.pop(Skip.__name__, None)
    chosen = [known_name(kind, found, f"block of {space.name}") for kind in kinds] or list(found)
    return [_middle(kind, list(found[kind])) for kind in dict.fromkeys(chosen)]


def _middle(kind: str, blocks: list[Block]) -> Block:
    legal = [block for block in blocks if _fits(block)]
    if not legal:
        raise SpaceError(
            f"{kind}: no variant of this block can be built at width {BASE_WIDTH}, where rates are found"
        )
    legal.sort(key=_parameters)
    return legal[len(legal) // 2]


def _fits(block: Block) -> bool:
    try:
        block.check(BASE_WIDTH)
    except NasError:
        return False
    return True


def _parameters(block: Block) -> int:
    return sum(map(prod, parameter_shapes(block, BASE_WIDTH).values()))
