"""The language model that a closed `Decoder` builds: a plain `nn.Module`, no search code in it.

    model = build(spec, seed=0)
    logits = model(tokens)                       # [B, T] -> [B, T, V], for training
    logits, state = model.prefill(tokens)        # read a prompt
    logits, state = model.step(token, state)     # [B] -> [B, V], one more token

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from foundation.errors import EvaluationFailed, SettingError
from search_spaces.blocks.base import Block
from search_spaces.network.decode_state import ROOM, DecodeState, LayerState, repeated
from search_spaces.network.decoder import Decoder
from search_spaces.network.generation import GREEDY, PROMPT_LOGITS, Generation
from search_spaces.network.initialization import dice_at
from search_spaces.network.layer import (
    AS_THEY_ARE,
    LAST_TOKEN,
    DecoderLayer,
    Parts,
    PassContext,
    SideOutputs,
    Through,
)
from search_spaces.network.options.base import OptionModule
from search_spaces.network.options.early_exit import EarlyLeavers
from search_spaces.network.parameter_roles import block_roles, option_roles
from search_spaces.network.residual import Residual
from search_spaces.network.routed_layer import RoutedLayer
from search_spaces.network.scaling import ELEMENTWISE, Role, scaled_rate
from search_spaces.network.shell import EMBEDDING, ShellModule
from search_spaces.network.soft_prompt import VECTORS, LearnedPrompt

NO_RATES: Mapping[str, float] = MappingProxyType({})


class Model(ShellModule):
    """A decoder-only language model with tied embeddings."""

    def __init__(self, spec: Decoder, made: Callable[[int, str], Residual] | None = None) -> None:
        """`made` gives the sublayer of a layer's number and place; without it they are made anew."""
        super().__init__(spec.shell)
        self.spec = spec
        self.layers = nn.ModuleList(_layers(spec, made))
        prompt = spec.soft_prompt
        self.soft_prompt = None if prompt is None else prompt.build(spec.d_model, spec.layers)

    def forward(
        self,
        tokens: Tensor,
        losses: list[Tensor] | None = None,
        segment: int | None = None,
        metrics: dict[str, Tensor] | None = None,
        parts: Parts = AS_THEY_ARE,
    ) -> Tensor:
        """Logits [B, T, V] of tokens [B, T].

        Auxiliary losses of the blocks are appended to `losses`, and their figures put into `metrics` by path
        and name (dropped tokens, the load of experts, who passes a router or leaves). With a `segment`, the
        sequence is read in pieces of that many tokens that hand over their decode state, so that its bits
        take effect. `parts` compute sublayers and head in their own way.
        """
        side = SideOutputs(losses, metrics)
        if segment is None:
            return self._read(tokens, None, side, parts)[0]
        state, logits = self.init_state(tokens.shape[0], tokens.shape[1]), []
        for piece in tokens.split(segment, dim=1):
            piece_logits, state = self._read(piece, state, side)
            logits.append(piece_logits)
        return torch.cat(logits, dim=1)

    def prefill(
        self,
        tokens: Tensor,
        state: DecodeState | None = None,
        capacity: int | None = None,
        *,
        last: bool = False,
    ) -> tuple[Tensor, DecodeState]:
        """Read tokens [B, T], after those in `state` if given: logits [B, T, V] and the new state.

        With `last`, only the logits of the last token are made [B, 1, V].
        """
        if tokens.shape[1] < 1:
            raise SettingError("prefill needs at least one token")
        if state is None:
            state = self.init_state(tokens.shape[0], capacity or tokens.shape[1] + ROOM)
        if not isinstance(state.position, int):
            raise SettingError("prefill goes on from a position that is a number, not from a tensor")
        state = self._with_room(state, tokens.shape[1])
        if not last:
            return self._read(tokens, state, SideOutputs())
        some_leave = any(layer.exit is not None for layer in self.decoder_layers)
        logits, state = self._read(tokens, state, SideOutputs(), AS_THEY_ARE if some_leave else LAST_TOKEN)
        return logits[:, -1:], state

    def step(self, token: Tensor, state: DecodeState) -> tuple[Tensor, DecodeState]:
        """Read one token [B]: logits [B, V] for the next one, and the new state."""
        if isinstance(state.position, int):
            state = self._with_room(state, 1)
        x, kept, early = self.embed(token), [], EarlyLeavers()
        embedding, position = self._kept(x), state.position + self.virtual_tokens
        for i, (layer, stored) in enumerate(zip(self.decoder_layers, state.layers, strict=True)):
            if early.all_left:
                kept.append(state.keep(i, layer.absorb(x, stored, position, embedding)))
                continue
            y, after = layer.step(x, stored, position, embedding)
            x = y if early.left is None else torch.where(early.left[..., None], x, y)
            kept.append(state.keep(i, after))
            if layer.exit is not None:
                early.update(layer.exit, layer.exit(x))
        logits = early.merged(None if early.all_left else self.logits(x))
        return logits, DecodeState(tuple(kept), state.position + 1, state.capacity)

    def init_state(self, batch: int, capacity: int) -> DecodeState:
        """A decode state with room for `capacity` tokens: empty, but for what a soft prompt is."""
        prompt, room = self.soft_prompt, capacity + self.virtual_tokens
        layers = tuple(layer.init_state(batch, room) for layer in self.decoder_layers)
        if prompt is None or self.embedding.is_meta:  # there only shapes matter
            return DecodeState(layers, 0, capacity)
        if prompt.spec.form == VECTORS:
            one = tuple(layer.init_state(1, room) for layer in self.decoder_layers)
            layers = tuple(
                repeated(kept, batch) for kept in self._through(Through(prompt.rows(1)), one, 0).kept
            )
        else:
            layers = tuple(
                {place: prompt.filled(i, place, empty) for place, empty in layer.items()}
                for i, layer in enumerate(layers)
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
        """Continue tokens [B, T] by `new_tokens`, greedily or at a temperature: [B, new_tokens].

        Raises:
            SettingError: a number is out of its range in `Generation`.
            EvaluationFailed: predictions are not finite.
        """
        how = Generation(new_tokens=new_tokens, temperature=temperature)
        return torch.stack(list(self.stream(tokens, how, dice)), dim=1)

    @torch.no_grad()
    def stream(
        self, tokens: Tensor, how: Generation, dice: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """What follows tokens [B, T], token by token [B]: each as soon as it is known.

        Raises:
            EvaluationFailed: predictions are not finite.
        """
        state = self.init_state(tokens.shape[0], tokens.shape[1] + how.new_tokens)
        for piece in tokens.split(max(1, PROMPT_LOGITS // (len(tokens) * self.spec.vocab)), dim=1):
            logits, state = self.prefill(piece, state, last=True)
        logits = logits[:, -1]
        for i in range(how.new_tokens):
            if not logits.isfinite().all():
                raise EvaluationFailed(f"the model's predictions are not finite, at token {i}")
            if how.temperature > GREEDY:
                token = torch.multinomial((logits / how.temperature).softmax(-1), 1, generator=dice)[:, 0]
            else:
                token = logits.argmax(-1)
            yield token
            if i + 1 < how.new_tokens:
                logits, state = self.step(token, state)

    @property
    def virtual_tokens(self) -> int:
        """How many tokens of a soft prompt stand before the text."""
        return 0 if self.soft_prompt is None else self.soft_prompt.spec.tokens

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The layers, in their order; one that shares its weights comes as often as it is read."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def roles(self) -> dict[str, Role]:
        """The role of every parameter (`search_spaces.network.scaling`)."""
        shell, declared = self.shell, dict(self.shell.roles)
        for path, module in self.named_modules():
            if isinstance(module, Residual):
                own = block_roles(module.block, shell.d_model)
                declared |= {f"{path}.mixer.{name}": role for name, role in own.items()}
        for index, layer in enumerate(self.spec.layers):
            for field, option in layer.options.items():
                own = option_roles(option, shell)
                declared |= {f"layers.{index}.{field}.{name}": role for name, role in own.items()}
        return {name: declared.get(name, ELEMENTWISE) for name, _ in self.named_parameters()}

    def learning_rates(self, by_kind: Mapping[str, float] = NO_RATES) -> dict[str, float]:
        """The rate of every parameter: that of its block, or a common one elsewhere, at this size.

        `by_kind` are rates of kinds of blocks in the place of their own.
        """
        roles = self.roles()
        base = dict.fromkeys(roles, Block.learning_rate)
        for path, module in self.named_modules():
            if isinstance(module, Residual):
                kind = type(module.block)
                own = by_kind.get(kind.__name__, kind.learning_rate)
                base |= {f"{path}.{name}": own for name, _ in module.named_parameters()}
        return {name: scaled_rate(base[name], role) for name, role in roles.items()}

    def reset_parameters(self, seed: int) -> None:
        """Fill every parameter; a place starts alike, whatever stands elsewhere in the network."""
        device = self.embedding.device
        with torch.no_grad():
            self.reset_shell(dice_at(seed, EMBEDDING, device))
            for path, module in self.named_modules():
                if isinstance(module, (Residual, OptionModule, LearnedPrompt)):
                    module.reset_parameters(dice_at(seed, path, device))

    def _read(
        self, tokens: Tensor, state: DecodeState | None, side: SideOutputs, parts: Parts = AS_THEY_ARE
    ) -> tuple[Tensor, DecodeState]:
        prompt, silent = self.soft_prompt, 0
        read, capacity = (int(state.position), state.capacity) if state else (0, 0)
        stored, position = state.layers if state else None, read + self.virtual_tokens
        through = Through(self.embed(tokens))
        if state is None and prompt is not None:
            if prompt.spec.form == VECTORS:
                through.x, position, silent = prompt.before(through.x), 0, prompt.spec.tokens
            else:
                stored = self.init_state(*tokens.shape).layers
        self._through(through, stored, position, side, parts)
        final = parts.head(self, through.x[:, silent:] if silent else through.x)
        for exit, logits in through.exits if side.losses is not None else []:
            side.record("", exit.loss(logits, final), None)
        after = DecodeState(tuple(through.kept), read + tokens.shape[1], capacity)
        return through.early.merged(final), after

    def _through(
        self,
        through: Through,
        stored: tuple[LayerState, ...] | None,
        position: int,
        side: SideOutputs | None = None,
        parts: Parts = AS_THEY_ARE,
    ) -> Through:
        """Take x [B, T, D] through all layers; its first token stands at `position`, virtual ones counted.

        Nobody else holds x, so that its memory is free as soon as the first layer has read it.
        """
        side, learning = side or SideOutputs(), self.training and torch.is_grad_enabled()
        embedding = self._kept(through.x)
        for i, layer in enumerate(self.decoder_layers):
            context = PassContext(f"layers.{i}", side, position, through.early.left, embedding, parts)
            through.x, after = layer(through.x, stored[i] if stored else None, context)
            through.kept.append(after)
            if layer.exit is None:
                continue
            logits = layer.exit(through.x)
            if learning:
                through.exits.append((layer.exit, logits))
            else:
                share = through.early.update(layer.exit, logits)
                side.record(context.path, None, {"exit.share": share})
        return through

    def _kept(self, embedding: Tensor) -> Tensor | None:
        """The embedding, where some layer reads it later; otherwise its memory can go."""
        return embedding if any(layer.reads_embedding for layer in self.spec.layers) else None

    def _with_room(self, state: DecodeState, count: int) -> DecodeState:
        needed = int(state.position) + count
        if needed <= state.capacity:
            return state
        capacity = max(needed, 2 * state.capacity)
        layers = tuple(
            layer.grown(stored, capacity + self.virtual_tokens)
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


def _layers(spec: Decoder, made: Callable[[int, str], Residual] | None) -> Iterator[DecoderLayer]:
    """One module per layer; layers that share their weights are one module."""
    shared: dict[str, DecoderLayer] = {}
    for number, layer in enumerate(spec.layers):
        kind = RoutedLayer if layer.routing is not None else DecoderLayer
        sublayers = None if made is None else partial(made, number)
        module = shared.get(layer.shared or "") or kind(layer, spec, sublayers)
        if layer.shared is not None:
            shared[layer.shared] = module
        yield module
