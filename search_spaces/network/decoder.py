"""The configuration of a decoder-only language model: layers of a sequence mixer and a channel mixer.

    x = x + sequence_mixer(norm(x));  x = x + channel_mixer(norm(x))

Pre-norm residual layers with RMSNorm and tied embeddings. `Decoder` is plain values; `build` makes the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import torch

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost
from search_spaces.language.printing import brief, show
from search_spaces.language.serialization import parts
from search_spaces.network.adaptive_depth import EarlyExit, MixtureOfDepths
from search_spaces.network.embedding_reader import reader_cost
from search_spaces.quantization.bits import Bits, WeightFormat, state_bytes, weight_bytes
from search_spaces.scenario import Scenario

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
    """One residual layer; `channel_mixer=None` leaves its second half out.

    Layers that name the same `shared` have one set of weights (as Zamba's attention, Glorioso et al. 2024,
    arXiv:2405.16712), and each a decode state of its own. `routing` lets only some tokens pass; `exit` lets
    tokens leave behind this layer (see `adaptive_depth`). With `reads_embedding` the sequence mixer reads the
    embedding of its token beside the residual stream (see `embedding_reader`).
    """

    sequence_mixer: Block
    channel_mixer: Block | None = None
    bits: Bits = Bits()
    shared: str | None = None
    routing: MixtureOfDepths | None = None
    exit: EarlyExit | None = None
    reads_embedding: bool = False

    def check(self, d_model: int) -> None:
        """Raise `IllegalArchitecture` where a block stands in the wrong place or cannot be built."""
        self.bits.check()
        if self.shared is not None and not (isinstance(self.shared, str) and self.shared.isidentifier()):
            raise IllegalArchitecture(f"shared must be a name such as 'attention', got {self.shared!r}")
        if not isinstance(self.reads_embedding, bool):
            raise IllegalArchitecture(f"reads_embedding must be true or false, got {self.reads_embedding!r}")
        for option in (self.routing, self.exit):
            if option is not None:
                option.check()
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
        first: dict[str, int] = {}
        for i, layer in enumerate(self.layers):
            if layer.shared is None:
                continue
            like = first.setdefault(layer.shared, i)
            if layer != self.layers[like]:
                raise IllegalArchitecture(
                    f"layers.{i} shares its weights with layers.{like} as {layer.shared!r},"
                    " so both must be the same"
                )

    def cost(self, scenario: Scenario) -> NetworkCost:
        """Parameters, FLOPs and bytes on paper."""
        total = self._outer_cost(scenario)
        stored = 2 * self.vocab * self.d_model + 4 * self.d_model
        state = growth = 0
        staying, shared = 1.0, set[str]()
        for layer in self.layers:
            again = layer.shared is not None and layer.shared in shared
            shared |= {layer.shared} if layer.shared is not None else set()
            cost, weights = self._layer_cost(layer, scenario, staying)
            total += replace(cost, params=0) if again else cost
            stored += 0 if again else weights
            now, then = (self._layer_state(layer, scenario.context + more) for more in (0, 1))
            state, growth = state + now, growth + then - now
            staying -= layer.exit.share if layer.exit else 0.0
        return NetworkCost(
            total.params,
            total.prefill_flops,
            total.decode_flops - round((1 - staying) * self._logits_flops(scenario)),
            stored,
            state * scenario.batch,
            growth * scenario.batch,
        )

    def _layer_cost(self, layer: Layer, scenario: Scenario, staying: float) -> tuple[Cost, int]:
        """The price and the stored bytes of one layer, when the share `staying` has not left before it."""
        seen = layer.routing.seen(scenario) if layer.routing else scenario
        passing = layer.routing.capacity if layer.routing else 1.0
        total, stored = Cost(), 0
        for place, block in layer.blocks.items():
            cost = block.cost(self.d_model, seen)
            # who has left is still read by sequence mixers, so that later tokens can look back
            computed = passing * (1.0 if place == "sequence_mixer" else staying)
            total += replace(cost, decode_flops=round(computed * cost.decode_flops)) + Cost(
                params=self.d_model
            )
            stored += 4 * self.d_model + block_weight_bytes(block, self.d_model, layer.bits.stored)
        if layer.reads_embedding:
            cost = reader_cost(self.d_model, seen)
            total += replace(cost, decode_flops=round(passing * cost.decode_flops))
            stored += 4 * self.d_model + weight_bytes((self.d_model, 2, self.d_model), WeightFormat())
        if layer.routing:
            score = 2 * scenario.batch * self.d_model
            total += Cost(self.d_model, scenario.prompt * score, score)
            stored += 4 * self.d_model
        if layer.exit:
            logits = self._logits_flops(scenario)
            total += Cost((self.vocab + 1) * self.d_model, logits * scenario.prompt, round(staying * logits))
            stored += 2 * self.vocab * self.d_model + 4 * self.d_model
        return total, stored

    def _layer_state(self, layer: Layer, context: int) -> int:
        """Bytes of a layer's decode state for a batch of one."""
        tokens = layer.routing.tokens(context) if layer.routing else context
        return sum(
            block_state_bytes(block, self.d_model, layer.bits.state, tokens)
            for block in layer.blocks.values()
        )

    def _outer_cost(self, scenario: Scenario) -> Cost:
        """Embedding (shared with the output projection) and final norm."""
        logits = self._logits_flops(scenario)
        return Cost((self.vocab + 1) * self.d_model, logits * scenario.prompt, logits)

    def _logits_flops(self, scenario: Scenario) -> int:
        return 2 * scenario.batch * self.vocab * self.d_model

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
    options = [brief(option) for option in (layer.routing, layer.exit) if option is not None]
    options += ["reads the embedding"] if layer.reads_embedding else []
    options += [f"weights shared as {layer.shared!r}"] if layer.shared is not None else []
    bits = f"  {layer.bits}" if layer.bits != Bits() else ""
    return "  ".join([" + ".join(brief(block) for block in layer.blocks.values()), *options]) + bits


def weights_site(shared: str | None, index: int) -> str:
    """Where a supernet keeps the weights of the layer at `index`, which may share them by name."""
    return f"layers.{index}" if shared is None else f"shared.{shared}"


@lru_cache(maxsize=4096)
def parameter_shapes(block: Block, d_model: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a block, found by building it on the meta device."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in block.build(d_model).named_parameters()}


@lru_cache(maxsize=16384)
def block_weight_bytes(block: Block, d_model: int, stored: WeightFormat) -> int:
    """Stored bytes of a block's parameters."""
    return sum(weight_bytes(shape, stored) for shape in parameter_shapes(block, d_model).values())


@lru_cache(maxsize=16384)
def block_state_bytes(block: Block, d_model: int, bits: int, context: int) -> int:
    """Bytes of a block's decode state for a batch of one."""
    return sum(state_bytes(shape, bits, context) for shape in block.state(d_model).values())
