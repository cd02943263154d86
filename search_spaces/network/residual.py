"""A sublayer as a module: `x + mixer(norm(x))`, with its decode state and its products at the layer's bits.

Where its norm stands, and what scales the sum, says the norm (`norms.base`).

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.base import Block, Mixed, State
from search_spaces.network.norms.base import Norm, Normalized
from search_spaces.network.options.reads_embedding import EmbeddingReader
from search_spaces.network.rows import asks_position, step_rows
from search_spaces.quantization.activations import RoundedActivations
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.decode_state import StateCodec
from search_spaces.quantization.packing import SCALE_SUFFIX


class Residual(Normalized):
    """One sublayer: `x + mixer(norm(x))`, with its state and products at the layer's bits."""

    def __init__(self, block: Block, d_model: int, bits: Bits, norm: Norm) -> None:
        super().__init__()
        self.block, self.bits = block, bits
        self.add_norm(norm, d_model, sublayer=True)
        self.mixer = block.build(d_model)
        self.codec = StateCodec(self.mixer.state_shapes, bits.state)
        self.activations: Callable[[], AbstractContextManager[object]] = (
            partial(RoundedActivations, bits.rounding) if bits.rounding else nullcontext
        )
        self._asks_position: bool | None = None

    def forward(
        self,
        x: Tensor,
        stored: State | None = None,
        position: int = 0,
        embedded: Embedded | None = None,
        onto: Tensor | None = None,
    ) -> Mixed:
        """x [B, T, D]; `stored` is the state in its stored form. The sum is made onto x, or what is given."""
        onto = x if onto is None else onto
        normed = self._read(x, embedded)
        if stored is None:
            with self.activations():
                mixed = self.mixer(normed)
            return Mixed(self._added(onto, mixed.y), None, mixed.loss, mixed.metrics)
        state = self.codec.read(stored, x.dtype)
        with self.activations():
            mixed = self.mixer(normed, state, position)
        kept = self.codec.write(mixed.state or {}, stored, position, x.shape[1])
        return Mixed(self._added(onto, mixed.y), kept, mixed.loss, mixed.metrics)

    def step(
        self,
        x: Tensor,
        stored: State,
        position: int | Tensor,
        embedded: Embedded | None = None,
        onto: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """x [B, D], one token; the position is one of all rows, or one of each [B]."""
        normed = self._read(x, embedded)
        if isinstance(position, Tensor) and position.ndim and len(position) == 1:
            position = position[0]  # nothing to map over
        if isinstance(position, Tensor) and position.ndim:
            if self._asks_position is None:
                self._asks_position = asks_position(self._mix_one, normed, stored)
            if self._asks_position:
                y, kept = step_rows(self._mix_one, normed, stored, position)
            else:
                y, kept = self._mix_one(normed, stored, 0)
        else:
            y, kept = self._mix_one(normed, stored, position)
        return self._added(x if onto is None else onto, y), kept

    def absorb(
        self, x: Tensor, stored: State, position: int | Tensor, embedded: Embedded | None = None
    ) -> State:
        """The state after one token x [B, D] whose output is not needed."""
        if not self.mixer.state_shapes:
            return stored
        if isinstance(position, Tensor) and position.ndim:
            return self.step(x, stored, position, embedded)[1]
        normed = self._read(x, embedded)
        state = self.codec.read(stored, x.dtype)
        with self.activations():
            state = self.mixer.absorb(normed, state, position)
        return self.codec.write(state, stored, position, 1)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Fill the norm and the mixer."""
        self.reset_norm()
        self.mixer.reset_parameters(dice)

    def init_state(self, batch: int, capacity: int) -> State:
        """An empty state in its stored form."""
        return self.codec.empty(self.mixer.init_state(batch, capacity))

    def grown(self, stored: State, capacity: int) -> State:
        """A stored state with more token slots; a ring buffer at its limit needs no more."""
        grown = dict(stored)
        for name, shape in self.mixer.state_shapes.items():
            if not shape.per_token:
                continue
            for key in (name, name + SCALE_SUFFIX):
                if key in stored:
                    more = max(0, shape.slots(capacity) - stored[key].shape[-2])
                    grown[key] = F.pad(stored[key], (0, 0, 0, more))
        return grown

    def _mix_one(self, normed: Tensor, stored: State, position: int | Tensor) -> tuple[Tensor, State]:
        """What the mixer puts out for one token [B, D] of all rows, and its state in the stored form."""
        state = self.codec.read(stored, normed.dtype)
        with self.activations():
            y, state = self.mixer.step(normed, state, position)
        return y, self.codec.write(state, stored, position, 1)

    def _read(self, x: Tensor, embedded: Embedded | None) -> Tensor:
        """What the mixer reads."""
        if embedded is None:
            return self.norm_rule.enter(x, self.norm_vectors)
        with self.activations():
            return embedded.reader(x, embedded.tokens, self.norm_vectors)

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        """The residual stream with what the mixer has put out."""
        rule = self.norm_rule
        return x + (y if rule.leaves_alone else rule.leave(y, self.norm_vectors))


class Embedded(NamedTuple):
    """The embeddings of the tokens that a sublayer reads, and how it reads them beside x."""

    reader: EmbeddingReader
    tokens: Tensor
