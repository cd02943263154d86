"""Bottleneck adapters: a channel mixer learns by a few hidden channels of its own beside those that it has.

    mixer'(x) = mixer(x) + D f(U x),   U [r, D] at random,   D [D, r] zero at first

in the form of the mixer itself: f is its activation, with a gate where it has gates; each expert has r of its
own. This is the parallel adapter of He et al. 2022, arXiv:2110.04366, section 3.3, of Houlsby et al. 2019,
arXiv:1902.00751. Beside channels of the same form they are nothing but more channels: the network that comes
out is the architecture with r more in each channel mixer, and merging is exact.

Shapes: D d_model, r new channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from evaluators.compression.merged import Course, Merged
from evaluators.compression.structure import RATIO, resized
from evaluators.tasks.base import Task
from search_spaces.blocks.base import Block
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import Decoder
from search_spaces.network.initialization import dice_at
from search_spaces.network.model import Model
from search_spaces.network.parameter_roles import block_roles
from search_spaces.network.residual import Residual
from search_spaces.parameter_axes import WIDTH
from search_spaces.quantization.rounding import round_all

PLACE = "channel_mixer"


@dataclass(frozen=True)
class Wider:
    """A block with more channels, and the letter of its layout that counts them."""

    block: Block
    letter: str


def wider(block: Block | None, d_model: int, more: int) -> Wider | None:
    """The block with so many more hidden channels; None where it has none that one field counts."""
    layout = None if block is None else block.layout()
    if block is None or layout is None or not hasattr(block, RATIO):
        return None
    sizes = layout.sizes(parameter_shapes(block, d_model))
    for letter in layout.sortable.replace(WIDTH, ""):
        larger = resized(block, d_model, (RATIO,), letter, sizes.get(letter, 0) + more)
        if larger is not None:
            return Wider(larger, letter)
    return None


def wider_spec(spec: Decoder, more: int) -> Decoder:
    """The architecture with so many more hidden channels in every channel mixer."""
    layers = []
    for layer in spec.layers:
        larger = wider(layer.channel_mixer, spec.d_model, more)
        layers.append(layer if larger is None else replace(layer, channel_mixer=larger.block))
    return replace(spec, layers=tuple(layers))


class Bottleneck(Merged):
    """The training of new hidden channels of a model's channel mixers; all else stays as it is.

    `model` is the wider one, of `widened`, which says where its new channels are.
    """

    usual_rate = 2.7e-2
    """The best of 0.009, 0.018 and 0.027 for attention of width 32."""

    def __init__(self, model: Model, task: Task, more: int, **course: Unpack[Course]) -> None:
        self.more = more
        super().__init__(model, task, **course)

    def starts(self) -> dict[str, nn.Parameter]:
        """The new entries of every parameter that has some: what writes to the residual stream is zero."""
        self._axes = dict(_new_axes(self.model, self.more))
        found = {}
        for name, (_, fan_in) in self._axes.items():
            start = torch.zeros_like(self._new(name))
            if fan_in:
                start.normal_(std=fan_in**-0.5, generator=dice_at(self.seed, name, start.device))
            found[name] = nn.Parameter(start)
        return found

    @property
    def how(self) -> Mapping[str, Any]:
        """How many channels each channel mixer gets."""
        return {"bottleneck": self.more}

    def merged(self) -> dict[str, Tensor]:
        """See `Merged.merged`."""
        weights = dict(self._weights)
        for name, (axis, _) in self._axes.items():
            old = weights[name].narrow(axis, 0, weights[name].shape[axis] - self.more)
            weights[name] = torch.cat([old, self.parameters[name]], axis)
        return round_all(weights, self._bits)

    def _new(self, name: str) -> Tensor:
        axis, weight = self._axes[name][0], self._weights[name]
        return weight.narrow(axis, weight.shape[axis] - self.more, self.more)


@torch.no_grad()
def widened(model: Model, more: int) -> Model:
    """The same function with so many more channels in each channel mixer, which put out nothing."""
    with torch.device("meta"):
        larger = Model(wider_spec(model.spec, more))
    larger.to_empty(device=model.embedding.device)
    held = dict(model.named_parameters())
    for name, weight in larger.named_parameters():
        weight.zero_()
        weight[tuple(map(slice, held[name].shape))].copy_(held[name])
    return larger.eval()


def new_values(spec: Decoder, more: int) -> int:
    """How many values the new channels have."""
    with torch.device("meta"):
        model = Model(wider_spec(spec, more))
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    return sum(shapes[n].numel() // shapes[n][axis] * more for n, (axis, _) in _new_axes(model, more))


def _new_axes(model: Model, more: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """By parameter: its axis of hidden channels, and its inputs; 0 where new entries begin at zero."""
    for path, module in model.named_modules():
        if not isinstance(module, Residual):
            continue
        d_model = model.spec.d_model
        larger, layout = wider(module.block, d_model, more), module.block.layout()
        if larger is None or layout is None or module.block.mixes != "channels":
            continue
        roles = block_roles(module.block, d_model)
        for name, _ in module.mixer.named_parameters():
            words = layout.words(name)
            if larger.letter in words:
                role = roles[name]
                starts_at_zero = role.kind != "matrix" or WIDTH in words[:-1]
                yield (
                    f"{path}.mixer.{name}",
                    (words.index(larger.letter), 0 if starts_at_zero else role.fan_in),
                )
