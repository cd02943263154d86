"""The configuration of a decoder-only language model: layers of a sequence mixer and a channel mixer.

    x = x + sequence_mixer(norm(x));  x = x + channel_mixer(norm(x))

Pre-norm residual layers with RMSNorm and tied embeddings. `Decoder` is plain values; `build` makes the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch

from search_spaces.bits import Bits, state_bytes, weight_bytes
from search_spaces.blocks.base import Block, Cost
from search_spaces.errors import IllegalArchitecture
from search_spaces.scenario import Scenario
from search_spaces.serialise import parts
from search_spaces.show import brief, show

PLACES = ("sequence_mixer", "channel_mixer")


@dataclass(frozen=True)
class NetworkCost:
    """The price of a whole network on paper, under one scenario.

    `weight_bytes` is what an exported model stores; `state_bytes` is the decode state after the scenario's
    last token, for its whole batch; `state_bytes_per_token` is how much of it one further token adds.
    """

    params: int
    prefill_flops: int
    decode_flops: int
    weight_bytes: int
    state_bytes: int
    state_bytes_per_token: int


@parts.add
@dataclass(frozen=True, kw_only=True)
class Layer:
    """One residual layer; `channel_mixer=None` leaves its second half out."""

    sequence_mixer: Block
    channel_mixer: Block | None = None
    bits: Bits = Bits()

    def check(self, d_model: int) -> None:
        """Raise `IllegalArchitecture` where a block stands in the wrong place or cannot be built."""
        self.bits.check()
        for place, mixes in zip(PLACES, ("sequence", "channels"), strict=True):
            block = getattr(self, place)
            if block is None and place == "channel_mixer":
                continue
            if not isinstance(block, Block) or block.mixes != mixes:
                raise IllegalArchitecture(f"{place} must be a block that mixes {mixes}, got {block!r}")
            block.check(d_model)

    @property
    def blocks(self) -> dict[str, Block]:
        """The blocks that are there, by place."""
        there = {place: getattr(self, place) for place in PLACES}
        return {place: block for place, block in there.items() if block is not None}


@parts.add
@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder-only language model over `vocab` tokens, `d_model` wide."""

    vocab: int = 256
    d_model: int
    layers: tuple[Layer, ...]

    def check(self) -> None:
        """Raise `IllegalArchitecture`, naming the place, where this cannot be built."""
        for name in ("vocab", "d_model"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise IllegalArchitecture(f"{name} must be a positive integer, got {value!r}")
        for i, layer in enumerate(self.layers):
            try:
                layer.check(self.d_model)
            except IllegalArchitecture as error:
                raise IllegalArchitecture(f"layers.{i}: {error}") from None

    def cost(self, scenario: Scenario) -> NetworkCost:
        """Parameters, FLOPs and bytes on paper."""
        total = self._outer_cost(scenario)
        stored = 2 * self.vocab * self.d_model + 4 * self.d_model
        state = growth = 0
        for layer in self.layers:
            for block in layer.blocks.values():
                total += block.cost(self.d_model, scenario) + Cost(params=self.d_model)
                stored += 4 * self.d_model + block_weight_bytes(block, self.d_model, layer.bits.weight)
                now, then = (
                    block_state_bytes(block, self.d_model, layer.bits.state, scenario.context + more)
                    for more in (0, 1)
                )
                state, growth = state + now, growth + then - now
        return NetworkCost(
            total.params,
            total.prefill_flops,
            total.decode_flops,
            stored,
            state * scenario.batch,
            growth * scenario.batch,
        )

    def _outer_cost(self, scenario: Scenario) -> Cost:
        """Embedding (shared with the output projection) and final norm."""
        logits = 2 * scenario.batch * self.vocab * self.d_model
        return Cost((self.vocab + 1) * self.d_model, logits * scenario.prompt, logits)

    def __str__(self) -> str:
        """The layer strip: runs of equal layers on one line."""
        lines = [f"Decoder(vocab={self.vocab}, d_model={self.d_model}), {len(self.layers)} layers"]
        index = 0
        for layer, run in groupby(self.layers):
            count = len(list(run))
            place = f"{index}" if count == 1 else f"{index}-{index + count - 1}"
            lines.append(f"  {place:>5}  {strip(layer)}")
            index += count
        return "\n".join(lines)


def strip(layer: Layer) -> str:
    """One layer in one line."""
    if not isinstance(layer, Layer) or not all(isinstance(b, Block) for b in layer.blocks.values()):
        return show(layer).replace("\n", " ")
    bits = f"  w{layer.bits.weight}/s{layer.bits.state} bits" if layer.bits != Bits() else ""
    return " + ".join(brief(block) for block in layer.blocks.values()) + bits


@lru_cache(maxsize=4096)
def parameter_shapes(block: Block, d_model: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a block, found by building it on the meta device."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in block.build(d_model).named_parameters()}


@lru_cache(maxsize=16384)
def block_weight_bytes(block: Block, d_model: int, bits: int) -> int:
    """Stored bytes of a block's parameters."""
    return sum(weight_bytes(shape, bits) for shape in parameter_shapes(block, d_model).values())


@lru_cache(maxsize=16384)
def block_state_bytes(block: Block, d_model: int, bits: int, context: int) -> int:
    """Bytes of a block's decode state for a batch of one."""
    return sum(state_bytes(shape, bits, context) for shape in block.state(d_model).values())
