"""Damage: how far the predictions of a network are from what they were, on text.

    damage = KL(p || q) = sum over v of p_v (log p_v - log q_v),       in nats per judged token

with p of the network as it was and q of what was made of it. It sees less than the loss which tokens are
right, and therefore is much more certain on few windows.

Shapes: W windows, T tokens, V vocab.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.blockwise.replacement_scores import Moved
from evaluators.scoring.windows import state_segment, windows_at_once
from evaluators.tasks.base import IGNORED
from search_spaces.network.model import Model


class Damage:
    """Predictions of a network on windows [W, T], which those of others are compared with."""

    def __init__(self, model: Model, tokens: Tensor, targets: Tensor) -> None:
        device = model.embedding.device
        at_once = windows_at_once(tokens.shape[1], model.spec.vocab, device)
        self._tokens = tokens.to(device).split(at_once)
        self._judged = (targets.to(device) != IGNORED).split(at_once)
        self._said = list(_log_probabilities(model, self._tokens))

    @torch.no_grad()
    def of(self, model: Model) -> Moved:
        """How far another network is from the first.

        Raises:
            EvaluationFailed: a prediction is not finite.
        """
        found = []
        pieces = zip(_log_probabilities(model, self._tokens), self._said, self._judged, strict=True)
        for now, before, judged in pieces:
            each = F.kl_div(now, before, reduction="none", log_target=True).sum(-1)
            found.append((each * judged).sum(1) / judged.sum(1))
        return Moved.of(torch.cat(found))


@torch.no_grad()
def _log_probabilities(model: Model, pieces: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Those [w, T, V] of some windows at a time."""
    segment = state_segment(model.spec)
    for tokens in pieces:
        yield model(tokens, segment=segment).float().log_softmax(-1)


@contextmanager
def exchanged(model: Model, weights: Mapping[str, Tensor]) -> Iterator[Model]:
    """The model with other values of some parameters; behind it, they are what they were."""
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in weights}
    try:
        _fill(parameters, weights)
        yield model
    finally:
        _fill(parameters, kept)


@torch.no_grad()
def _fill(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, values in weights.items():
        parameters[name].copy_(values)
