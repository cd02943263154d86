"""The parts that a latency table knows: what a network is made of, as far as its time goes.

A part is a sublayer as it really runs (norm, block, residual sum, state at its bits; where it reads the
embedding, that too), or what stands around the layers (embedding, final norm, logits). A sublayer is timed
inside a real model: one of 1 and one of 1+k copies, so that its own time and the overhead of a model are told
apart. Bits of weights are part of it where they run on kernels of their own; elsewhere they are emulated:
they change what a model stores, not how long it takes. A decode state that grows makes later steps slower;
such a part may stand at a `position`.

Layers that only some tokens pass (`Layer.passing`) are computed from their parts, not measured: a sublayer
behind a router counts with the router's share, and an exit adds logits; nothing is taken off for tokens that
left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import torch

from foundation.errors import ProfileError, SpaceError
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.measure import decode_call, network_calls
from hw_profiles.timing.rounds import TimedCall
from hw_profiles.timing.timings import READINGS
from search_spaces.blocks.base import Block
from search_spaces.language.printing import brief
from search_spaces.language.serialization import from_plain, to_json, to_plain
from search_spaces.language.space import Space
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.ends import TIED, Head
from search_spaces.network.model import Model, build
from search_spaces.network.norms.base import Norm
from search_spaces.network.norms.rms_norm import DEFAULT as RMS_NORM
from search_spaces.network.sublayers import OpenDecoder, Sublayer, decoders_in, layer_sublayers
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import Factors, factors_of
from search_spaces.scenario import Scenario

COPIES = (1, 3)
"""Copies of a sublayer in the two models that it is timed in: 1 and 1+k."""

STACK_VOCAB = 32
"""The vocabulary of those models: small, because logits are not what is timed there."""

Real = frozenset[Factors]
"""Bits of weights and activations that run on kernels of their own."""

PLAIN: Factors = (16, 16, "int")

NONE_REAL: Real = frozenset()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block at a width with its state at `state_bits`; without a block, what stands around the layers.

    Make it with `part_of`, `block_part` or `outer`: equal times must have equal parts. `position` is
    where a decode step stands, if not where the scenario says; `reads_embedding` as in `Layer`.
    """

    d_model: int
    block: Block | None = None
    state_bits: int = 16
    weight_bits: float = 16
    activation_bits: int = 16
    numbers: str = "int"
    vocab: int | None = None
    position: int | None = None
    reads_embedding: bool = False
    norm: Norm = RMS_NORM
    head: Head = TIED

    def __str__(self) -> str:
        norm = "" if self.norm == RMS_NORM else f", behind {brief(self.norm)}"
        if self.block is None:
            head = "" if self.head == TIED else f", by {brief(self.head)}"
            return f"embedding and logits of {self.vocab} tokens at d_model {self.d_model}{head}{norm}"
        weights = ""
        if self.factors != PLAIN:
            numbers = " (float8)" if self.numbers == "float" else ""
            weights = f", {self.weight_bits}-bit weights and {self.activation_bits}-bit activations{numbers}"
        at = "" if self.position is None else f", decoding at {self.position}"
        state = f"with a {self.state_bits}-bit state"
        reads = ", reading the embedding" if self.reads_embedding else ""
        return f"{brief(self.block)} at d_model {self.d_model} {state}{weights}{reads}{norm}{at}"

    @property
    def factors(self) -> Factors:
        """What its products are made of."""
        return self.weight_bits, self.activation_bits, self.numbers

    @property
    def kind(self) -> str:
        """The kind of block; empty around the layers."""
        return "" if self.block is None else type(self.block).__name__

    @property
    def family(self) -> str:
        """The kind of block, with the bits of its state where those are few, and whether it reads more."""
        name = f"{self.kind}, reading the embedding" if self.reads_embedding else self.kind
        name = name if self.norm == RMS_NORM else f"{name}, behind {brief(self.norm)}"
        return name if self.state_bits == 16 else f"{name} {self.state_bits}-bit state"

    def grows(self, context: int) -> bool:
        """Whether a decode step at the end of `context` tokens reads more than one at their start."""
        shapes = self.block.state(self.d_model).values() if self.block is not None else ()
        return any(shape.per_token and shape.slots(context) > shape.slots(1) for shape in shapes)

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        norm = {"norm": to_plain(self.norm)} if self.norm != RMS_NORM else {}
        if self.block is None:
            head = {"head": to_plain(self.head)} if self.head != TIED else {}
            return {"d_model": self.d_model, "vocab": self.vocab, **norm, **head}
        plain = {
            **norm,
            "d_model": self.d_model,
            "state_bits": self.state_bits,
            "block": to_plain(self.block),
        }
        if self.factors != PLAIN:
            plain |= {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}
        plain |= {"numbers": self.numbers} if self.numbers != "int" else {}
        plain |= {"reads_embedding": True} if self.reads_embedding else {}
        return plain if self.position is None else {**plain, "position": self.position}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Part:
        """The part written by `to_plain`."""
        nodes: dict[str, Any] = {n: from_plain(plain[n]) for n in ("block", "norm", "head") if n in plain}
        return cls(**{**plain, **nodes})


@lru_cache(maxsize=65536)
def block_part(
    block: Block,
    d_model: int,
    state_bits: int,
    products: Factors = PLAIN,
    *,
    reads_embedding: bool = False,
    norm: Norm = RMS_NORM,
) -> Part:
    """The part of a sublayer with this block; see `timed_bits` for `products`.

    The bits of a state that is not there have no effect.
    """
    weight, activation, numbers = products
    return Part(
        d_model=d_model,
        block=block,
        state_bits=state_bits if block.state(d_model) else 16,
        weight_bits=weight,
        activation_bits=activation,
        numbers=numbers,
        reads_embedding=reads_embedding,
        norm=norm,
    )


def part_of(sublayer: Sublayer, real: Real = NONE_REAL) -> Part:
    """What a sublayer with a block is as far as its time goes: sublayers of equal parts take equal times."""
    assert sublayer.block is not None
    bits, norm, reads = sublayer.bits, sublayer.norm, sublayer.reads_embedding
    products = timed_bits(bits, real) if real else PLAIN
    if norm is RMS_NORM and not reads:  # most sublayers: fewer values to hash
        return block_part(sublayer.block, sublayer.d_model, bits.state, products)
    return block_part(
        sublayer.block, sublayer.d_model, bits.state, products, reads_embedding=reads, norm=norm
    )


def timed_bits(bits: Bits, real: Real) -> Factors:
    """Bits of weights and activations as far as they change the time: emulated ones run as 16.

    A pair has a kernel of its own or none: without one, `with_real_kernels` leaves the weights as they are.
    """
    factors = factors_of(bits)
    return factors if factors in real else PLAIN


def outer(vocab: int, d_model: int, norm: Norm = RMS_NORM, head: Head = TIED) -> Part:
    """What stands around the layers."""
    return Part(d_model=d_model, vocab=vocab, norm=norm, head=head)


def around(spec: Decoder, real: Real = NONE_REAL) -> Part:
    """What stands around the layers of a network; bits of its head that run on no kernel change nothing."""
    head = spec.head
    if head.bits != Bits() and factors_of(head.bits) not in real:
        head = replace(head, bits=Bits())
    return outer(spec.vocab, spec.d_model, spec.norm, head)


def layer_parts(layer: Layer, spec: Decoder, real: Real = NONE_REAL) -> tuple[Part, ...]:
    """The parts of the sublayers of a layer of a network."""
    every = layer_sublayers(layer, spec.d_model, norm=spec.norm)
    return tuple([part_of(sublayer, real) for sublayer in every if sublayer.block is not None])


def shares(layer: Layer, spec: Decoder, real: Real = NONE_REAL) -> tuple[tuple[Part, float], ...]:
    """What a layer takes: its parts, and how much of each."""
    parts = layer_parts(layer, spec, real)
    if not layer.options:
        return tuple([(part, 1.0) for part in parts])
    passing = layer.passing
    runs = [passing * layer.runs(place) for place in layer.blocks]
    return (*zip(parts, runs, strict=True), *[(around(spec, real), 1.0)] * layer.predictions)


def parts_of(spec: Decoder, real: Real = NONE_REAL) -> tuple[Part, ...]:
    """All parts of a network, as often as they stand in it."""
    inner = (part for layer in spec.layers for part in layer_parts(layer, spec, real))
    return (around(spec, real), *inner)


def parts_in(space: Space, real: Real = NONE_REAL) -> tuple[Part, ...]:
    """Every part that a network of the space may have, in a fixed order.

    Raises:
        ProfileError: the space is not one of `Decoder`.
    """
    try:
        parts = {part for decoder in decoders_in(space.root) for part in _decoder_parts(decoder, real)}
    except SpaceError as error:
        raise ProfileError(f"a latency profile: {error}") from None
    return tuple(sorted(parts, key=lambda part: (part.d_model, str(part), to_json(part.block))))


def _decoder_parts(decoder: OpenDecoder, real: Real) -> Iterator[Part]:
    widths = list(decoder.closings("d_model"))
    yield from (around(spec, real) for spec, _ in decoder.around())
    # each open layer once, though `repeat` stacks it
    layers = {id(layer.layer): layer for layer in decoder.layers()}
    for layer, place in product(layers.values(), PLACES):
        for sublayer, _ in layer.sublayers(place, widths):
            if sublayer.block is not None:
                yield part_of(sublayer, real)


def stack_of(part: Part, copies: int, scenario: Scenario, *, seed: int = 0) -> Model:
    """A model of nothing but copies of one sublayer, each with weights of its own."""
    if part.block is None:
        empty = Decoder(
            vocab=part.vocab or 1, d_model=part.d_model, layers=(), norm=part.norm, head=part.head
        )
        return build(empty, seed=seed)
    bits = Bits(
        weight=part.weight_bits,
        activation=part.activation_bits,
        state=part.state_bits,
        numbers=part.numbers,
    )
    layer = Layer(  # the first place, whatever it mixes
        sequence_mixer=part.block, bits=bits, reads_embedding=part.reads_embedding
    )
    with torch.device(scenario.device):
        layers = (layer,) * copies
        model = Model(Decoder(vocab=STACK_VOCAB, d_model=part.d_model, layers=layers, norm=part.norm))
        model.reset_parameters(seed)
    return model


def part_calls(part: Part, scenario: Scenario, *, seed: int = 0) -> dict[str, TimedCall]:
    """What to time of a part, by copies and reading, as a network is timed: `3/decode_ms`."""
    timed: dict[str, TimedCall] = {}
    for copies in COPIES if part.block is not None else (0,):
        model = stack_of(part, copies, scenario, seed=seed)
        if part.position is None:
            calls = network_calls(model, scenario, seed=seed)
        else:
            prepared = runtime_of(scenario).prepare(model, scenario, seed=seed)
            calls = {"decode_ms": decode_call(prepared, part.position)}
        timed |= {f"{copies}/{reading}": call for reading, call in calls.items()}
    return timed


def part_samples(timed: dict[str, list[float]]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """A part's own time by reading, from its timings by copies and reading; and the overhead around one."""
    own: dict[str, list[float]] = {}
    around: dict[str, float] = {}
    few, many = COPIES
    for reading in READINGS:
        if f"0/{reading}" in timed:
            own[reading] = timed[f"0/{reading}"]
        elif f"{few}/{reading}" in timed:
            one, more = timed[f"{few}/{reading}"], timed[f"{many}/{reading}"]
            own[reading] = [(b - a) / (many - few) for a, b in zip(one, more, strict=True)]
            around[reading] = _middle(one) - few * _middle(own[reading])
    return own, around


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def at_position(part: Part, position: int) -> Part:
    """The part where a decode step stands at `position`."""
    return replace(part, position=position)
