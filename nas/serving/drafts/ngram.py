"""N-gram: what followed the last time that the text had its latest tokens.

Saxena 2023, prompt lookup decoding; Yang et al. 2023, arXiv:2304.04487. It costs nothing, and is right where
a text repeats itself or its prompt: code, summaries, tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from foundation.settings import setting
from nas.serving.drafts.base import Begin, Draft, Pick, drafts
from search_spaces.network.model import Model


@drafts.add
@dataclass(frozen=True, kw_only=True)
class NGram(Draft):
    """The tokens that followed an earlier place which ends in the same tokens, the longest first."""

    name: ClassVar[str] = "ngram"

    longest: int = setting(4, help="Latest tokens that are looked for, at most.", least=1, most=32)
    shortest: int = setting(2, help="Fewer than these are not looked for.", least=1, most=32)

    def begun(self, network: Model) -> Begin:
        """An empty memory for each text."""
        return lambda: Lookup(max(self.longest, self.shortest), self.shortest)

    @classmethod
    def choices(cls, network: Model) -> Sequence[Draft]:
        """Looked for from three tokens on, from two, and from one."""
        return tuple(cls(shortest=shortest) for shortest in (1, 2, 3))


@dataclass
class Lookup:
    """Where each run of tokens of one text ended the last time."""

    longest: int
    shortest: int
    _ends: dict[tuple[int, ...], int] = field(default_factory=dict)
    _known: int = 0

    def propose(self, text: Sequence[int], count: int, pick: Pick) -> list[int]:
        """As `Proposer.propose`."""
        for end in range(self._known + 1, len(text)):  # not the latest tokens themselves
            for size in range(self.shortest, min(self.longest, end) + 1):
                self._ends[tuple(text[end - size : end])] = end
        self._known = max(self._known, len(text) - 1)
        for size in range(min(self.longest, len(text)), self.shortest - 1, -1):
            found = self._ends.get(tuple(text[len(text) - size :]))
            if found is not None:
                return list(text[found : found + count])
        return []
