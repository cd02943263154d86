"""What networks of a space consist of, as their costs count it: parts, and the price of each.

A part is what stands around the layers, or a sublayer in a layer with options. Layers that name the same set
of weights pay for it once: the first of them has the price of a layer of its own, each further one that of
having the weights `AGAIN`, and `ONCE` is the difference.

Many answers of a large space have no effect on a cost, as the bits of activations have none on parameters.
Where there are more parts than `MOST_PARTS`, values of one effect are taken for one value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product
from math import prod
from random import Random
from typing import Any, NamedTuple, TypeAlias

from search_spaces.blocks.base import Block
from search_spaces.language.space import Space
from search_spaces.language.walk import ALWAYS, Closing, Condition, intersection
from search_spaces.network.additive_cost import CHECKED, EXACT, Difference, Total, added_by, prices
from search_spaces.network.decoder import OPTIONS, PLACES, Decoder
from search_spaces.network.sublayers import (
    OWN_OPTIONS,
    OpenDecoder,
    OpenLayer,
    Sublayer,
    layer_sublayers,
)

MOST_PARTS = 8_000
"""Parts of a space that are priced at most."""

OWN, AGAIN, ONCE = "own", "again", "once"
"""Whose weights a sublayer has: its own, those of a layer before it, or what the first has beyond those."""

OPTION_NAMES = tuple(name for name in OPTIONS if name not in OWN_OPTIONS)

Costs: TypeAlias = tuple[float, ...]
"""One number for each of some costs."""


class Part(NamedTuple):
    """A sublayer, the options of its layer by name, and whose its weights are."""

    sublayer: Sublayer
    options: tuple[tuple[str, Any], ...]
    weights: str = OWN


Content: TypeAlias = Decoder | Part
"""What stands somewhere; a decoder without layers is what is around them."""

Signed: TypeAlias = tuple[int, Difference]
"""A difference that is added or subtracted."""


@dataclass(frozen=True)
class Kind:
    """One way to be a layer, wherever it stands: `layer` is the first of this kind.

    `alike` are, by field, values in whose place another stands that has the same effect.
    """

    layer: OpenLayer
    alike: Mapping[str, Mapping[Any, Any]]

    def parts(
        self, place: str, widths: Sequence[Closing], weights: str
    ) -> Iterator[tuple[Part, str | None, Condition]]:
        """What may stand at a place, the name of its weights if they are shared, and when."""
        merged = self._any_layer
        for (sublayer, outer), chosen in product(merged.sublayers(place, widths), list(merged.options())):
            condition = intersection(outer, chosen.condition)
            if condition is not None:
                part = Part(replace(sublayer, site=None), tuple(chosen.value.items()), weights)
                yield part, sublayer.shared, condition

    def most_parts(self, widths: Sequence[Closing]) -> int:
        """How many parts that may be."""
        fields, layer = ("shared", "reads_embedding", *OPTION_NAMES), self._any_layer
        forms = prod(_count(layer.closings(name)) for name in fields)
        blocks = sum(_count(layer.closings(place)) * _count(layer.bits_at(place)) for place in PLACES)
        return blocks * forms * len(widths) * len(self.layer.norms)

    @property
    def _any_layer(self) -> OpenLayer:
        return replace(self.layer, merge=self._merged, condition=ALWAYS)

    def _merged(self, field: str, found: Iterator[Closing]) -> list[Closing]:
        """Values of a field, those of one effect as one, which is there wherever one of them may be."""
        alike, conditions = self.alike.get(field, {}), defaultdict[Any, list[Condition]](list)
        for value, condition in found:
            conditions[alike.get(value, value)].append(condition)
        if not alike:
            return [Closing(value, each) for value, every in conditions.items() for each in every]
        return [Closing(value, _any_of(every)) for value, every in conditions.items()]


@dataclass(frozen=True)
class PricedParts:
    """The parts of a decoder with the costs of each."""

    decoder: OpenDecoder
    kinds: Mapping[int, Kind]
    """By the identity of the open layer."""
    priced: Mapping[Content, Costs]

    @cached_property
    def widths(self) -> list[Closing]:
        """Every width."""
        return list(self.decoder.closings("d_model"))

    def kind_of(self, layer: OpenLayer) -> Kind:
        """The kind of a layer."""
        return self.kinds[id(layer.layer)]

    def costs(self, spec: Decoder) -> list[Costs]:
        """The costs of the parts of a network."""
        alike = next(iter(self.kinds.values())).alike if self.kinds else {}
        seen, found = set[str | None](), [self.priced[replace(spec, layers=())]]
        for layer in spec.layers:
            again = layer.shared is not None and layer.shared in seen
            seen.add(layer.shared)
            for name, same in alike.items():
                layer = replace(layer, **{name: same.get(getattr(layer, name), getattr(layer, name))})
            options = tuple((name, getattr(layer, name)) for name in OPTION_NAMES)
            found += [
                self.priced[Part(sublayer, options, AGAIN if again else OWN)]
                for sublayer in layer_sublayers(layer, spec.d_model, norm=spec.norm)
            ]
        return found


def priced_parts(space: Space, decoder: OpenDecoder, totals: Sequence[Total]) -> PricedParts | None:
    """The parts of a space of one decoder, priced; None where these are no sums of parts, or too many.

    Raises:
        SettingError: the cost of a network is not a finite number.
    """
    alike: Mapping[str, Mapping[Any, Any]] = {}
    contents = _contents(decoder, alike)
    if contents is None:
        alike = _alike(space, decoder, totals)
        contents = _contents(decoder, alike)
    if contents is None:
        return None
    vocab = next(content.vocab for content in contents if isinstance(content, Decoder))
    sublayers = (content.sublayer for content in contents if isinstance(content, Part))
    beside = {sublayer.d_model: sublayer.block for sublayer in sublayers if sublayer.place == PLACES[0]}
    differences = {content: _differences(content, vocab, beside) for content in contents}
    asked = {difference for signed in differences.values() for _, difference in signed}
    by_total = [prices(total, asked) for total in totals]
    priced: dict[Content, Costs] = {
        content: tuple(sum(sign * amounts[d] for sign, d in signed) for amounts in by_total)
        for content, signed in differences.items()
    }
    for part in [c for c in contents if isinstance(c, Part) and c.weights == AGAIN]:
        own, again = priced[part._replace(weights=OWN)], priced[part]
        priced[part._replace(weights=ONCE)] = tuple(one - more for one, more in zip(own, again, strict=True))
    found = PricedParts(decoder, _kinds(decoder, alike), priced)
    return found if _adds_up(space, totals, found) else None


def _count(values: Iterable[Any]) -> int:
    """How many there are, up to more than can be priced."""
    return sum(1 for _ in islice(values, MOST_PARTS + 1))


def _kinds(decoder: OpenDecoder, alike: Mapping[str, Mapping[Any, Any]]) -> dict[int, Kind]:
    kinds: dict[int, Kind] = {}
    for layer in decoder.layers():
        kinds.setdefault(id(layer.layer), Kind(layer, alike))
    return kinds


def _contents(decoder: OpenDecoder, alike: Mapping[str, Mapping[Any, Any]]) -> list[Content] | None:
    """Everything that may stand somewhere, each once; None where that is too much."""
    contents: dict[Content, None] = dict.fromkeys(content for content, _ in decoder.around())
    widths, kinds = list(decoder.closings("d_model")), list(_kinds(decoder, alike).values())
    if sum(kind.most_parts(widths) for kind in kinds) > MOST_PARTS:
        return None
    for kind, place in product(kinds, PLACES):
        for part, shared, _ in kind.parts(place, widths, OWN):
            contents[part] = None
            if shared is not None:
                contents[part._replace(weights=AGAIN)] = None
    return list(contents)


def _differences(content: Content, vocab: int, beside: Mapping[int, Block | None]) -> list[Signed]:
    """What it adds to a network, as differences of networks that are added or subtracted."""
    if isinstance(content, Decoder):
        return [(1, Difference(content))]
    sublayer, options, weights = content
    if sublayer.block is None:
        return []
    empty = Decoder(vocab=vocab, d_model=sublayer.d_model, layers=(), norm=sublayer.norm)
    neighbour = beside[sublayer.d_model]
    assert neighbour is not None
    if weights == OWN:
        return [(1, added_by(sublayer, empty, beside=neighbour, **dict(options)))]
    alone = added_by(sublayer, empty, beside=neighbour, shared=AGAIN, **dict(options))
    pair = [(1, _second(alone.whole))]
    return pair if sublayer.place == PLACES[0] else [*pair, (-1, _second(alone.without))]


def _second(spec: Decoder | None) -> Difference:
    """What a network of one layer adds when it has a second one with the same weights."""
    assert spec is not None
    return Difference(replace(spec, layers=spec.layers * 2), spec)


def _alike(space: Space, decoder: OpenDecoder, totals: Sequence[Total]) -> dict[str, dict[Any, Any]]:
    """By field of a layer, the value that stands for each that has its effect on every cost."""
    networks = _random_networks(space, "alike", most=CHECKED // 3)
    alike: dict[str, dict[Any, Any]] = {}
    for name in ("bits", "channel_bits", *OPTION_NAMES):
        layers = (kind.layer for kind in _kinds(decoder, {}).values())
        values = dict.fromkeys(c.value for layer in layers for c in islice(layer.closings(name), MOST_PARTS))
        first: dict[tuple[float, ...], Any] = {}
        alike[name] = {
            value: first.setdefault(_effect(networks, name, value, totals), value) for value in values
        }
    return alike


def _effect(networks: Sequence[Decoder], name: str, value: Any, totals: Sequence[Total]) -> Costs:
    """The costs of networks all of whose layers, but for those that share weights, have a value."""
    changed = [
        replace(
            spec, layers=tuple(replace(x, **{name: value}) if x.shared is None else x for x in spec.layers)
        )
        for spec in networks
    ]
    return tuple(cost for total in totals for cost in total(changed))


def _adds_up(space: Space, totals: Sequence[Total], parts: PricedParts) -> bool:
    """Whether sums of prices are the costs of random networks."""
    networks = _random_networks(space, "adds up")
    for number, total in enumerate(totals):
        for spec, whole in zip(networks, total(networks), strict=True):
            amount = sum(costs[number] for costs in parts.costs(spec))
            if abs(amount - whole) > EXACT * max(abs(whole), 1e-12):
                return False
    return True


def _random_networks(space: Space, seed: str, most: int = CHECKED) -> list[Decoder]:
    """Some that can be built."""
    dice, networks = Random(seed), list[Decoder]()
    for _ in range(10 * most):
        spec: Decoder = space.draw(lambda path, labels: dice.choice(labels))[1]
        if not space.cannot_be(spec) and len(networks) < most:
            networks.append(spec)
    return networks


def _any_of(conditions: Sequence[Condition]) -> Condition:
    """What holds wherever one of the conditions does, and perhaps elsewhere."""
    common = set(conditions[0]).intersection(*conditions)
    return {gene: frozenset[int]().union(*(c[gene] for c in conditions)) for gene in common}
