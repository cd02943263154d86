"""What prompts begin with together is read once (RadixAttention; Zheng et al. 2023, arXiv:2312.07104, 3).

What is kept is a snapshot of the whole decode state, because a recurrent state cannot be cut back to an
earlier token. It is taken where a prompt parts from an earlier one (Pan et al. 2024, arXiv:2411.19379,
section 4.1): the first two prompts with a common beginning read it, all later ones copy its state. The
snapshots that were used least lately give way where memory ends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TypeAlias

from search_spaces.network.decode_state import DecodeState

LEAST = 8
"""Tokens of the shortest beginning that is worth a snapshot."""

REMEMBERED = 256
"""Prompts that a new one is compared with."""


Key: TypeAlias = tuple[str | None, tuple[int, ...]]
"""Who has read (the name of an adapter, if one), and what."""


class Prefixes:
    """Snapshots of states by the tokens that they have read, in at most `memory` bytes."""

    def __init__(self, memory: int) -> None:
        self.memory, self.held = memory, 0
        self._snapshots: OrderedDict[Key, DecodeState] = OrderedDict()
        self._prompts: deque[Key] = deque(maxlen=REMEMBERED if memory else 0)

    def longest(self, tokens: Sequence[int], reader: str | None = None) -> DecodeState | None:
        """A copy of the state after the longest known beginning that leaves at least one token to read."""
        tokens = tuple(tokens)
        known = [
            (who, key)
            for who, key in self._snapshots
            if who == reader and len(key) < len(tokens) and tokens[: len(key)] == key
        ]
        if not known:
            return None
        best = max(known, key=lambda key: len(key[1]))
        self._snapshots.move_to_end(best)
        return copied(self._snapshots[best])

    def parting(self, tokens: Sequence[int], reader: str | None = None) -> int:
        """Where a prompt parts from those before, which it joins: 0 where it shares too few tokens."""
        tokens = tuple(tokens)
        same = (earlier for who, earlier in self._prompts if who == reader)
        shared = max((_common(tokens, earlier) for earlier in same), default=0)
        self._prompts.append((reader, tokens))
        shared = min(shared, len(tokens) - 1)
        return shared if shared >= LEAST else 0

    def keep(self, tokens: Sequence[int], state: DecodeState, reader: str | None = None) -> None:
        """Remember the state after these tokens, if it fits."""
        key, size = (reader, tuple(tokens)), _bytes(state)
        if key in self._snapshots or size > self.memory:
            return
        while self.held + size > self.memory:
            _, oldest = self._snapshots.popitem(last=False)
            self.held -= _bytes(oldest)
        self._snapshots[key] = copied(state)
        self.held += size


def copied(state: DecodeState) -> DecodeState:
    """A state that may be consumed while the other is kept."""
    layers = tuple(
        {place: {name: part.clone() for name, part in parts.items()} for place, parts in layer.items()}
        for layer in state.layers
    )
    return DecodeState(layers, state.position, state.capacity)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens two prompts begin with together; halved, because whole pieces compare fast."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def _bytes(state: DecodeState) -> int:
    return sum(part.nbytes for layer in state.layers for parts in layer.values() for part in parts.values())
