"""The parts that a latency table knows: what a network is made of, as far as its time goes.

A part is half a layer as it really runs (norm, block, residual sum, state at its bits), or what stands around
the layers (embedding, final norm, logits). Bits of weights are no part of it: networks run with unpacked
weights here, so they change what a model stores, not how long it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from hw_profiles.measure import Task, network_tasks
from search_spaces.blocks.base import Block
from search_spaces.decoder import PLACES, Decoder, Layer
from search_spaces.errors import IllegalArchitecture, ProfileError
from search_spaces.model import Residual, build, dice_at
from search_spaces.scenario import Scenario
from search_spaces.serialise import from_plain, to_json, to_plain
from search_spaces.show import brief
from search_spaces.space import Space
from search_spaces.supernet import alternatives, closings


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block at a width with its state at `state_bits`; without a block, what stands around the layers.

    Make it with `half` or `outer`: equal times must have equal parts.
    """

    d_model: int
    block: Block | None = None
    state_bits: int = 16
    vocab: int | None = None

    def __str__(self) -> str:
        if self.block is None:
            return f"embedding and logits of {self.vocab} tokens at d_model {self.d_model}"
        return f"{brief(self.block)} at d_model {self.d_model} with a {self.state_bits}-bit state"

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        if self.block is None:
            return {"d_model": self.d_model, "vocab": self.vocab}
        return {"d_model": self.d_model, "state_bits": self.state_bits, "block": to_plain(self.block)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Part:
        """The part written by `to_plain`."""
        block = plain.get("block")
        return cls(**{**plain, "block": None if block is None else from_plain(block)})


@lru_cache(maxsize=16384)
def half(block: Block, d_model: int, state_bits: int) -> Part:
    """Half a layer; the bits of a state that is not there do not matter."""
    return Part(d_model=d_model, block=block, state_bits=state_bits if block.state(d_model) else 16)


def outer(vocab: int, d_model: int) -> Part:
    """What stands around the layers."""
    return Part(d_model=d_model, vocab=vocab)


def layer_parts(layer: Layer, d_model: int) -> tuple[Part, ...]:
    """The halves of a layer."""
    return tuple(half(block, d_model, layer.bits.state) for block in layer.blocks.values())


def parts_of(spec: Decoder) -> tuple[Part, ...]:
    """All parts of a network, as often as they stand in it."""
    halves = (part for layer in spec.layers for part in layer_parts(layer, spec.d_model))
    return (outer(spec.vocab, spec.d_model), *halves)


def parts_in(space: Space) -> tuple[Part, ...]:
    """Every part that a network of the space may have, in a fixed order.

    Raises:
        ProfileError: the space is not one of `Decoder`.
    """
    found: set[Part] = set()
    for decoder in alternatives(space.root):
        if not isinstance(decoder, Decoder):
            raise ProfileError(f"only spaces of Decoder can be profiled, not of {type(decoder).__name__}")
        widths = tuple(closings(decoder.d_model))
        found |= {outer(vocab, d_model) for vocab in closings(decoder.vocab) for d_model in widths}
        for layer in _open_layers(decoder.layers):
            found |= {part for d_model in widths for part in _halves(layer, d_model)}
    return tuple(sorted(found, key=lambda part: (part.d_model, str(part), to_json(part.block))))


def _open_layers(layers: Any) -> list[Any]:
    """The open layers of a decoder, each once though `repeat` stacks it."""
    stacks = alternatives(layers)
    distinct = {id(option): option for stack in stacks for entry in stack for option in alternatives(entry)}
    return list(distinct.values())


def _halves(layer: Any, d_model: int) -> Iterator[Part]:
    widths = {bits.state for bits in closings(layer.bits)}
    for place in PLACES:
        for block in closings(getattr(layer, place)):
            if block is not None and _fits(block, d_model):
                yield from (half(block, d_model, state_bits) for state_bits in widths)


def _fits(block: Block, d_model: int) -> bool:
    try:
        block.check(d_model)
    except IllegalArchitecture:
        return False
    return True


def part_tasks(part: Part, scenario: Scenario, *, seed: int = 0) -> dict[str, Task]:
    """What to time of a part, by reading."""
    if part.block is None:
        shell = Decoder(vocab=part.vocab or 1, d_model=part.d_model, layers=())
        return network_tasks(build(shell, seed=seed), scenario, seed=seed, steps=1)
    module = Residual(part.block, part.d_model, part.state_bits)
    dice = dice_at(seed, str(part), torch.device("cpu"))
    with torch.no_grad():
        module.norm.fill_(1.0)
        module.mixer.reset_parameters(dice)
    shape = (scenario.batch, scenario.decode_position, part.d_model)
    x = torch.randn(shape, generator=dice)
    return _half_tasks(module, x, scenario)


def _half_tasks(module: Residual, x: torch.Tensor, scenario: Scenario) -> dict[str, Task]:
    dtype = getattr(torch, scenario.dtype)
    module, x = module.to(scenario.device, dtype), x.to(scenario.device, dtype)
    batch, capacity, position = scenario.batch, scenario.context, scenario.decode_position
    prompt, token = x[:, : scenario.prompt].contiguous(), x[:, -1].contiguous()
    with torch.no_grad():
        state = module(x, module.init_state(batch, capacity)).state or {}
    return {
        "prefill_ms": Task(lambda: module(prompt, module.init_state(batch, capacity))),
        "decode_ms": Task(lambda: module.step(token, state, position), primed=True),
    }
