"""Small networks and supernets for tests: weights moved off their start, text, a decode token by token."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from search_spaces.language.space import Space
from search_spaces.network.decoder import OPTIONS, Layer
from search_spaces.network.model import Model
from search_spaces.network.norms.base import Norm, norms
from search_spaces.supernet import Subnet, Supernet, Weights
from search_spaces.supernet.weights import at_bits

NORMS: list[Norm] = [norms[name]() for name in norms]

OPTION_VALUES = [(name, value) for name, kind in OPTIONS.items() for value in kind.examples()]
"""Every option of a layer by its field, with values that cover its variants."""

ABSENT: dict[str, Any] = {part.name: part.default for part in fields(Layer) if part.name in OPTIONS}
"""What the field of an option holds where a layer does not have it."""


def text(vocab: int, batch: int, count: int, seed: int = 0) -> Tensor:
    """Random tokens [batch, count]."""
    return torch.randint(vocab, (batch, count), generator=torch.Generator().manual_seed(seed))


def randomised(space: Space, seed: int = 0) -> Supernet:
    """A supernet whose every parameter is moved off its start, norms and biases too."""
    supernet, dice = Supernet(space), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in supernet.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice), alpha=0.2)
    return supernet


def doubled(supernet: Supernet) -> Weights:
    """The shared weights in float64."""
    return {key: weight.detach().double() for key, weight in supernet.weights.items()}


def own_weights(subnet: Subnet, shared: Weights) -> Weights:
    """The slices of these shared weights that a subnet reads, at its bits."""
    return {b.name: at_bits(shared[b.key][b.index], b.bits) for b in subnet.bindings}


@torch.no_grad()
def decoded(model: Model, tokens: Tensor, prompt: int) -> Tensor:
    """Logits [B, T, V] of tokens [B, T], all behind the prompt read one by one."""
    logits, state = model.prefill(tokens[:, :prompt], capacity=prompt + 1)  # too small: it has to grow
    pieces = [logits]
    for token in tokens[:, prompt:].unbind(1):
        logits, state = model.step(token, state)
        pieces.append(logits[:, None])
    assert state.position == tokens.shape[1]
    return torch.cat(pieces, dim=1)
