"""Weights of fewer bits, after training: rounded to nearest, by GPTQ, or behind AWQ's scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from evaluators.compression.awq import scaled_inputs
from evaluators.compression.calibration import LayerByLayer, Moments, tiled, times_read
from evaluators.compression.gptq import DAMP, gptq, unsupported
from evaluators.compression.rotation import not_rotated, rotated, rotated_spec
from foundation.settings import MANY, setting
from nas.modifiers.base import Changed, Modifier, Work, built_like, forward_flops, layer_matrices, modifiers
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.model import Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import ACTIVATION_BITS, GROUPS, STATE_BITS, WeightFormat
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario

METHODS = ("nearest", "gptq", "awq")
WIDTHS = (8, 6, 4, 3, 2)
"""Bits of integers, that all methods know."""


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Quantize(Modifier):
    """Store the weights of all layers in integers of few bits, rounded one after the other.

    `nearest` looks at no text. `gptq` makes an error good in the columns that follow, `awq` first scales
    inputs so that the weights of large ones are rounded finely; both weigh errors by calibration windows of
    the training text. Each layer is rounded for the inputs that it gets from rounded layers. --rotate goes
    with each of them; it helps where few channels are much larger than others, and gives a tied network a
    head of its own.
    """

    name = "quantize"

    bits: int = setting(4, help="Bits of a weight.", choices=WIDTHS)
    group: int = setting(64, help="Weights that share a scale.", choices=GROUPS)
    method: str = setting("gptq", help="How weights are rounded.", choices=METHODS)
    rotate: bool = setting(
        False, help="Rotate the residual stream before, so that no channel of it stands out."
    )
    embedding: int = setting(
        16, help="Bits of the embedding, and of a head of its own, to nearest.", choices=(16, *WIDTHS)
    )
    activations: int | None = setting(
        None,
        help="Bits of what matrices multiply; at 8, values beyond 6 stay at 16 (LLM.int8).",
        choices=ACTIVATION_BITS,
        shown="as they are",
    )
    state: int | None = setting(
        None, help="Bits of the decode state.", choices=STATE_BITS, shown="as they are"
    )
    calibration: int = setting(64, help="Windows of training text to calibrate on.", least=1, most=MANY)
    damp: float = setting(
        DAMP, help="What GPTQ adds to the diagonal of its moments, as a share of the mean.", above=0, most=1
    )

    def unsupported(self, spec: Decoder) -> str:
        """Not every network can be rotated."""
        return not_rotated(spec) if self.rotate else ""

    def changed(self, spec: Decoder) -> Decoder:
        """See `Modifier.changed`: the bits of all layers."""
        spec = rotated_spec(spec) if self.rotate else spec
        layers = tuple(map(self._rounded, spec.layers))
        if self.embedding == 16:
            return replace(spec, layers=layers)
        ends: dict[str, Any] = {
            name: replace(end, bits=replace(end.bits, weight=self.embedding, group=self.group))
            for name, end in (("embedding", spec.embedding), ("head", spec.head))
            if name == "embedding" or not spec.head.tied
        }
        return replace(spec, layers=layers, **ends)

    def _rounded(self, layer: Layer) -> Layer:
        own, channel = (
            replace(
                was := layer.bits_at(place),
                weight=self.bits,
                group=self.group,
                numbers="int",
                activation=was.activation if self.activations is None else self.activations,
                state=was.state if self.state is None else self.state,
            )
            for place in PLACES
        )
        return replace(layer, bits=own, channel_bits=channel)

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: reading the windows."""
        reads = 0 if self.method == "nearest" else times_read(spec)
        return reads * forward_flops(spec, self.calibration, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        after = self.changed(model.spec)
        return self.rounded_to(after, rotated(model, work.seed) if self.rotate else model, work)

    def rounded_to(self, spec: Decoder, model: Model, work: Work) -> Changed:
        """The network at the bits of another configuration, which may differ from layer to layer."""
        rounded = built_like(model, spec)
        formats = {
            name: stored for name, stored in weight_bits(rounded).items() if stored and stored.bits < 16
        }
        notes: dict[str, Any] = {"to nearest": [], "scaled inputs": 0}
        nearest = self.method == "nearest"
        reading = None if nearest else LayerByLayer(rounded, work.calibration(self.calibration))
        groups = list(_by_layer(formats))
        with work.progress.bar("rounding", len(groups)) as bar:
            for done, names in enumerate(groups, 1):
                self._round(rounded, {name: formats[name] for name in names}, reading, notes)
                bar.update(done)
        return Changed(rounded, {name: value for name, value in notes.items() if value})

    @torch.no_grad()
    def _round(
        self,
        model: Model,
        formats: Mapping[str, WeightFormat],
        reading: LayerByLayer | None,
        notes: dict[str, Any],
    ) -> None:
        """Round the parameters of one layer in place."""
        parameters = dict(model.named_parameters())
        moments: Moments = {}
        if reading is not None and (first := next(iter(formats))).startswith("layers."):
            moments = reading.moments(int(first.split(".")[1]), formats)
            if self.method == "awq":
                notes["scaled inputs"] += scaled_inputs(model, moments, formats)
        for name, stored in formats.items():
            weight, parts = parameters[name], moments.get(name, {})
            if self.method == "gptq" and not unsupported(stored) and tiled(weight, parts):
                weight.copy_(gptq(weight, parts, stored, self.damp))
                continue
            weight.copy_(round_to_bits(weight, stored))
            if self.method == "gptq" and name in layer_matrices(model):
                notes["to nearest"].append(name)


def _by_layer(names: Mapping[str, Any]) -> Iterator[list[str]]:
    """Names of parameters, those of one layer together, in the order of the layers; others come first."""
    groups: dict[int, list[str]] = {}
    for name in names:
        parts = name.split(".")
        groups.setdefault(int(parts[1]) if parts[0] == "layers" else -1, []).append(name)
    for index in sorted(groups):
        yield groups[index]
