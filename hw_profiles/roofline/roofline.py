"""An estimate of latency from a device card alone, for devices that nobody has measured.

    roofline = Roofline(card_named("h100-sxm"), scenario)
    roofline.predict(spec)["decode_ms"]          # (milliseconds, standard error), an estimate

For each sublayer, and for what stands around the layers (Williams, Waterman & Patterson 2009):

    time = max(FLOPs / peak FLOP rate, bytes / peak bandwidth, operations * launch overhead)

FLOPs are analytic (`Block.cost`). Bytes are what its operations read and write, one by one; with a
runtime that fuses operations only what products do. Weights count at their bits: the roofline is of a device
that has kernels for them, also for their leading bits (`AdaptivePrecision`). A runtime that replays recorded
kernels has no launch overhead, nor has a card that does not state it. Peaks are never reached, so an estimate
is a lower bound, often by a factor of two or more: it ranks networks on a device, and is used by a search
only where that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import torch

from foundation.errors import ProfileError
from hw_profiles.latency.parts import Part, parts_in
from hw_profiles.memory.prediction import logits_trace, sublayer_traces
from hw_profiles.memory.tracing import Trace, kind_of
from hw_profiles.roofline.cards import Card
from hw_profiles.runtimes.base import check_scenario, runtime_of
from hw_profiles.timing.timings import READINGS
from search_spaces.blocks.base import Cost
from search_spaces.language.space import Space
from search_spaces.network.cost import block_weight_bytes, parameter_shapes
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.options.reads_embedding import reader_cost
from search_spaces.network.sublayers import Sublayer, layer_sublayers
from search_spaces.scenario import Scenario

ESTIMATE = "estimate"

ASSUMED_ERROR = 0.5
"""The relative standard error that an estimate is given: it is a bound, and nobody has checked it."""


@dataclass(frozen=True)
class Work:
    """What one reading of one piece of a network does."""

    flops: float
    bytes: float
    launches: int

    def seconds(self, card: Card, scenario: Scenario) -> float:
        """The least that a device needs for it."""
        launch_us = card.launch_us or 0.0 if runtime_of(scenario).launches else 0.0
        return max(
            self.flops / card.flops_of(scenario.dtype, scenario.threads),
            self.bytes / card.bandwidth,
            self.launches * launch_us / 1e6,
        )


@dataclass(frozen=True, eq=False)
class Roofline:
    """Estimates for networks on the device of a card; answers as a `LatencyTable` does.

    Raises:
        SettingError: the scenario's runtime does not exist, or cannot run it.
        ProfileError: the card is of another kind of device than the scenario, or lacks its dtype.
    """

    card: Card
    scenario: Scenario

    source: ClassVar[str] = ESTIMATE
    trusted: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scenario(self.scenario)
        if self.card.kind != kind_of(self.scenario):
            raise ProfileError(
                f"the card {self.card.name} is of a {self.card.kind} device, but the scenario asks for"
                f" {self.scenario.device}"
            )
        self.card.flops_of(self.scenario.dtype)

    def predict(self, spec: Decoder) -> dict[str, tuple[float, float]]:
        """Estimated milliseconds and their assumed standard error, by reading."""
        sums = self._outer(spec)
        for layer in spec.layers:
            own = self._layer(layer, spec)
            sums = (sums[0] + own[0], sums[1] + own[1])
        return {reading: (ms, ASSUMED_ERROR * ms) for reading, ms in zip(READINGS, sums, strict=True)}

    def predict_many(self, specs: Sequence[Decoder]) -> list[dict[str, tuple[float, float]]]:
        """Estimates of many networks."""
        return [self.predict(spec) for spec in specs]

    def covers(self, space: Space) -> bool:
        """Whether every network of the space can be estimated."""
        return not self.missing(space)

    def missing(self, space: Space) -> tuple[Part, ...]:
        """Parts that cannot be estimated: none, since a roofline needs no measurement."""
        parts_in(space)  # raises for what is no space of Decoder
        return ()

    def __str__(self) -> str:
        how = "measured" if self.card.measured else "nominal"
        return f"ESTIMATE by roofline from {how} peaks, nothing was timed: {self.card}; {self.scenario}"

    @cached_property
    def _known(self) -> dict[tuple[Layer, tuple[Any, ...]], tuple[float, float]]:
        return {}

    def _layer(self, layer: Layer, spec: Decoder) -> tuple[float, float]:
        """Milliseconds of one layer, prefill and decode."""
        key = (layer, spec.around)
        if key not in self._known:
            prefill = decode = 0.0
            for sublayer in layer_sublayers(layer, spec.d_model, norm=spec.norm):
                prefill_ms, decode_ms = self._sublayer(sublayer, layer)
                prefill, decode = prefill + layer.passing * prefill_ms, decode + layer.passing * decode_ms
            for _ in range(layer.predictions):
                more = self._outer(spec)
                prefill, decode = prefill + more[0], decode + more[1]
            self._known[key] = prefill, decode
        return self._known[key]

    def _sublayer(self, sublayer: Sublayer, layer: Layer) -> tuple[float, float]:
        block, d_model, stored = sublayer.block, sublayer.d_model, sublayer.bits.stored
        if block is None:
            return 0.0, 0.0
        cost, traces = block.cost(d_model, self.scenario), sublayer_traces(sublayer, self.scenario)
        dense = self._itemsize * sum(prod(s) for s in parameter_shapes(block, d_model).values())
        saved = 0 if stored.bits >= 16 else dense - block_weight_bytes(block, d_model, stored)
        unread = self._unread(sublayer, layer.precision)
        more = reader_cost(d_model, self.scenario) if sublayer.reads_embedding else Cost()
        return (
            self._ms(cost.prefill_flops + more.prefill_flops, traces.prefill, saved),
            self._ms(cost.decode_flops + more.decode_flops, traces.decode, saved + unread),
        )

    def _unread(self, sublayer: Sublayer, precision: AdaptivePrecision | None) -> float:
        """Bytes of its weights that a decode step leaves out, where tokens choose their precision."""
        block, stored = sublayer.block, sublayer.bits.stored
        if precision is None or block is None or sublayer.place != PLACES[1]:
            return 0.0
        whole, leading = (
            block_weight_bytes(block, sublayer.d_model, form)
            for form in (stored, stored._replace(bits=precision.low))
        )
        return precision.unread(self.scenario.batch) * (whole - leading)

    def _outer(self, spec: Decoder) -> tuple[float, float]:
        flops = spec.shell.logits_flops(self.scenario)
        prompt = self.scenario.prompt
        return (
            self._ms(flops * prompt, logits_trace(spec.shell, prompt, self.scenario), 0),
            self._ms(flops, logits_trace(spec.shell, 1, self.scenario), 0),
        )

    def _ms(self, flops: float, trace: Trace, saved: float) -> float:
        moved = trace.product_bytes if runtime_of(self.scenario).fuses else trace.moved_bytes
        work = Work(flops, max(0.0, moved - saved), trace.launches)
        return 1e3 * work.seconds(self.card, self.scenario)

    @property
    def _itemsize(self) -> int:
        return int(getattr(torch, self.scenario.dtype).itemsize)
