"""The configuration of a decoder-only language model: layers of a sequence mixer and a channel mixer.

    x = x + sequence_mixer(norm(x));  x = x + channel_mixer(norm(x))

Residual layers with one kind of norm (RMSNorm in front of each mixer by default) between an embedding and a
head, tied by default. `Decoder` is plain values; `build` makes the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from html import escape
from itertools import groupby
from math import prod
from operator import attrgetter, is_
from types import MappingProxyType
from typing import Any, TypeGuard

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.base import Block, Cost
from search_spaces.language.absence import require_defined
from search_spaces.language.choices import OneOf
from search_spaces.language.printing import brief, show
from search_spaces.language.serialization import parts
from search_spaces.language.walk import children, open_values
from search_spaces.network.cost import NetworkCost, block_state_bytes, block_weight_bytes, decoded_by
from search_spaces.network.ends import AS_USUAL, TIED, Embedding, Head, check_ends
from search_spaces.network.norms.base import AFTER, Norm
from search_spaces.network.norms.rms_norm import DEFAULT
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.options.base import LayerOption, option, option_bytes
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.options.norm_place import NormPlace
from search_spaces.network.options.parallel_halves import ParallelHalves
from search_spaces.network.options.reads_embedding import ReadsEmbedding
from search_spaces.network.options.weight_sharing import WeightSharing
from search_spaces.network.shell import Shell
from search_spaces.network.soft_prompt import SoftPrompt
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

PLACES = ("sequence_mixer", "channel_mixer")
SHARED = "shared"
"""How the site of weights begins that layers share."""

NO_OPTIONS: Mapping[str, LayerOption] = MappingProxyType({})


@parts.add
@dataclass(frozen=True, kw_only=True)
class Layer:
    """One residual layer; `channel_mixer=None` leaves its second sublayer out.

    Layers that name the same `shared` have one set of weights, and each a decode state of its own. `routing`
    lets only some tokens pass; `exit` lets tokens leave behind this layer. With `reads_embedding` the
    sequence mixer reads the embedding of its token beside the residual stream. With `parallel` both mixers
    read the same x. `norm_place` is where its sublayers have their norm, if not where the network says. With
    `precision` most tokens read the channel mixer at fewer bits. See the files of `network.options`, whose
    contract (`LayerOption`) says what others may do with a layer that has one.

    `channel_bits` are those of the channel mixer; None: `bits`, like the sequence mixer.

    Raises:
        SpaceError: `channel_bits` may be None or something else, so that equal networks had two names.
    """

    sequence_mixer: Block
    channel_mixer: Block | None = None
    bits: Bits = Bits()
    shared: str | None = option(WeightSharing)
    routing: MixtureOfDepths | None = option(MixtureOfDepths)
    exit: EarlyExit | None = option(EarlyExit)
    reads_embedding: bool = option(ReadsEmbedding, default=False)
    parallel: bool = option(ParallelHalves, default=False)
    norm_place: str | None = option(NormPlace)
    channel_bits: Bits | None = None
    precision: AdaptivePrecision | None = option(AdaptivePrecision)

    def __post_init__(self) -> None:
        channel = self.channel_bits
        if channel is None:
            return
        if isinstance(channel, OneOf) and None in channel.options:
            raise SpaceError(
                "channel_bits: None beside other options means some networks twice; leave None out, and list"
                " the bits that the channel mixer may have"
            )
        if channel == self.bits and next(open_values(channel), None) is None:
            object.__setattr__(self, "channel_bits", None)  # so that equal layers are equal

    def check(self, d_model: int) -> None:
        """Raise `IllegalArchitecture` where a block stands in the wrong place or cannot be built."""
        for bits in dict.fromkeys(map(self.bits_at, PLACES)):
            bits.check()
        for present in self.options.values():
            present.check()
        for place, mixes in zip(PLACES, ("sequence", "channels"), strict=True):
            block = getattr(self, place)
            if block is None and place == "channel_mixer":
                continue
            require_defined(block)
            if not isinstance(block, Block) or block.mixes != mixes:
                raise IllegalArchitecture(f"{place} must be a block that mixes {mixes}, got {block!r}")
            block.check(d_model)
        for present in self.options.values():
            present.check_layer(self, d_model)

    # properties without a cache: one would live in `__dict__`, and slow down every hash of a layer

    @property
    def blocks(self) -> dict[str, Block]:
        """The blocks that are there, by place."""
        return {place: block for place in PLACES if (block := getattr(self, place)) is not None}

    @property
    def options(self) -> Mapping[str, LayerOption]:
        """The options that it has, by field.

        Raises:
            IllegalArchitecture: a field holds what is no option of its kind.
        """
        # most layers have none, and a search asks each of its layers
        if all(map(is_, _option_values(self), OPTION_DEFAULTS)):
            return NO_OPTIONS
        meant = {name: kind.of(getattr(self, name)) for name, kind in OPTIONS.items()}
        return {name: present for name, present in meant.items() if present is not None}

    def bits_at(self, place: str) -> Bits:
        """The bits of the sublayer at a place."""
        return self.bits if self.channel_bits is None or place == PLACES[0] else self.channel_bits

    def children_like(self, part: Layer) -> list[tuple[str | int, Any]]:
        """Its fields, the bits of the channel mixer spelled out where an open layer has them."""
        own = dict(children(self))
        if part.channel_bits is not None:
            own["channel_bits"] = self.bits_at(PLACES[1])
        return list(own.items())

    def norm_in(self, norm: Norm) -> Norm:
        """The norm of its sublayers, in a network that has this one."""
        return norm.at(self.norm_place)

    @property
    def not_additive(self) -> str:
        """Why costs and effects of its sublayers do not add up with those of others; empty where they do."""
        return next((o.not_additive for o in self.options.values() if o.not_additive), "")

    @property
    def not_static(self) -> str:
        """Why its shapes depend on values; empty where they do not."""
        return next((o.not_static for o in self.options.values() if o.not_static), "")

    @property
    def passing(self) -> float:
        """The share of tokens that its sublayers compute."""
        return prod(o.passing for o in self.options.values())

    @property
    def leaving(self) -> float:
        """The share of all tokens that is expected to leave the network behind it."""
        return sum(o.leaving for o in self.options.values())

    @property
    def predictions(self) -> int:
        """How often logits are made in it."""
        return sum(o.predicts for o in self.options.values())

    def runs(self, place: str) -> int:
        """How often the sublayer at a place is computed for a token that it computes."""
        return 1 + (place != PLACES[0] and any(o.reads_channels_twice for o in self.options.values()))

    def seen(self, scenario: Scenario) -> Scenario:
        """The scenario as its sublayers see it."""
        return reduce(lambda seen, o: o.seen(seen), self.options.values(), scenario)

    def tokens(self, count: int) -> int:
        """How many of `count` tokens its sublayers keep a state of."""
        return reduce(lambda kept, o: o.tokens(kept), self.options.values(), count)

    def with_static_shapes(self) -> Layer:
        """The same layer without the options that make shapes depend on values."""
        dynamic = [name for name, present in self.options.items() if present.not_static]
        absent: dict[str, Any] = {part.name: part.default for part in fields(self) if part.name in dynamic}
        return replace(self, **absent)


OPTIONS: Mapping[str, type[LayerOption]] = {
    field.name: field.metadata["option"] for field in fields(Layer) if "option" in field.metadata
}
"""The fields of a layer that hold options, with their kinds."""

OPTION_DEFAULTS = tuple(field.default for field in fields(Layer) if field.name in OPTIONS)
_option_values = attrgetter(*OPTIONS)


@parts.add
@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder-only language model over `vocab` tokens, `d_model` wide; `norm` is that of all its parts.

    `embedding` and `head` say how tokens are read and predicted (`network.ends`). A `soft_prompt` is what an
    adapted network reads before any text (`network.soft_prompt`).
    """

    vocab: int = 256
    d_model: int
    layers: tuple[Layer, ...]
    norm: Norm = DEFAULT
    embedding: Embedding = AS_USUAL
    head: Head = TIED
    soft_prompt: SoftPrompt | None = None

    def check(self) -> None:
        """Raise `IllegalArchitecture`, naming the place, where this cannot be built."""
        for name in ("vocab", "d_model"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise IllegalArchitecture(f"{name} must be a positive integer, got {value!r}")
        require_defined(self.norm)
        if not isinstance(self.norm, Norm):
            raise IllegalArchitecture(f"norm must be a norm such as RMSNorm(), got {self.norm!r}")
        self.norm.check()
        check_ends(self.embedding, self.head)
        if not isinstance(self.layers, tuple):
            raise IllegalArchitecture(f"layers must be a tuple of layers, got {self.layers!r}")
        for i, layer in enumerate(self.layers):
            require_defined(layer)
            if not isinstance(layer, Layer):
                raise IllegalArchitecture(f"layers.{i} must be a Layer, got {layer!r}")
            try:
                layer.check(self.d_model)
            except IllegalArchitecture as error:
                raise IllegalArchitecture(f"layers.{i}: {error}") from None
            if layer.reads_embedding and layer.norm_in(self.norm).place == AFTER:
                raise IllegalArchitecture(
                    f"layers.{i}: reads_embedding needs a norm in front of the mixer,"
                    f" and its place is {AFTER!r}"
                )
        if self.soft_prompt is not None:
            require_defined(self.soft_prompt)
            if not isinstance(self.soft_prompt, SoftPrompt):
                raise IllegalArchitecture(f"soft_prompt must be a SoftPrompt, got {self.soft_prompt!r}")
            self.soft_prompt.check(self.layers)
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

    @property
    def around(self) -> tuple[Any, ...]:
        """The values of what stands around the layers: quick to hash."""
        return _around_values(self)

    @property
    def shell(self) -> Shell:
        """What stands around the layers."""
        return Shell(self.vocab, self.d_model, self.norm, self.embedding, self.head)

    def cost(self, scenario: Scenario) -> NetworkCost:
        """Analytic parameters, FLOPs and bytes."""
        if self.soft_prompt is not None:
            return self._prompted_cost(scenario, self.soft_prompt)
        shell = self.shell
        total, stored = shell.cost(scenario), shell.stored_bytes
        state = growth = 0
        staying, shared = 1.0, set[str]()
        for layer in self.layers:
            again = layer.shared is not None and layer.shared in shared
            shared |= {layer.shared} if layer.shared is not None else set()
            total += self._layer_cost(layer, scenario, staying, again)
            stored += 0 if again else self._layer_bytes(layer)
            now, then = self._layer_states(layer, scenario.context)
            state, growth = state + now, growth + then - now
            staying -= layer.leaving
        return NetworkCost(
            total.params,
            total.prefill_flops,
            total.decode_flops - round((1 - staying) * shell.logits_flops(scenario)),
            stored,
            state * scenario.batch,
            growth * scenario.batch,
        )

    def _prompted_cost(self, scenario: Scenario, prompt: SoftPrompt) -> NetworkCost:
        """That of the network without it, whose text stands behind so many tokens that were read before."""
        plain, more = replace(self, soft_prompt=None), prompt.params(self.d_model, self.layers)
        before = plain.cost(replace(scenario, prompt=prompt.tokens))
        whole = plain.cost(replace(scenario, prompt=prompt.tokens + scenario.prompt))
        return replace(
            whole,
            params=whole.params + more,
            prefill_flops=whole.prefill_flops - before.prefill_flops,
            weight_bytes=whole.weight_bytes + 4 * more,
        )

    def sizes(self) -> tuple[int, int]:
        """Parameters, and the values of a decode state of one token; from formulas, so nothing is built."""
        shared = set[str | None]()
        params, state = self.shell.cost(Scenario()).params, 0
        sizes = {layer: self.layer_sizes(layer) for layer in dict.fromkeys(self.layers)}
        for layer in self.layers:
            again = layer.shared is not None and layer.shared in shared
            shared.add(layer.shared)
            params += 0 if again else sizes[layer][0]
            state += sizes[layer][1]
        if self.soft_prompt is not None:
            params += self.soft_prompt.params(self.d_model, self.layers)
        return params, state

    def layer_sizes(self, layer: Layer) -> tuple[int, int]:
        """Parameters of one layer, and the values of its decode state of one token; from formulas."""
        params = self._layer_cost(layer, Scenario(), 1.0, again=False).params
        states = (block.state(self.d_model) for block in layer.blocks.values())
        return params, sum(prod(shape.allocated(1, 1)) for state in states for shape in state.values())

    def _layer_cost(self, layer: Layer, scenario: Scenario, staying: float, again: bool) -> Cost:
        """The price of one layer, which the share `staying` has not left before; `again` has its weights."""
        options, norm = layer.options, layer.norm_in(self.norm)
        seen, passing = (layer.seen(scenario), layer.passing) if options else (scenario, 1.0)
        total = Cost()
        for place, block in layer.blocks.items():
            cost = block.cost(self.d_model, seen)
            # who has left is still read by sequence mixers, so that later tokens can look back
            computed = passing * (1.0 if place == "sequence_mixer" else staying)
            total += decoded_by(computed, cost) + Cost(params=norm.sublayer_params(self.d_model))
        shares = {"all": 1.0, "passing": passing, "staying": staying}
        for present in options.values():
            cost = present.cost(self.shell, seen if present.computed == "passing" else scenario)
            total += decoded_by(shares[present.computed], cost)
        return replace(total, params=0) if again else total

    def _layer_bytes(self, layer: Layer) -> int:
        """The stored bytes of one layer."""
        blocks = layer.blocks
        stored = len(blocks) * 4 * layer.norm_in(self.norm).sublayer_params(self.d_model)
        for place, block in blocks.items():
            stored += block_weight_bytes(block, self.d_model, layer.bits_at(place).stored)
        return stored + sum([option_bytes(present, self.shell) for present in layer.options.values()])

    def _layer_states(self, layer: Layer, context: int) -> tuple[int, int]:
        """Bytes of a layer's decode state for a batch of one, after `context` tokens and after one more."""
        now, then = (
            (layer.tokens(context), layer.tokens(context + 1)) if layer.options else (context, context + 1)
        )
        blocks = [(block, layer.bits_at(place).state) for place, block in layer.blocks.items()]
        return (
            sum([block_state_bytes(block, self.d_model, bits, now) for block, bits in blocks]),
            sum([block_state_bytes(block, self.d_model, bits, then) for block, bits in blocks]),
        )

    def __str__(self) -> str:
        """The layer strip: runs of equal layers on one line."""
        usual = (("norm", DEFAULT), ("embedding", AS_USUAL), ("head", TIED), ("soft_prompt", None))
        more = [f", {name}={brief(own)}" for name, value in usual if (own := getattr(self, name)) != value]
        about = f"vocab={self.vocab}, d_model={self.d_model}{''.join(more)}"
        lines = [f"Decoder({about}), {len(self.layers)} layers"]
        index = 0
        for layer, run in groupby(self.layers):
            count = len(list(run))
            place = f"{index}" if count == 1 else f"{index}-{index + count - 1}"
            lines.append(f"  {place:>5}  {strip(layer)}")
            index += count
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Its width and the kinds of its blocks, in a line."""
        if not isinstance(self.layers, tuple):
            return f"<Decoder {brief(self.d_model)} wide: layers are open>"
        runs = [(kinds, len(list(run))) for kinds, run in groupby(map(_kinds, self.layers))]
        shown = [kinds if times == 1 else f"{times} \N{MULTIPLICATION SIGN} {kinds}" for kinds, times in runs]
        return f"<Decoder {brief(self.d_model)} wide: {', '.join(shown)}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


AROUND = tuple(field.name for field in fields(Decoder) if field.name != "layers")
"""The fields of a decoder that say what stands around its layers."""

_around_values = attrgetter(*AROUND)


def has_plain_layers(spec: object) -> TypeGuard[Decoder]:
    """Whether this is a decoder whose layers are all of the library's own kind, `Layer`."""
    return isinstance(spec, Decoder) and all(isinstance(layer, Layer) for layer in spec.layers)


def _kinds(layer: Any) -> str:
    """The kinds of a layer's blocks; a part that is open, as it stands."""
    closed = isinstance(layer, Layer) and next(open_values(layer), None) is None
    return " + ".join(type(block).__name__ for block in layer.blocks.values()) if closed else brief(layer)


def strip(layer: Layer) -> str:
    """One layer in one line."""
    if not isinstance(layer, Layer) or next(open_values(layer), None) is not None:
        return show(layer).replace("\n", " ")
    options = map(str, layer.options.values())
    own, channel = map(layer.bits_at, PLACES)
    bits = f"  {own}" if own != Bits() or channel != own else ""
    bits += f", channel mixer {channel}" if channel != own else ""
    return "  ".join([" + ".join(brief(block) for block in layer.blocks.values()), *options]) + bits


def weights_site(shared: str | None, index: int) -> str:
    """Where a supernet keeps the weights of the layer at `index`, which may share them by name."""
    return f"layers.{index}" if shared is None else f"{SHARED}.{shared}"
