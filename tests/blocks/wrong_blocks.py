"""A block that keeps every promise, and blocks that each break one, for tests of the contract itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class EMA(Block):
    """h_t = 0.9 h_{t-1} + 0.1 W x_t, and y_t = h_t."""

    mixes: ClassVar[Any] = "sequence"
    decay: float = 0.9

    def build(self, d_model: int) -> Mixer:
        return EMAMixer(self.decay, d_model, self.state(d_model))

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        flops = 2 * scenario.batch * d_model**2
        return Cost(d_model**2, scenario.prompt * flops, flops)

    def state(self, d_model: int) -> dict[str, StateShape]:
        return {"h": StateShape((d_model,), exact=True)}


class EMAMixer(Mixer):
    def __init__(self, decay: float, d_model: int, state: dict[str, StateShape]) -> None:
        super().__init__(state)
        self.decay = decay
        self.weight = nn.Parameter(torch.empty(d_model, d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[-1] ** -0.5, generator=dice)

    def project(self, x: Tensor) -> Tensor:
        return x @ self.weight.T

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        values = self.project(x)
        exact = torch.promote_types(values.dtype, torch.float32)
        h = torch.zeros_like(values[:, 0], dtype=exact) if state is None else state["h"]
        kept = []
        for value in values.unbind(1):
            h = self.mix(h, value)
            kept.append(h.to(x.dtype))
        return Mixed(torch.stack(kept, 1), None if state is None else {"h": h})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        h = self.mix(state["h"], self.project(x))
        return h.to(x.dtype), {"h": h}

    def mix(self, h: Tensor, value: Tensor) -> Tensor:
        return self.decay * h + (1 - self.decay) * value


def wrong(mixer: type[Mixer] = EMAMixer, **methods: Any) -> type[Block]:
    """`EMA` with another mixer, or with other methods of the block itself."""

    def build(self: Any, d_model: int) -> Mixer:
        return mixer(self.decay, d_model, self.state(d_model))  # type: ignore[arg-type]

    kind = dataclass(frozen=True, kw_only=True)(type("EMA", (EMA,), {"build": build, **methods}))
    blocks._things["EMA"] = kind  # a test forgets it when it ends
    return kind


class HalfStep(EMAMixer):
    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        y, state = super().step(x, state, position)
        return 0.5 * y, state


class LooksAhead(EMAMixer):
    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        mixed = super().forward(x, state, position)
        return Mixed(mixed.y + x.mean(1, keepdim=True), mixed.state)


class OtherKey(EMAMixer):
    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        return super().step(x, {"h": state["hidden"]}, position)


class RenamedKey(EMAMixer):
    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        y, state = super().step(x, state, position)
        return y, {"memory": state["h"]}


class ForgetsState(EMAMixer):
    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        return Mixed(super().forward(x, state, position).y)


class RoundedState(EMAMixer):
    def mix(self, h: Tensor, value: Tensor) -> Tensor:
        return super().mix(h, value).to(value.dtype)


class RoundedStep(EMAMixer):
    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        mixed = super().forward(x, state, position)
        return Mixed(mixed.y, mixed.state and {"h": mixed.state["h"].to(x.dtype)})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        y, state = super().step(x, state, position)
        return y, {"h": state["h"].to(x.dtype)}


class WideOutput(EMAMixer):
    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        mixed = super().forward(x, state, position)
        return Mixed(mixed.y.float() if x.dtype == torch.bfloat16 else mixed.y, mixed.state)


class MixesBatch(EMAMixer):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x - x.mean(0, keepdim=True))


class NeedsContiguous(EMAMixer):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x.view(-1, x.shape[-1])).view(x.shape)


class WritesInput(EMAMixer):
    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        x *= 1.0 + 1e-3
        return super().forward(x, state, position)


class ViewsWeight(EMAMixer):
    def project(self, x: Tensor) -> Tensor:
        return x @ self.weight.view(-1).view(self.weight.shape).T


class HasBuffer(EMAMixer):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("scale", torch.ones(()))


class GlobalDice(EMAMixer):
    def reset_parameters(self, dice: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=0.1)


class OwnDice(EMAMixer):
    def reset_parameters(self, dice: torch.Generator) -> None:
        super().reset_parameters(torch.Generator().manual_seed(0))


class LeavesProcess(EMAMixer):
    def project(self, x: Tensor) -> Tensor:
        raise SystemExit("no more")


class StartsAsConstant(EMAMixer):
    def reset_parameters(self, dice: torch.Generator) -> None:
        self.weight.fill_(0.1)


class LeavesEmpty(EMAMixer):
    def reset_parameters(self, dice: torch.Generator) -> None:
        return


class Detached(EMAMixer):
    def project(self, x: Tensor) -> Tensor:
        return x @ self.weight.detach().T


class ReadsPosition(EMAMixer):
    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        table = [1.0] * 1000
        y, state = super().step(x, state, position)
        return y * table[int(position)] if int(position) < 1000 else y, state


class Memoryless(EMAMixer):
    def mix(self, h: Tensor, value: Tensor) -> Tensor:
        return h * 0 + value


class ByLength(EMAMixer):
    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        mixed = super().forward(x, state, position)
        return Mixed(mixed.y * (1.1 if x.shape[1] >= 64 else 1.0), mixed.state)


def one_parameter(self: Any, d_model: int, scenario: Scenario) -> Cost:
    right = EMA.cost(self, d_model, scenario)
    return Cost(1, right.prefill_flops, right.decode_flops)


def no_batch(self: Any, d_model: int, scenario: Scenario) -> Cost:
    return EMA.cost(self, d_model, Scenario(prompt=scenario.prompt))


def wrong_shape(self: Any, d_model: int) -> dict[str, StateShape]:
    return {"h": StateShape((d_model + 1,), exact=True)}


def missing_axis(self: Any) -> Layout:
    return Layout({"weight": "D"}, "D")


def sorted_without_partner(self: Any) -> Layout:
    return Layout({"weight": "F D"}, "F")


def inexact(self: Any, d_model: int) -> dict[str, StateShape]:
    return {"h": StateShape((d_model,))}


@classmethod  # type: ignore[misc]
def slow_decay(kind: type[EMA]) -> tuple[Block, ...]:
    return (kind(decay=0.999),)
