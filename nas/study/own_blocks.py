"""Blocks of a user's own: they keep what every block promises before anything is spent on them."""

from __future__ import annotations

from types import ModuleType

from nas.study.file_additions import additions
from search_spaces.block_contract import BrokenPromise, broken_promises
from search_spaces.blocks.base import Block, blocks
from search_spaces.language.own_kinds import kinds_in
from search_spaces.language.space import Space

LIBRARY = "search_spaces.blocks."
"""Where the blocks live that the project's own tests hold to their promises."""


def check_own_blocks(space: Space) -> None:
    """Hold the blocks of a space that are not the library's to the quick part of their contract.

    Raises:
        BrokenPromise: with the first promise that is broken, and how many others are.
    """
    for kind in own_kinds(space):
        if broken := broken_promises(kind, quick=True):
            rest = f" (and {len(broken) - 1} more of its promises)" if len(broken) > 1 else ""
            raise BrokenPromise(
                f"{broken[0]}{rest}; all of them: `nas blocks --check FILE.py:{kind.__name__}`"
            )


def own_kinds(space: Space) -> list[type[Block]]:
    """The kinds of blocks in any branch of a space that the library does not have, by name."""
    kinds = [kind for kind in kinds_in(space.root) if issubclass(kind, Block)]
    own = [kind for kind in kinds if not kind.__module__.startswith(LIBRARY)]
    return sorted(own, key=lambda kind: kind.__name__)


def blocks_in(source: str) -> list[type[Block]]:
    """The blocks that `FILE.py` defines, in the order of the file; of `FILE.py:NAME` this one.

    Raises:
        SpaceError: the file cannot be run, defines no block, or has no block of this name.
    """
    return list(additions(source, blocks, defined_in).values())


def defined_in(module: ModuleType) -> dict[str, type[Block]]:
    """The blocks of a file, also those that it does not register."""
    things = vars(module).items()
    kinds = {key: thing for key, thing in things if isinstance(thing, type) and issubclass(thing, Block)}
    return {key: kind for key, kind in kinds.items() if kind.__module__ == module.__name__}
