"""What a network scores on each validation window of a task."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from evaluators.tasks.base import Task
from evaluators.training.chunked_loss import AT_ONCE
from search_spaces.network.decoder import Decoder

SEGMENT = 32
"""Tokens between two roundings of the decode state, when a model with a quantized state is scored."""

SCORED_AT_ONCE = {"cpu": 32, "cuda": 128}
"""Windows in one forward pass by type of device, where their logits are few (`AT_ONCE`).

A GPU waits for the launches of a pass, of which a network with a quantized state takes one per segment.
"""


class Network(Protocol):
    """A model, or a subnet of a supernet."""

    def __call__(self, tokens: Tensor, *, segment: int | None = None) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""


def windows_at_once(tokens: int, vocab: int, device: str | torch.device) -> int:
    """How many windows of so many tokens are scored in one forward pass on a device."""
    most = SCORED_AT_ONCE.get(torch.device(device).type, SCORED_AT_ONCE["cpu"])
    return max(1, min(most, AT_ONCE // (tokens * vocab)))


def state_segment(spec: Decoder) -> int | None:
    """The `segment` to score at: pieces where some layer keeps its decode state below 16 bits."""
    layers = spec.layers
    few = any(layer.bits_at(place).state < 16 for layer in layers for place in layer.blocks)
    return SEGMENT if few else None


@torch.no_grad()
def window_losses(
    network: Network, task: Task, *, segment: int | None = None, device: str | torch.device = "cpu"
) -> Tensor:
    """How the task judges each validation window [W] (by default, by its mean loss), on the CPU."""
    tokens, targets = task.validation()
    losses, at_once = [], windows_at_once(tokens.shape[1], task.vocab, device)
    pieces = zip(tokens.split(at_once), targets.split(at_once), strict=True)
    for some_tokens, some_targets in pieces:
        logits = network(some_tokens.to(device), segment=segment)
        losses.append(task.judge(logits, some_targets.to(device)).cpu())
    return torch.cat(losses)
