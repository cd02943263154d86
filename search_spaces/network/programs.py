"""A network as two programs of `torch.export`: one reads a prompt, one decodes a token, states in and out.

    programs = export_programs(model, prompt=256, capacity=1024)
    logits, *state = programs.prefill.module()(tokens)                         # [B, T] -> [B, T, V]
    logits, *state = programs.step.module()(token, position, *state)          # [B] -> [B, V]

The state is a flat list of tensors, named by layer, place and tensor (`Programs.state`), with room for
`capacity` tokens; of a network in float32 none is in bfloat16, which runtimes do not take: the scales of
states of few bits come and go in float32. `position` is a tensor without axes, the number of tokens read
before. Any batch can be given. The prompt has any length up to the capacity where the blocks can be traced
without it: recurrences that are computed in chunks cannot, and read exactly `prompt` tokens.

In these programs all layers are computed, whoever has left the network (`EarlyExit`); layers that only some
tokens pass cannot be exported.

Shapes: B batch, T tokens, V vocab.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from foundation.error_text import refused_as
from foundation.errors import SettingError
from search_spaces.network.decode_state import DecodeState, LayerState
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model

BATCH = 2
"""Sequences of the example that a program of any batch is traced with: one would be taken for a constant."""

PARAMETERS = "model."
"""What precedes the names of the network's parameters in its programs."""


@dataclass(frozen=True)
class Programs:
    """The two programs of a network; `prompt` is the one length that is read, None where it may vary."""

    prefill: ExportedProgram
    step: ExportedProgram
    state: tuple[str, ...]
    capacity: int
    prompt: int | None = None


class Prefill(nn.Module):
    """Reads a prompt into a fresh state."""

    def __init__(self, model: Model, capacity: int) -> None:
        super().__init__()
        self.model, self.capacity = model, capacity

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Logits [B, T, V] of tokens [B, T], and the state."""
        logits, state = self.model.prefill(tokens, capacity=self.capacity)
        return logits, *flat_state(self.model, state.layers)


class Step(nn.Module):
    """Reads one token; the state that it is given stays as it was."""

    def __init__(self, model: Model, capacity: int) -> None:
        super().__init__()
        self.model, self.capacity = model, capacity

    def forward(self, token: Tensor, position: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Logits [B, V] after token [B], and the new state."""
        given = iter(state)
        layers = tuple(
            {
                place: {name: next(given).to(held.dtype, copy=True) for name, held in tensors.items()}
                for place, tensors in layer.items()
            }
            for layer in _empty(self.model)
        )
        logits, after = self.model.step(token, DecodeState(layers, position, self.capacity))
        return logits, *flat_state(self.model, after.layers)


def flat_state(model: Model, layers: Sequence[LayerState]) -> list[Tensor]:
    """The tensors of a state in the order of `state_names`, as programs take and give them."""
    exact = model.embedding.dtype
    return [
        tensor.to(exact) if tensor.dtype is torch.bfloat16 else tensor
        for layer in layers
        for stored in layer.values()
        for tensor in stored.values()
    ]


def state_names(model: Model) -> tuple[str, ...]:
    """What each tensor of a state is called: `layers.0.sequence_mixer.k`."""
    return tuple(
        f"layers.{index}.{place}.{name}"
        for index, layer in enumerate(_empty(model))
        for place, tensors in layer.items()
        for name in tensors
    )


def unsupported(spec: Decoder) -> str:
    """Why a network has no such programs; empty where it has."""
    for index, layer in enumerate(spec.layers):
        if layer.routing is not None:
            return f"layers.{index} lets only some tokens pass, so its shapes depend on values"
    return ""


@torch.no_grad()
def export_programs(model: Model, *, prompt: int, capacity: int) -> Programs:
    """The programs of a network, for any batch, and for prompts of any length where that can be.

    Raises:
        SettingError: the network cannot be exported.
    """
    if reason := unsupported(model.spec):
        raise SettingError(f"this network cannot be exported: {reason}")
    model, vocab = model.eval(), model.spec.vocab
    tokens = torch.zeros(BATCH, prompt, dtype=torch.long)
    free = {0: Dim.AUTO, 1: Dim.AUTO}
    fixed = None
    prefill = exported(Prefill(model, capacity), (tokens,), (free,))
    if not _reads_any_length(prefill, vocab, prompt, capacity):
        fixed = prompt
        prefill = exported(Prefill(model, capacity), (tokens,), ({0: Dim.AUTO},))
    state = flat_state(model, model.init_state(BATCH, capacity).layers)
    batched = ({0: Dim.AUTO}, None, tuple({0: Dim.AUTO} for _ in state))
    step = exported(Step(model, capacity), (tokens[:, 0], torch.tensor(prompt), *state), batched)
    return Programs(prefill, step, state_names(model), capacity, fixed)


@torch.no_grad()
def static_programs(model: Model, *, prompt: int, capacity: int) -> Programs:
    """The programs of a network for one sequence, and prompts of one length: all shapes are numbers.

    Raises:
        SettingError: the network cannot be exported.
    """
    if reason := unsupported(model.spec):
        raise SettingError(f"this network cannot be exported: {reason}")
    model, tokens = model.eval(), torch.zeros(1, prompt, dtype=torch.long)
    state = flat_state(model, model.init_state(1, capacity).layers)
    prefill = exported(Prefill(model, capacity), (tokens,))
    step = exported(Step(model, capacity), (tokens[:, 0], torch.tensor(prompt), *state))
    return Programs(prefill, step, state_names(model), capacity, prompt)


def exported(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: object = None) -> ExportedProgram:
    """A module as a program, for shapes as in `inputs` but for the `dynamic` ones.

    Raises:
        SettingError: it cannot be traced.
    """
    with refused_as(SettingError, "this network cannot be exported"), silent():
        program: ExportedProgram = torch.export.export(module, inputs, dynamic_shapes=dynamic)  # type: ignore[arg-type]
    return program


@contextmanager
def silent() -> Iterator[None]:
    """Without what compilers say about their own graphs before they raise, or warn of their own parts."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _reads_any_length(program: ExportedProgram, vocab: int, prompt: int, capacity: int) -> bool:
    """Whether a program reads other prompts than that it was traced with: it checks that itself."""
    run = program.module()
    for length in sorted({1, 2, prompt // 2 + 1, prompt - 1, prompt + 1, capacity} - {0}):
        if length > capacity:
            continue
        try:
            run(torch.zeros(1, length, dtype=torch.long))
        except (AssertionError, RuntimeError):  # its guards
            return False
    return True


def _empty(model: Model) -> tuple[LayerState, ...]:
    """A state without values, for its names."""
    return model.init_state(1, 1).layers
