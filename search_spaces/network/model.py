"""The language model that a closed `Decoder` builds: a plain `nn.Module`, no search code in it.

    model = build(spec, seed=0)
    logits = model(tokens)                       # [B, T] -> [B, T, V], for training
    logits, state = model.prefill(tokens)        # read a prompt
    logits, state = model.step(token, state)     # [B] -> [B, V], one more token

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import SettingError
from search_spaces.blocks.base import Block, Mixed, State
from search_spaces.network.adaptive_depth import Early, Exit, Router
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.embedding_reader import EmbeddingReader
from search_spaces.quantization.activations import RoundedActivations
from search_spaces.quantization.bits import SCALE_SUFFIX, Bits, StateCodec

ROOM = 64
"""Tokens of free space in a fresh decode state; it doubles when it runs out."""


@dataclass(frozen=True)
class DecodeState:
    """What decode carries between tokens, for all layers; `position` tokens have been read.

    A state is consumed by the call that it is given to: use the one that comes back. For `step` alone the
    position may be a 0-dim tensor on the device: then nothing depends on its value but what is computed (so
    a step can be compiled or captured once), and the caller sees to it that the capacity suffices.
    """

    layers: tuple[LayerState, ...]
    position: int | Tensor
    capacity: int


class Residual(nn.Module):
    """One half of a layer: `x + mixer(norm(x))`, with its state and products at the layer's bits."""

    def __init__(self, block: Block, d_model: int, bits: Bits) -> None:
        super().__init__()
        self.block = block
        self.norm = nn.Parameter(torch.empty(d_model))
        self.mixer = block.build(d_model)
        self.codec = StateCodec(self.mixer.state_shapes, bits.state)
        self.activations: Callable[[], AbstractContextManager[object]] = (
            partial(RoundedActivations, bits.rounding) if bits.rounding else nullcontext
        )

    def forward(
        self, x: Tensor, stored: State | None = None, position: int = 0, embedded: Embedded | None = None
    ) -> Mixed:
        """x [B, T, D]; `stored` is the state in its stored form."""
        normed = self._normed(x, embedded)
        if stored is None:
            with self.activations():
                mixed = self.mixer(normed)
            return Mixed(x + mixed.y, None, mixed.loss, mixed.metrics)
        state = self.codec.read(stored, x.dtype)
        with self.activations():
            mixed = self.mixer(normed, state, position)
        kept = self.codec.write(mixed.state or {}, stored, position, x.shape[1])
        return Mixed(x + mixed.y, kept, mixed.loss, mixed.metrics)

    def step(
        self, x: Tensor, stored: State, position: int | Tensor, embedded: Embedded | None = None
    ) -> tuple[Tensor, State]:
        """x [B, D], one token."""
        normed = self._normed(x, embedded)
        state = self.codec.read(stored, x.dtype)
        with self.activations():
            y, state = self.mixer.step(normed, state, position)
        return x + y, self.codec.write(state, stored, position, 1)

    def absorb(
        self, x: Tensor, stored: State, position: int | Tensor, embedded: Embedded | None = None
    ) -> State:
        """The state after one token x [B, D] whose output nobody wants."""
        if not self.mixer.state_shapes:
            return stored
        normed = self._normed(x, embedded)
        state = self.codec.read(stored, x.dtype)
        with self.activations():
            state = self.mixer.absorb(normed, state, position)
        return self.codec.write(state, stored, position, 1)

    def init_state(self, batch: int, capacity: int) -> State:
        """An empty state in its stored form."""
        return self.codec.empty(self.mixer.init_state(batch, capacity))

    def _normed(self, x: Tensor, embedded: Embedded | None) -> Tensor:
        """What the mixer reads."""
        if embedded is None:
            return F.rms_norm(x, self.norm.shape, self.norm, 1e-6)
        with self.activations():
            return embedded.reader(x, embedded.tokens, self.norm)


class Embedded(NamedTuple):
    """The embeddings of the tokens that a half reads, and how it reads them beside x."""

    reader: EmbeddingReader
    tokens: Tensor


@dataclass(frozen=True)
class Aside:
    """What a forward pass leaves beside its logits: auxiliary losses, and figures by path and name."""

    losses: list[Tensor] | None = None
    metrics: dict[str, Tensor] | None = None

    def note(self, path: str, loss: Tensor | None, metrics: Mapping[str, Tensor] | None) -> None:
        """Keep what somebody asked for."""
        if self.losses is not None and loss is not None:
            self.losses.append(loss)
        if self.metrics is not None and metrics is not None:
            self.metrics.update({f"{path}.{name}": value for name, value in metrics.items()})


@dataclass(frozen=True)
class Reading:
    """How a layer is read: where its tokens start, and which of them have left the network [B, T].

    `embedding` is that of the same tokens [B, T, D], where some layer reads it.
    """

    path: str
    aside: Aside
    position: int = 0
    left: Tensor | None = None
    embedding: Tensor | None = None


LayerState: TypeAlias = dict[str, State]
"""The stored states of one layer by place; under `routing` the tokens that each row has let pass."""


class DecoderLayer(nn.Module):
    """The residual halves of one layer, with its router and its exit where it has them."""

    def __init__(self, layer: Layer, spec: Decoder) -> None:
        super().__init__()
        self.halves = {p: Residual(block, spec.d_model, layer.bits) for p, block in layer.blocks.items()}
        for place, half in self.halves.items():
            self.add_module(place, half)
        self.routing = Router(layer.routing, spec.d_model) if layer.routing else None
        self.exit = Exit(layer.exit, spec.d_model, spec.vocab) if layer.exit else None
        self.reads_embedding = EmbeddingReader(spec.d_model) if layer.reads_embedding else None

    def forward(self, x: Tensor, stored: LayerState | None, how: Reading) -> tuple[Tensor, LayerState]:
        """x [B, T, D] and the states after its last token; no states come back where none were given."""
        if self.routing is None:
            return self._pass(x, stored, how)
        scores = self.routing(x)
        if self.routing.training and torch.is_grad_enabled():
            return self._pass_best(x, scores, stored, how), {}
        y, kept = self._pass_rows(x, scores, stored, how)
        how.aside.note(how.path, None, {"routing.share": (scores > 0).float().mean()})
        return y if how.left is None else torch.where(how.left[..., None], x, y), kept

    def step(
        self, x: Tensor, stored: LayerState, position: int | Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """x [B, D], one token, and its embedding where some layer reads it."""
        if self.routing is not None:
            how = Reading("", Aside(), embedding=None if embedding is None else embedding[:, None])
            y, kept = self._pass_rows(x[:, None], self.routing(x[:, None]), stored, how)
            return y[:, 0], kept
        kept = {}
        for place, half in self.halves.items():
            x, kept[place] = half.step(x, stored[place], position, *self._embedded(place, embedding))
        return x, kept

    def absorb(
        self, x: Tensor, stored: LayerState, position: int | Tensor, embedding: Tensor | None = None
    ) -> LayerState:
        """The states after one token x [B, D] that has left the network: nobody wants its output."""
        if self.routing is not None:
            return self.step(x, stored, position, embedding)[1]
        return {
            place: half.absorb(x, stored[place], position, *self._embedded(place, embedding))
            for place, half in self.halves.items()
        }

    def init_state(self, batch: int, capacity: int) -> LayerState:
        """Empty states in their stored form."""
        if self.routing is not None:
            capacity = self.routing.spec.tokens(capacity)
        state = {place: half.init_state(batch, capacity) for place, half in self.halves.items()}
        if self.routing is not None:
            like = self.routing.weight
            state["routing"] = {"count": torch.zeros(batch, dtype=torch.long, device=like.device)}
        return state

    def grown(self, stored: LayerState, capacity: int) -> LayerState:
        """The same states with more token slots; behind a router they grow by themselves."""
        return stored if self.routing is not None else self._grown(stored, capacity)

    def _grown(self, stored: LayerState, capacity: int) -> LayerState:
        return stored | {p: _grown(half, stored[p], capacity) for p, half in self.halves.items()}

    def _embedded(self, place: str, embedding: Tensor | None) -> tuple[Embedded, ...]:
        """A further argument for the half that reads the embedding; none for all others."""
        if embedding is None or place != "sequence_mixer" or self.reads_embedding is None:
            return ()
        return (Embedded(self.reads_embedding, embedding),)

    def _pass(self, x: Tensor, stored: LayerState | None, how: Reading) -> tuple[Tensor, LayerState]:
        kept: LayerState = {}
        for place, half in self.halves.items():
            given = stored[place] if stored else None
            mixed = half(x, given, how.position, *self._embedded(place, how.embedding))
            x = mixed.y if how.left is None else torch.where(how.left[..., None], x, mixed.y)
            kept[place] = mixed.state or {}
            how.aside.note(f"{how.path}.{place}", mixed.loss, mixed.metrics)
        return x, kept

    def _pass_best(self, x: Tensor, scores: Tensor, stored: LayerState | None, how: Reading) -> Tensor:
        """While learning: the best tokens of each sequence pass together."""
        assert self.routing is not None
        if stored:
            raise SettingError("a layer with a router learns from whole sequences, not from pieces")
        best = self.routing.best(scores)
        index = best[..., None].expand(-1, -1, x.shape[-1])
        chosen = x.gather(1, index)
        embedding = None if how.embedding is None else how.embedding.gather(1, index)
        y, _ = self._pass(chosen, None, replace(how, position=0, embedding=embedding))
        gate = scores.gather(1, best).sigmoid()[..., None]
        how.aside.note(
            how.path, self.routing.loss(scores, best), {"routing.share": (scores > 0).float().mean()}
        )
        return x.scatter_add(1, index, gate * (y - chosen))

    def _pass_rows(
        self, x: Tensor, scores: Tensor, stored: LayerState | None, how: Reading
    ) -> tuple[Tensor, LayerState]:
        """At inference: each row of the batch by itself, because each has its own tokens and positions."""
        passing = scores > 0
        counts = stored["routing"]["count"] if stored else torch.zeros_like(passing[:, 0], dtype=torch.long)
        after = counts + passing.sum(1)
        if stored:
            stored = self._grown(stored, _rounded(int(after.max())))
        rows, states = [], []
        for row, position in enumerate(counts.tolist()):
            here = slice(row, row + 1)
            own = {p: {n: t[here] for n, t in stored[p].items()} for p in self.halves} if stored else None
            index = passing[row].nonzero()[:, 0]
            y, kept = x[here], own or {}
            if len(index):
                chosen = x[here, index]
                own_how = Reading(
                    "",
                    Aside(),
                    position,
                    embedding=None if how.embedding is None else how.embedding[here, index],
                )
                z, kept = self._pass(chosen, own, own_how)
                gate = scores[here, index].sigmoid()[..., None]
                y = y.index_add(1, index, gate * (z - chosen))
            rows.append(y)
            states.append(kept)
        if not stored:
            return torch.cat(rows), {}
        joined = {p: {n: torch.cat([s[p][n] for s in states]) for n in states[0][p]} for p in self.halves}
        return torch.cat(rows), joined | {"routing": {"count": after}}


class Model(nn.Module):
    """A decoder-only language model with tied embeddings."""

    def __init__(self, spec: Decoder) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Parameter(torch.empty(spec.vocab, spec.d_model))
        self.layers = nn.ModuleList(_layers(spec))
        self.norm = nn.Parameter(torch.empty(spec.d_model))

    def forward(
        self,
        tokens: Tensor,
        losses: list[Tensor] | None = None,
        segment: int | None = None,
        metrics: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of tokens [B, T].

        Auxiliary losses of the blocks are appended to `losses`, and their figures put into `metrics` by path
        and name (dropped tokens, the load of experts, who passes a router or leaves). With a `segment`, the
        sequence is read in pieces of that many tokens that hand over their decode state, so that its bits
        take effect.
        """
        aside = Aside(losses, metrics)
        if segment is None:
            return self._read(tokens, None, aside)[0]
        state, logits = self.init_state(tokens.shape[0], tokens.shape[1]), []
        for piece in tokens.split(segment, dim=1):
            piece_logits, state = self._read(piece, state, aside)
            logits.append(piece_logits)
        return torch.cat(logits, dim=1)

    def prefill(
        self, tokens: Tensor, state: DecodeState | None = None, capacity: int | None = None
    ) -> tuple[Tensor, DecodeState]:
        """Read tokens [B, T], after those in `state` if given: logits [B, T, V] and the new state."""
        if tokens.shape[1] < 1:
            raise SettingError("prefill needs at least one token")
        if state is None:
            state = self.init_state(tokens.shape[0], capacity or tokens.shape[1] + ROOM)
        if not isinstance(state.position, int):
            raise SettingError("prefill goes on from a position that is a number, not from a tensor")
        state = self._with_room(state, tokens.shape[1])
        return self._read(tokens, state, Aside())

    def step(self, token: Tensor, state: DecodeState) -> tuple[Tensor, DecodeState]:
        """Read one token [B]: logits [B, V] for the next one, and the new state."""
        if isinstance(state.position, int):
            state = self._with_room(state, 1)
        x, kept, early = self._embed(token), [], Early()
        embedding = self._kept(x)
        for layer, stored in zip(self.decoder_layers, state.layers, strict=True):
            if early.all_left:
                kept.append(layer.absorb(x, stored, state.position, embedding))
                continue
            y, after = layer.step(x, stored, state.position, embedding)
            x = y if early.left is None else torch.where(early.left[..., None], x, y)
            kept.append(after)
            if layer.exit is not None:
                early.watch(layer.exit, layer.exit(x))
        logits = early.merged(None if early.all_left else self._logits(x))
        return logits, DecodeState(tuple(kept), state.position + 1, state.capacity)

    def init_state(self, batch: int, capacity: int) -> DecodeState:
        """An empty decode state with room for `capacity` tokens."""
        layers = tuple(layer.init_state(batch, capacity) for layer in self.decoder_layers)
        return DecodeState(layers, 0, capacity)

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        new_tokens: int,
        *,
        temperature: float = 0.0,
        dice: torch.Generator | None = None,
    ) -> Tensor:
        """Continue tokens [B, T] by `new_tokens`, greedily or at a temperature: [B, new_tokens]."""
        logits, state = self.prefill(tokens, capacity=tokens.shape[1] + new_tokens)
        logits, written = logits[:, -1], []
        for _ in range(new_tokens):
            if temperature > 0:
                token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=dice)[:, 0]
            else:
                token = logits.argmax(-1)
            written.append(token)
            if len(written) < new_tokens:
                logits, state = self.step(token, state)
        return torch.stack(written, dim=1)

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The layers, in their order; one that shares its weights comes as often as it is read."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def learning_rates(self) -> dict[str, float]:
        """The proxy training rate of every parameter: its block's own, and a common one elsewhere."""
        rates = dict.fromkeys((name for name, _ in self.named_parameters()), Block.learning_rate)
        for path, module in self.named_modules():
            if isinstance(module, Residual):
                rates |= {
                    f"{path}.{name}": module.block.learning_rate for name, _ in module.named_parameters()
                }
        return rates

    def reset_parameters(self, seed: int) -> None:
        """Fill every parameter; a place starts alike, whatever stands elsewhere in the network."""
        dice = dice_at(seed, "embedding", self.embedding.device)
        with torch.no_grad():
            self.embedding.normal_(std=self.spec.d_model**-0.5, generator=dice)
            self.norm.fill_(1.0)
        for path, module in self.named_modules():
            with torch.no_grad():
                if isinstance(module, Residual):
                    module.norm.fill_(1.0)
                    module.mixer.reset_parameters(dice_at(seed, path, module.norm.device))
                elif isinstance(module, (Router, Exit, EmbeddingReader)):
                    module.reset_parameters(dice_at(seed, path, self.norm.device))

    def _read(self, tokens: Tensor, state: DecodeState | None, aside: Aside) -> tuple[Tensor, DecodeState]:
        x, kept, early = self._embed(tokens), [], Early()
        position, learning = int(state.position) if state else 0, self.training and torch.is_grad_enabled()
        exits, embedding = [], self._kept(x)
        for i, layer in enumerate(self.decoder_layers):
            how = Reading(f"layers.{i}", aside, position, early.left, embedding)
            x, after = layer(x, state.layers[i] if state else None, how)
            kept.append(after)
            if layer.exit is None:
                continue
            logits = layer.exit(x)
            if learning:
                exits.append((layer.exit, logits))
            else:
                share = early.watch(layer.exit, logits)
                aside.note(how.path, None, {"exit.share": share})
        final = self._logits(x)
        for exit, logits in exits if aside.losses is not None else []:
            aside.note("", exit.loss(logits, final), None)
        capacity = state.capacity if state else 0
        after_all = DecodeState(tuple(kept), position + tokens.shape[1], capacity)
        return early.merged(final), after_all

    def _embed(self, tokens: Tensor) -> Tensor:
        # rows have norm one, so that tied logits start small; the residual stream starts at scale one
        return F.embedding(tokens, self.embedding) * self.spec.d_model**0.5

    def _kept(self, embedding: Tensor) -> Tensor | None:
        """The embedding, where some layer reads it later; otherwise its memory can go."""
        return embedding if any(layer.reads_embedding for layer in self.spec.layers) else None

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(F.rms_norm(x, self.norm.shape, self.norm, 1e-6), self.embedding)

    def _with_room(self, state: DecodeState, count: int) -> DecodeState:
        needed = int(state.position) + count
        if needed <= state.capacity:
            return state
        capacity = max(needed, 2 * state.capacity)
        layers = tuple(
            layer.grown(stored, capacity)
            for layer, stored in zip(self.decoder_layers, state.layers, strict=True)
        )
        return DecodeState(layers, state.position, capacity)


def build(spec: Decoder, *, seed: int = 0, device: str | torch.device = "cpu") -> Model:
    """The model of a closed configuration; parameters are filled unless the device is meta.

    Raises:
        IllegalArchitecture: the configuration cannot be built.
    """
    spec.check()
    with torch.device(device):
        model = Model(spec)
    if torch.device(device).type != "meta":
        model.reset_parameters(seed)
    return model


def _layers(spec: Decoder) -> Iterator[DecoderLayer]:
    """One module per layer; layers that share their weights are one module."""
    shared: dict[str, DecoderLayer] = {}
    for layer in spec.layers:
        module = shared.get(layer.shared or "") or DecoderLayer(layer, spec)
        if layer.shared is not None:
            shared[layer.shared] = module
        yield module


def _rounded(count: int) -> int:
    """Room for `count` tokens, in steps, so that a growing state is copied seldom."""
    return ROOM * -(-count // ROOM)


def _grown(half: Residual, stored: State, capacity: int) -> State:
    """A stored state with more token slots; a ring buffer at its limit has all it will ever need."""
    grown = dict(stored)
    for name, shape in half.mixer.state_shapes.items():
        if not shape.per_token:
            continue
        for key in (name, name + SCALE_SUFFIX):
            if key in stored:
                more = max(0, shape.slots(capacity) - stored[key].shape[-2])
                grown[key] = F.pad(stored[key], (0, 0, 0, more))
    return grown


def dice_at(seed: int, path: str, device: torch.device) -> torch.Generator:
    """Chance for one place: the same wherever else the network differs."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
