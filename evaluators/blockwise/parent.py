"""The parent of an alignment or of replacements: at every width, and what its sublayers read and add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Mixed
from search_spaces.network.decoder import PLACES, Decoder
from search_spaces.network.sublayers import decoders_in, sublayers_of
from search_spaces.supernet import Supernet, Weights


@dataclass(frozen=True)
class Recorded:
    """What the sublayers of a network read and added on some tokens.

    `embedding` [B, T, D] is that of the tokens (None without layers); `sublayers` are by their paths
    (`layers.0.sequence_mixer`), each with its input and what it added to it [B, T, D].
    """

    embedding: Tensor | None
    sublayers: Mapping[str, tuple[Tensor, Tensor]]


def parents_by_width(supernet: Supernet, parent: Decoder) -> dict[int, Decoder]:
    """The parent at each width of the space at which it is an architecture of it."""
    widths = {d.value for decoder in decoders_in(supernet.space.root) for d in decoder.closings("d_model")}
    parents = {}
    for d_model in sorted(widths):
        widened = replace(parent, d_model=d_model)
        try:
            widened.check()
            supernet.subnet(widened)
        except IllegalArchitecture:
            continue
        parents[d_model] = widened
    return parents


@torch.no_grad()
def recorded(supernet: Supernet, spec: Decoder, tokens: Tensor, weights: Weights | None = None) -> Recorded:
    """What each sublayer of a network reads and adds on tokens [B, T].

    A site that is read several times is there with what it read first.
    """
    subnet, seen = supernet.subnet(spec), dict[str, tuple[Tensor, Tensor]]()
    embedding: list[Tensor] = []

    def keep_embedding(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        embedding.append(inputs[0])

    def keep(
        path: str, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Mixed
    ) -> None:
        seen.setdefault(path, (inputs[0], output.y - named.get("onto", inputs[0])))

    hooks = []
    for number, sublayer in enumerate(sublayers_of(spec)):
        layer = subnet.module.decoder_layers[number // len(PLACES)]
        if number == 0:
            hooks.append(layer.register_forward_pre_hook(keep_embedding))
        if sublayer.block is not None:
            residual = layer.sublayers[sublayer.place]
            hooks.append(residual.register_forward_hook(partial(keep, sublayer.path), with_kwargs=True))
    try:
        subnet(tokens, weights)
    finally:
        for hook in hooks:
            hook.remove()
    return Recorded(embedding[0] if embedding else None, seen)
