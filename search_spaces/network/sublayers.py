"""What a decoder is made of: its sublayers, closed and open, with the answers under which each occurs.

A sublayer is one residual step of a layer, `x + mixer(norm(x))`: a sequence mixer or a channel mixer with its
norm, at a width and at bits. Latency, memory, scores and costs are those of sublayers; each takes from it
what it depends on.

    sublayers_of(spec)            those of a network, in their order
    sublayers_in(space)           those that any network of a space may have
    decoders_in(root)             an open decoder, its open layers, and when each of them is there
    cannot_build(block, d_model)  why a block cannot stand in a network of this width
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from itertools import product
from typing import Any

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.base import Block
from search_spaces.language.choices import OneOf, join
from search_spaces.language.space import Space
from search_spaces.language.walk import ALWAYS, Closing, Condition, alternatives, closings, intersection
from search_spaces.network.decoder import AROUND, OPTIONS, PLACES, SHARED, Decoder, Layer, weights_site
from search_spaces.network.norms.base import Norm
from search_spaces.network.norms.rms_norm import DEFAULT
from search_spaces.quantization.bits import Bits

PLAIN = Bits()

OWN_OPTIONS = ("shared", "reads_embedding", "norm_place")
"""Options of its layer that a sublayer itself has."""


@dataclass(frozen=True, slots=True)
class Sublayer:
    """A block at one `place` (the field of its layer), at a width and at bits, behind the network's `norm`.

    Without a block nothing stands there, and x goes through. `site` is where a supernet keeps the weights of
    its layer, where that matters: two sublayers that differ in it alone take the same time and memory.
    """

    place: str
    block: Block | None
    d_model: int
    bits: Bits = PLAIN
    _: KW_ONLY
    reads_embedding: bool = False
    norm: Norm = DEFAULT
    site: str | None = None

    @property
    def path(self) -> str:
        """Its place with the site: `layers.0.sequence_mixer`."""
        return f"{self.site}.{self.place}"

    @property
    def key(self) -> str:
        """Where a supernet keeps the weights of this kind of block at this site."""
        return f"{self.path}:{type(self.block).__name__}"

    @property
    def shared(self) -> str | None:
        """The name of its weights, if layers share them."""
        kind, _, name = (self.site or "").partition(".")
        return name if kind == SHARED else None

    @property
    def state_bits(self) -> int:
        """The bits of its decode state; 16 where it has none, since they have no effect."""
        has_state = self.block is not None and bool(self.block.state(self.d_model))
        return self.bits.state if has_state else 16


def cannot_build(block: Block | None, d_model: int) -> str | None:
    """Why a block cannot stand in a network of this width; None where it can."""
    try:
        if block is not None:
            block.check(d_model)
    except IllegalArchitecture as error:
        return str(error)
    return None


def sublayers_of(spec: Decoder) -> Iterator[Sublayer]:
    """The sublayers of a network in their order, one for each place of each layer, empty ones included."""
    for index, layer in enumerate(spec.layers):
        site = weights_site(layer.shared, index)
        yield from layer_sublayers(layer, spec.d_model, norm=spec.norm, site=site)


def layer_sublayers(layer: Layer, d_model: int, *, norm: Norm, site: str | None = None) -> Iterator[Sublayer]:
    """The sublayers of one layer of a network with this norm, one for each place."""
    reads, norm = layer.reads_embedding, layer.norm_in(norm)
    for place in PLACES:
        block, bits = getattr(layer, place), layer.bits_at(place)
        if block is None:
            yield Sublayer(place, None, d_model, site=site)
        elif reads and place == PLACES[0]:
            yield Sublayer(place, block, d_model, bits, reads_embedding=True, norm=norm, site=site)
        else:
            yield Sublayer(place, block, d_model, bits, norm=norm, site=site)


@dataclass(frozen=True)
class OpenLayer:
    """One way to be the layer at an index: open inside, the path of its questions, and when it is there.

    `norms` are those that its network may have.
    """

    index: int
    layer: Any
    path: str
    condition: Condition
    norms: tuple[Closing, ...]
    merge: Callable[[str, Iterator[Closing]], Iterable[Closing]] | None = None
    """Makes fewer of the values of a field, by its name, where not every one matters."""

    def closings(self, field: str) -> Iterable[Closing]:
        """Every closed value of one of its fields."""
        found = closings(getattr(self.layer, field), join(self.path, field))
        return found if self.merge is None else self.merge(field, found)

    def sublayers(self, place: str, widths: Iterable[Closing]) -> Iterator[tuple[Sublayer, Condition]]:
        """What may stand at a place of it and can be built at one of these widths.

        The conditions include those of the layer and of the widths.
        """
        for block, (site, d_model, outer) in product(self.closings(place), self._around(widths)):
            whole = intersection(outer, block.condition)
            if whole is None or cannot_build(block.value, d_model):
                continue
            empty = Sublayer(place, None, d_model, site=site)
            forms = [(empty, ALWAYS)] if block.value is None else self._forms(empty, block.value)
            for sublayer, inner in forms:
                condition = intersection(whole, inner)
                if condition is not None:
                    yield sublayer, condition

    def bits_at(self, place: str) -> Iterator[Closing]:
        """Every bits that a sublayer at a place may have."""
        field = "bits" if place == PLACES[0] or self.layer.channel_bits is None else "channel_bits"
        yield from self.closings(field)

    def options(self) -> Iterator[Closing]:
        """Values by name of the options of the layer that its sublayers do not have themselves."""
        names = [name for name in OPTIONS if name not in OWN_OPTIONS]
        for values in product(*map(self.closings, names)):
            condition = intersection(*(value.condition for value in values))
            if condition is not None:
                yield Closing({n: v.value for n, v in zip(names, values, strict=True)}, condition)

    def _around(self, widths: Iterable[Closing]) -> list[tuple[str, int, Condition]]:
        """The site of its weights and the width, and when it has both."""
        return [
            (weights_site(shared.value, self.index), width.value, condition)
            for shared, width in product(self.closings("shared"), widths)
            if (condition := intersection(self.condition, shared.condition, width.condition)) is not None
        ]

    def _forms(self, empty: Sublayer, block: Block) -> Iterator[tuple[Sublayer, Condition]]:
        """The sublayer with a block, its bits and its norm; only sequence mixers read the embedding."""
        never: Iterable[Closing] = [Closing(False, ALWAYS)]
        readers = self.closings("reads_embedding") if empty.place == PLACES[0] else never
        norms = product(self.norms, self.closings("norm_place"))
        for bits, reads, (norm, place) in product(self.bits_at(empty.place), readers, norms):
            condition = intersection(bits.condition, reads.condition, norm.condition, place.condition)
            if condition is not None:
                own = replace(empty, block=block, bits=bits.value, reads_embedding=reads.value)
                yield replace(own, norm=norm.value.at(place.value)), condition


@dataclass(frozen=True)
class OpenDecoder:
    """One decoder at the root of a space: open inside, the path of its questions, and when it is chosen."""

    decoder: Any
    path: str
    condition: Condition

    def closings(self, field: str) -> Iterator[Closing]:
        """Every closed value of one of its fields."""
        return closings(getattr(self.decoder, field), join(self.path, field))

    def around(self) -> Iterator[tuple[Decoder, Condition]]:
        """What may stand around the layers, as decoders without any, and when."""
        for values in product(*map(self.closings, AROUND)):
            condition = intersection(self.condition, *(value.condition for value in values))
            if condition is not None:
                named: dict[str, Any] = {n: v.value for n, v in zip(AROUND, values, strict=True)}
                yield Decoder(layers=(), **named), condition

    def layers(self) -> Iterator[OpenLayer]:
        """Every layer that may stand at each index, if this decoder is chosen."""
        stacks, where = self.decoder.layers, join(self.path, "layers")
        norms = tuple(self.closings("norm"))
        if isinstance(stacks, OneOf) and stacks.is_repeat:
            own, depths = stacks.own_path(where), [len(option) for option in stacks.options]
            for index, node in enumerate(stacks.options[depths.index(max(depths))]):
                deep = frozenset(i for i, depth in enumerate(depths) if depth > index)
                yield from _layers_at(index, node, own, {own: deep}, norms)
            return
        for stack, inner, condition in alternatives(stacks, where):
            for index, node in enumerate(stack):
                yield from _layers_at(index, node, inner, condition, norms)

    def shallower(self, index: int) -> Iterator[Condition]:
        """When this decoder has no layer at `index`."""
        stacks, where = self.decoder.layers, join(self.path, "layers")
        if isinstance(stacks, OneOf) and stacks.is_repeat:
            shallow = frozenset(i for i, stack in enumerate(stacks.options) if len(stack) <= index)
            if shallow:
                yield {stacks.own_path(where): shallow}
            return
        for stack, _, condition in alternatives(stacks, where):
            if len(stack) <= index:
                yield condition


def _layers_at(
    index: int, node: Any, path: str, condition: Condition, norms: tuple[Closing, ...]
) -> Iterator[OpenLayer]:
    for layer, inner, chosen in alternatives(node, join(path, index)):
        joined = intersection(condition, chosen)
        if joined is not None:
            yield OpenLayer(index, layer, inner, joined, norms)


def decoders_in(root: Any) -> Iterator[OpenDecoder]:
    """Every decoder that may be the root of a space.

    Raises:
        SpaceError: the root may be something else, or has a soft prompt.
    """
    for node, path, condition in alternatives(root):
        if not isinstance(node, Decoder):
            raise SpaceError(f"this needs a space of Decoder, not of {type(node).__name__}")
        if node.soft_prompt is not None:
            raise SpaceError("a space has no soft_prompt: a network learns one after the search (nas adapt)")
        yield OpenDecoder(node, path, condition)


def sublayers_in(space: Space) -> Iterator[Sublayer]:
    """Every sublayer that a network of the space may have and that can be built, each once.

    Raises:
        SpaceError: the root is no decoder.
    """
    seen: set[Sublayer] = set()
    for decoder in decoders_in(space.root):
        widths = list(decoder.closings("d_model"))
        for layer, place in product(decoder.layers(), PLACES):
            for sublayer, _ in layer.sublayers(place, widths):
                if sublayer not in seen:
                    seen.add(sublayer)
                    yield sublayer
