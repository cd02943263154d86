"""What decode carries between tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from search_spaces.blocks.base import State

ROOM = 64
"""Tokens of free space in a fresh decode state; it doubles when it is full."""

LayerState: TypeAlias = dict[str, State]
"""The stored states of one layer by place; under `routing` how many tokens of each row have passed."""


@dataclass(frozen=True)
class DecodeState:
    """What decode carries between tokens, for all layers; `position` tokens have been read.

    Position and capacity count tokens of the text: the virtual ones of a soft prompt have room beside them.

    A state is consumed by the call that it is given to: use the one that comes back. For `step` alone the
    position may be a 0-dim tensor on the device: then nothing depends on its value but what is computed (so
    a step can be compiled or captured once), and the caller ensures that the capacity suffices. A tensor [B]
    is a position for each row.
    """

    layers: tuple[LayerState, ...]
    position: int | Tensor
    capacity: int

    def keep(self, index: int, after: LayerState) -> LayerState:
        """What the next state holds of layer `index` after a step; who stores it elsewhere does so here."""
        return after


def in_steps(count: int) -> int:
    """Room for `count` tokens, in steps, so that a growing state is seldom copied."""
    return ROOM * -(-count // ROOM)


def repeated(stored: LayerState, batch: int) -> LayerState:
    """The states of one row, for so many rows of their own."""
    return {
        place: {name: part.expand(batch, *part.shape[1:]).clone() for name, part in parts.items()}
        for place, parts in stored.items()
    }
