"""A kind of sublayer whose mixers stand side by side: each is of a kind by itself; outputs are added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.blocks.base import Block
from search_spaces.blocks.parallel import Parallel, name_of
from search_spaces.families.base import Kind
from search_spaces.families.config import Config
from search_spaces.families.keys import Key
from search_spaces.families.tensors import Inner, Rule


@dataclass(frozen=True)
class SideBySide(Kind):
    """The kind of a `Parallel`: `kinds` are those of its mixers, in their order. See `side_by_side`."""

    kinds: tuple[Kind, ...] = ()

    def fits(self, block: Block | None) -> bool:
        """Whether every mixer is of its kind."""
        return (
            isinstance(block, Parallel)
            and not block.normed
            and len(block.mixers) == len(self.kinds)
            and all(kind.fits(mixer) for kind, mixer in zip(self.kinds, block.mixers, strict=True))
        )

    def read(self, config: Config) -> Block:
        """All mixers that a configuration means."""
        return Parallel(mixers=tuple(kind.read(config) for kind in self.kinds))

    def entries(self, block: Block, where: str) -> Iterator[tuple[Sequence[Key], Mapping[str, Any], str]]:
        """Those of all mixers."""
        assert isinstance(block, Parallel)
        for index, (kind, mixer) in enumerate(zip(self.kinds, block.mixers, strict=True)):
            yield from kind.entries(mixer, f"{where}.mixers.{index}")


def side_by_side(*kinds: Kind, rules: Sequence[Rule]) -> SideBySide:
    """The kind of mixers of these kinds; `rules` are those of the norm that they have together."""
    inner = [
        Inner(rule, f"mixers.{name_of(index, kind.block())}.")
        for index, kind in enumerate(kinds)
        for rule in kind.rules
    ]
    return SideBySide(Parallel, (), (*rules, *inner), kinds=kinds)
