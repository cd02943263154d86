"""A layer as a module: its sublayers, with the modules of its options.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Mixed
from search_spaces.network.decode_state import LayerState
from search_spaces.network.decoder import OPTIONS, PLACES, Decoder, Layer
from search_spaces.network.options.adaptive_precision import PrecisionRouter
from search_spaces.network.options.early_exit import EarlyLeavers, Exit
from search_spaces.network.options.reads_embedding import EmbeddingReader
from search_spaces.network.options.routed_tokens import Router
from search_spaces.network.residual import Embedded, Residual
from search_spaces.network.shell import ShellModule


@dataclass(frozen=True)
class SideOutputs:
    """What a forward pass leaves beside its logits: auxiliary losses, and figures by path and name."""

    losses: list[Tensor] | None = None
    metrics: dict[str, Tensor] | None = None

    def record(self, path: str, loss: Tensor | None, metrics: Mapping[str, Tensor] | None) -> None:
        """Keep those that the caller of the pass asked for."""
        if self.losses is not None and loss is not None:
            self.losses.append(loss)
        if self.metrics is not None and metrics is not None:
            self.metrics.update({f"{path}.{name}": value for name, value in metrics.items()})


class Parts:
    """How sublayers and the head are computed where whole sequences are read without states: as they are.

    Whoever computes them otherwise (compiled, say) gives a model parts of its own (`Model.forward`).
    """

    def sublayer(
        self, sublayer: Residual, x: Tensor, embedded: Embedded | None = None, onto: Tensor | None = None
    ) -> Mixed:
        """A sublayer on x [B, T, D], its parameters those that the module holds at the moment.

        The sum is made onto x, or what is given.
        """
        given = {"embedded": embedded, "onto": onto}
        return sublayer(x, **{name: value for name, value in given.items() if value is not None})

    def head(self, shell: ShellModule, x: Tensor) -> Tensor:
        """What the pass returns, made of the last x [B, T, D]: logits [B, T, V]."""
        return shell.logits(x)


class LastToken(Parts):
    """Only the logits of the last token are made."""

    def head(self, shell: ShellModule, x: Tensor) -> Tensor:
        """Logits [B, 1, V]."""
        return shell.logits(x[:, -1:])


AS_THEY_ARE, LAST_TOKEN = Parts(), LastToken()


@dataclass(frozen=True)
class PassContext:
    """How a layer is read: where its tokens start, and which of them have left the network [B, T].

    `embedding` is that of the same tokens [B, T, D], where some layer reads it.
    """

    path: str
    side: SideOutputs
    position: int = 0
    left: Tensor | None = None
    embedding: Tensor | None = None
    parts: Parts = AS_THEY_ARE


@dataclass
class Through:
    """What a pass through the layers leaves: x [B, T, D], the states, and what exits have predicted."""

    x: Tensor
    kept: list[LayerState] = field(default_factory=list)
    early: EarlyLeavers = field(default_factory=EarlyLeavers)
    exits: list[tuple[Exit, Tensor]] = field(default_factory=list)


Made: TypeAlias = Callable[[str], Residual]
"""Gives the sublayer of a place of a layer."""


def made_anew(spec: Decoder, layer: Layer, place: str) -> Residual:
    """The sublayer of a layer of `spec` at a place."""
    return Residual(layer.blocks[place], spec.d_model, layer.bits_at(place), layer.norm_in(spec.norm))


class DecoderLayer(nn.Module):
    """The residual sublayers of one layer, and the modules of its options by field (None: it has none)."""

    routing: Router | None
    exit: Exit | None
    reads_embedding: EmbeddingReader | None
    precision: PrecisionRouter | None
    side_by_side: bool

    def __init__(self, layer: Layer, spec: Decoder, made: Made | None = None) -> None:
        super().__init__()
        self.side_by_side = layer.parallel
        self.sublayers: dict[str, Residual] = {}
        for place in layer.blocks:
            sublayer = made_anew(spec, layer, place) if made is None else made(place)
            self.sublayers[place] = sublayer
            self.add_module(place, sublayer)
        for name in OPTIONS:
            present = layer.options.get(name)
            setattr(self, name, None if present is None else present.build(spec.shell))

    def forward(
        self, x: Tensor, stored: LayerState | None, context: PassContext
    ) -> tuple[Tensor, LayerState]:
        """x [B, T, D] and the states after its last token; no states come back where none were given."""
        kept: LayerState = {}
        read = x
        for place, sublayer in self.sublayers.items():
            beside = self._embedded(place, context.embedding)
            read, onto = (read, x) if self.side_by_side and kept else (x, None)
            if stored:
                compute = partial(sublayer, read, stored[place], context.position, beside, onto)
            else:
                compute = partial(context.parts.sublayer, sublayer, read, beside, onto)
            if self.precision is None or place == PLACES[0]:
                mixed = compute()
            else:
                mixed = self.precision.mixed(read, compute, sublayer)
            x = mixed.y if context.left is None else torch.where(context.left[..., None], x, mixed.y)
            kept[place] = mixed.state or {}
            context.side.record(f"{context.path}.{place}", mixed.loss, mixed.metrics)
        return x, kept

    def step(
        self, x: Tensor, stored: LayerState, position: int | Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """x [B, D], one token, and its embedding where some layer reads it."""
        kept: LayerState = {}
        read = x
        for place, sublayer in self.sublayers.items():
            beside = self._embedded(place, embedding)
            read, onto = (read, x) if self.side_by_side and kept else (x, None)
            compute = partial(sublayer.step, read, stored[place], position, beside, onto)
            if self.precision is None or place == PLACES[0]:
                x, kept[place] = compute()
            else:
                x, kept[place] = self.precision.stepped(read, compute, sublayer)
        return x, kept

    def absorb(
        self, x: Tensor, stored: LayerState, position: int | Tensor, embedding: Tensor | None = None
    ) -> LayerState:
        """The states after one token x [B, D] that has left the network: its output is not needed."""
        return {
            place: sublayer.absorb(x, stored[place], position, self._embedded(place, embedding))
            for place, sublayer in self.sublayers.items()
        }

    def init_state(self, batch: int, capacity: int) -> LayerState:
        """Empty states in their stored form."""
        return {place: sublayer.init_state(batch, capacity) for place, sublayer in self.sublayers.items()}

    def grown(self, stored: LayerState, capacity: int) -> LayerState:
        """The same states with more token slots."""
        return stored | {p: sublayer.grown(stored[p], capacity) for p, sublayer in self.sublayers.items()}

    def _embedded(self, place: str, embedding: Tensor | None) -> Embedded | None:
        """What the sublayer that reads the embedding reads; nothing for all others."""
        if embedding is None or place != "sequence_mixer" or self.reads_embedding is None:
            return None
        return Embedded(self.reads_embedding, embedding)
