"""Two small blocks, a space of them, a table with round numbers, and a clock that is wound by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.correction import Accuracy, Correction
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

SCENARIO = Scenario(prompt=8, new_tokens=4)


@dataclass(frozen=True, kw_only=True)
class Sum(Block):
    """y = W m, with a memory m of all tokens so far, `copies` times."""

    mixes: ClassVar = "sequence"
    copies: int = 1

    def check(self, d_model: int) -> None:
        if self.copies > 8:
            raise IllegalArchitecture("too many copies")

    def build(self, d_model: int) -> Mixer:
        return SumMixer(self.copies, d_model, self.state(d_model))

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        flops = 2 * self.copies * d_model**2 * scenario.batch
        return Cost(self.copies * d_model**2, flops * scenario.prompt, flops)

    def state(self, d_model: int) -> dict[str, StateShape]:
        return {"memory": StateShape((d_model,))}


class SumMixer(Mixer):
    def __init__(self, copies: int, d_model: int, state: dict[str, StateShape]) -> None:
        super().__init__(state)
        self.weight = nn.Parameter(torch.empty(copies, d_model, d_model))

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        memory = x.cumsum(1) if state is None else x.cumsum(1) + state["memory"][:, None]
        y = torch.stack([F.linear(memory, weight) for weight in self.weight]).mean(0)
        return Mixed(y, None if state is None else {"memory": memory[:, -1]})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        mixed = self.forward(x[:, None], state)
        return mixed.y[:, 0], mixed.state or {}

    def reset_parameters(self, dice: torch.Generator) -> None:
        self.weight.normal_(std=0.01, generator=dice)


@dataclass(frozen=True, kw_only=True)
class Scale(Block):
    """y = W x."""

    mixes: ClassVar = "channels"

    def build(self, d_model: int) -> Mixer:
        return ScaleMixer(d_model)

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        flops = 2 * d_model**2 * scenario.batch
        return Cost(d_model**2, flops * scenario.prompt, flops)


class ScaleMixer(Mixer):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model, d_model))

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        return Mixed(F.linear(x, self.weight))

    def reset_parameters(self, dice: torch.Generator) -> None:
        self.weight.normal_(generator=dice)


@contextmanager
def registered() -> Iterator[None]:
    """The two blocks have names inside; the contract tests of real blocks never see them."""
    things = dict(blocks)
    blocks._things.update({"Sum": Sum, "Scale": Scale})
    try:
        yield
    finally:
        blocks._things.clear()
        blocks._things.update(things)


def small_space(depths: tuple[int, ...] = (1, 2, 3, 4)) -> Space:
    """One width; a sum with a state at either width, and a scale or nothing."""
    layer = Layer(
        sequence_mixer=Sum(copies=one_of(1, 3)),
        channel_mixer=one_of(None, Scale()),
        bits=Bits(weight=one_of(16, 8), state=one_of(16, 8)),
    )
    return Space(Decoder(vocab=16, d_model=8, layers=repeat(layer, depths)), name="small")


def round_table() -> LatencyTable:
    """Parts take 1, 2, 3, ... ms to prefill and a tenth of that to decode."""
    space = small_space()
    entries = {
        part: {"prefill_ms": Latency((float(i),) * 4), "decode_ms": Latency((i / 10,) * 4)}
        for i, part in enumerate(parts_in(space), start=1)
    }
    layer = Layer(sequence_mixer=Sum(), bits=Bits(state=8))
    measured = {reading: Latency((5.0, 6.0)) for reading in READINGS}
    return LatencyTable(
        space_name=space.name,
        space_digest=space.digest,
        scenario=SCENARIO,
        fingerprint=fingerprint(SCENARIO),
        entries=entries,
        networks=(MeasuredNetwork(Decoder(vocab=16, d_model=8, layers=(layer,)), True, measured),),
        corrections={
            "prefill_ms": Correction(2.0, 10.0, 100.0),
            "decode_ms": Correction(),
        },
        accuracies={"prefill_ms": Accuracy(1, mape=0.1, rms=0.1, reach=3.0), "decode_ms": Accuracy(0)},
    )


class Clock:
    """Stands still until a call winds it."""

    def __init__(self) -> None:
        self.now, self.slowness = 0, 1.0

    def __call__(self) -> int:
        return self.now

    def taking(self, ms: float):
        """A call that takes so long."""

        def call() -> None:
            self.now += round(ms * 1e6 * self.slowness)

        return call
