"""The language model that a closed `Decoder` builds: a plain `nn.Module`, no search code in it.

    model = build(spec, seed=0)
    logits = model(tokens)                       # [B, T] -> [B, T, V], for training
    logits, state = model.prefill(tokens)        # read a prompt
    logits, state = model.step(token, state)     # [B] -> [B, V], one more token

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.bits import SCALE_SUFFIX, StateCodec
from search_spaces.blocks.base import Block, Mixed, State
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import SettingError

ROOM = 64
"""Tokens of free space in a fresh decode state; it doubles when it runs out."""


@dataclass(frozen=True)
class DecodeState:
    """What decode carries between tokens, for all layers; `position` tokens have been read.

    A state is consumed by the call that it is given to: use the one that comes back.
    """

    layers: tuple[dict[str, State], ...]
    position: int
    capacity: int


class Residual(nn.Module):
    """One half of a layer: `x + mixer(norm(x))`, with its decode state kept at the layer's bits."""

    def __init__(self, block: Block, d_model: int, state_bits: int) -> None:
        super().__init__()
        self.block = block
        self.norm = nn.Parameter(torch.empty(d_model))
        self.mixer = block.build(d_model)
        self.codec = StateCodec(self.mixer.state_shapes, state_bits)

    def forward(self, x: Tensor, stored: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]; `stored` is the state in its stored form."""
        normed = F.rms_norm(x, self.norm.shape, self.norm, 1e-6)
        if stored is None:
            mixed = self.mixer(normed)
            return Mixed(x + mixed.y, None, mixed.loss)
        mixed = self.mixer(normed, self.codec.read(stored, x.dtype), position)
        kept = self.codec.write(mixed.state or {}, stored, position, x.shape[1])
        return Mixed(x + mixed.y, kept, mixed.loss)

    def step(self, x: Tensor, stored: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D], one token."""
        normed = F.rms_norm(x, self.norm.shape, self.norm, 1e-6)
        y, state = self.mixer.step(normed, self.codec.read(stored, x.dtype), position)
        return x + y, self.codec.write(state, stored, position, 1)

    def init_state(self, batch: int, capacity: int) -> State:
        """An empty state in its stored form."""
        return self.codec.empty(self.mixer.init_state(batch, capacity))


class DecoderLayer(nn.ModuleDict):
    """The residual halves of one layer, by place: `sequence_mixer` and, if any, `channel_mixer`."""

    def __init__(self, layer: Layer, d_model: int) -> None:
        super().__init__(
            {place: Residual(block, d_model, layer.bits.state) for place, block in layer.blocks.items()}
        )

    @property
    def halves(self) -> dict[str, Residual]:
        """The halves, in their order."""
        return {place: half for place, half in self.items() if isinstance(half, Residual)}


class Model(nn.Module):
    """A decoder-only language model with tied embeddings."""

    def __init__(self, spec: Decoder) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Parameter(torch.empty(spec.vocab, spec.d_model))
        self.layers = nn.ModuleList(DecoderLayer(layer, spec.d_model) for layer in spec.layers)
        self.norm = nn.Parameter(torch.empty(spec.d_model))
        self._halves = [layer.halves for layer in self.layers if isinstance(layer, DecoderLayer)]

    def forward(
        self, tokens: Tensor, losses: list[Tensor] | None = None, segment: int | None = None
    ) -> Tensor:
        """Logits [B, T, V] of tokens [B, T].

        Auxiliary losses of the blocks are appended to `losses`. With a `segment`, the sequence is read in
        pieces of that many tokens that hand over their decode state, so that its bits take effect.
        """
        if segment is None:
            return self._read(tokens, None, losses)[0]
        state, logits = self.init_state(tokens.shape[0], tokens.shape[1]), []
        for piece in tokens.split(segment, dim=1):
            piece_logits, state = self._read(piece, state, losses)
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
        state = self._with_room(state, tokens.shape[1])
        return self._read(tokens, state, None)

    def step(self, token: Tensor, state: DecodeState) -> tuple[Tensor, DecodeState]:
        """Read one token [B]: logits [B, V] for the next one, and the new state."""
        state = self._with_room(state, 1)
        x, kept = self._embed(token), []
        for halves, stored in zip(self._halves, state.layers, strict=True):
            after = {}
            for place, half in halves.items():
                x, after[place] = half.step(x, stored[place], state.position)
            kept.append(after)
        return self._logits(x), DecodeState(tuple(kept), state.position + 1, state.capacity)

    def init_state(self, batch: int, capacity: int) -> DecodeState:
        """An empty decode state with room for `capacity` tokens."""
        layers = tuple(
            {place: half.init_state(batch, capacity) for place, half in halves.items()}
            for halves in self._halves
        )
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
            if isinstance(module, Residual):
                with torch.no_grad():
                    module.norm.fill_(1.0)
                    module.mixer.reset_parameters(dice_at(seed, path, module.norm.device))

    def _read(
        self, tokens: Tensor, state: DecodeState | None, losses: list[Tensor] | None
    ) -> tuple[Tensor, DecodeState]:
        x, kept = self._embed(tokens), []
        position = state.position if state else 0
        for i, halves in enumerate(self._halves):
            after: dict[str, State] = {}
            for place, half in halves.items():
                mixed = half(x, state.layers[i][place] if state else None, position)
                x, after[place] = mixed.y, mixed.state or {}
                if losses is not None and mixed.loss is not None:
                    losses.append(mixed.loss)
            kept.append(after)
        capacity = state.capacity if state else 0
        return self._logits(x), DecodeState(tuple(kept), position + tokens.shape[1], capacity)

    def _embed(self, tokens: Tensor) -> Tensor:
        # rows have norm one, so that tied logits start small; the residual stream starts at scale one
        return F.embedding(tokens, self.embedding) * self.spec.d_model**0.5

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(F.rms_norm(x, self.norm.shape, self.norm, 1e-6), self.embedding)

    def _with_room(self, state: DecodeState, count: int) -> DecodeState:
        needed = state.position + count
        if needed <= state.capacity:
            return state
        capacity = max(needed, 2 * state.capacity)
        layers = tuple(
            {place: _grown(half, stored[place], capacity) for place, half in halves.items()}
            for halves, stored in zip(self._halves, state.layers, strict=True)
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


def _grown(half: Residual, stored: State, capacity: int) -> State:
    """A stored state with more token slots; a ring buffer at its limit has all it will ever need."""
    grown = dict(stored)
    for name, shape in half.mixer.state_shapes.items():
        if not shape.per_token:
            continue
        for key in (name, name + SCALE_SUFFIX):
            if key in stored:
                more = shape.slots(capacity) - stored[key].shape[-2]
                grown[key] = F.pad(stored[key], (0, 0, 0, more))
    return grown


def dice_at(seed: int, path: str, device: torch.device) -> torch.Generator:
    """Chance for one place: the same wherever else the network differs."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
