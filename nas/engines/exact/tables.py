"""From a space to tables: places, what may stand there, and what it adds to the score and to every cost.

Places are the network around the layers (its width, its vocabulary) and the two halves of each layer. Options
of one place differ in block, width and bits; the genes of the space say which may stand together: the bits of
a layer are those of both halves, the width is that of all layers, and behind the last layer of a shallow
network every later one is left out.

A cost is a function of whole networks (an objective). What a half adds to it is the difference of two small
networks, with the half and without; how far such sums are from the function itself is measured on random
networks (`deviation`). Latency tables, bytes and counted numbers add up; a peak of memory does not, and is
only checked, network by network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Any, TypeAlias

from evaluators.blockwise.replacement import LAYER, Moved, canonical
from evaluators.blockwise.sublayers import Half, halves_of
from foundation.errors import SpaceError
from nas.engines.exact.integer_program import Choice, Chosen, Option, Picks, Place
from search_spaces.language.choices import OneOf, join
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import (
    Condition,
    OpenLayer,
    both,
    closings_if,
    open_layers,
    options_if,
)
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.quantization.bits import Bits

Total: TypeAlias = Callable[[Sequence[Decoder]], Sequence[float]]
"""A cost of whole networks, all of them at once."""

CHECKED = 32
EXACT = 1e-6
"""The relative error below which a cost is said to add up."""

Named: TypeAlias = "dict[Half, list[Condition]]"
"""What may stand at a place, and under which answers."""

Pair: TypeAlias = "tuple[Decoder | None, Decoder | None]"

ALONE = ("shared", "routing", "exit")
"""Fields of a layer that must be None for its halves to add up."""

BEHIND = "behind the last layer"
"""The site of the second half of a layer that is left out: the first has the score of both."""


@dataclass(frozen=True)
class Network:
    """The choice over a space: `choice` knows numbers only, the rest knows what they stand for."""

    space: Space
    parent: Decoder
    scores: Mapping[Half, Moved]
    choice: Choice

    def spec(self, chosen: Chosen | Picks) -> Decoder:
        """The network that was chosen, unchecked."""
        picks = chosen.picks if isinstance(chosen, Chosen) else chosen
        names = [p.options[i].name for p, i in zip(self.choice.places, picks, strict=True)]
        outer, *halves = names
        assert isinstance(outer, Half)
        layers = []
        for sequence, channels in zip(halves[::2], halves[1::2], strict=True):
            assert isinstance(sequence, Half)
            assert isinstance(channels, Half)
            if sequence.block is not None:
                layers.append(
                    Layer(
                        sequence_mixer=sequence.block,
                        channel_mixer=channels.block,
                        bits=sequence.bits,
                    )
                )
        return Decoder(vocab=self.parent.vocab, d_model=outer.d_model, layers=tuple(layers))

    def genotype(self, chosen: Chosen | Picks) -> Genotype:
        """Its answers.

        Raises:
            IllegalArchitecture: a constraint of the space says no.
        """
        return self.space.genotype_of(self.spec(chosen))

    def predicted(self, spec: Decoder) -> float:
        """The sum of the scores over a network: what its divergence from the parent should be, in nats.

        Raises:
            SpaceError: it has a part that was not scored.
        """
        parts = [Half("", None, spec.d_model)]
        parts += [canonical(half) for _, _, half in halves_of(spec)]
        depth = len(self.parent.layers)
        parts += [Half(LAYER.format(i), None, spec.d_model) for i in range(len(spec.layers), depth)]
        missing = [part for part in parts if part not in self.scores]
        if missing:
            raise SpaceError(f"{missing[0].site or 'the width'} of this network was not scored: {missing[0]}")
        return math.fsum(self.scores[part].kl for part in parts)


def network(
    space: Space,
    parent: Decoder,
    scores: Mapping[Half, Moved],
    totals: Mapping[str, Total],
    *,
    allows: Callable[[Decoder], bool] = lambda spec: True,
) -> Network:
    """The choice over a space by these scores and costs.

    Layers that share weights, have a router or an exit are left out: their halves do not add up. What the
    space or `allows` objects to is never chosen.

    Raises:
        SpaceError: the parent is not as deep as the space, or nothing is left at some place.
    """
    depth = len(parent.layers)
    places = {"": _outer(space, parent.vocab)}
    for index in range(depth):
        for place in PLACES:
            places[f"{LAYER.format(index)}.{place}"] = _at(space, index, place)
    if any(layer.index >= depth for layer in _layers(space)):
        raise SpaceError(
            f"the space has networks deeper than the {depth} layers of the parent: choose a deeper one"
        )
    tables = []
    for name, found in places.items():
        known = [half for half in found if _scored(half) in scores or half.site == BEHIND]
        pairs = {half: _pair(half, name, places, parent.vocab) for half in known}
        priced = {cost: _prices(total, pairs) for cost, total in totals.items()}
        options = []
        for half in known:
            score = 0.0 if half.site == BEHIND else scores[_scored(half)].kl
            costs = {cost: prices[half] for cost, prices in priced.items()}
            options += [Option(half, score, costs, condition) for condition in found[half]]
        if not options:
            raise SpaceError(f"nothing that may stand at {name or 'the width'} was scored")
        tables.append(Place(name or "around the layers", tuple(options)))

    def fits(picks: Picks) -> bool:
        spec = made.spec(picks)
        return space.objection(spec) is None and allows(spec)

    made = Network(space, parent, scores, Choice(tables, allows=fits))
    return made


def deviation(net: Network, totals: Mapping[str, Total], *, seed: int = 0) -> dict[str, float]:
    """By cost, the largest relative error of the sum of its parts on random networks."""
    dice = Random(f"{seed}/deviation")
    specs = [spec for spec in _random(net.space, dice) if _plain(spec)][:CHECKED]
    lookup = [{o.name: o for o in place.options} for place in net.choice.places]
    worst = {}
    for name, total in totals.items():
        worst[name] = 0.0
        for spec, whole in zip(specs, total(specs), strict=True):
            names = _names(spec, len(net.parent.layers))
            if not all(n in known for n, known in zip(names, lookup, strict=True)):
                continue
            parts = math.fsum(known[n].costs[name] for n, known in zip(names, lookup, strict=True))
            worst[name] = max(worst[name], abs(parts - whole) / max(abs(whole), 1e-12))
    return worst


def random_networks(net: Network, count: int, *, seed: int) -> list[Decoder]:
    """Random networks of the space of which every part was scored, each once."""
    dice, found = Random(f"{seed}/networks"), dict[Decoder, None]()
    for spec in _random(net.space, dice, tries=50 * count):
        if _plain(spec):
            try:
                net.predicted(spec)
            except SpaceError:
                continue
            found[spec] = None
        if len(found) == count:
            break
    return list(found)


def _random(space: Space, dice: Random, tries: int = 4 * CHECKED) -> Iterator[Decoder]:
    for _ in range(tries):
        yield space.close(space.sample(dice))


def _plain(spec: Decoder) -> bool:
    return all(layer.shared is None and layer.routing is None and layer.exit is None for layer in spec.layers)


def _names(spec: Decoder, depth: int) -> list[Half]:
    """The options that make up a network, in the order of the places."""
    names = [Half("", None, spec.d_model)]
    names += [_nameless(half) for _, _, half in halves_of(spec)]
    for index in range(len(spec.layers), depth):
        names += [Half(LAYER.format(index), None, spec.d_model), Half(BEHIND, None, spec.d_model)]
    return names


def _nameless(half: Half) -> Half:
    """Where no block stands there are no bits."""
    return half if half.block is not None else Half(half.site, None, half.d_model)


def _scored(half: Half) -> Half:
    return canonical(half)


def _layers(space: Space) -> Iterator[OpenLayer]:
    """Every layer that may stand in a network, with the whole condition under which it does."""
    for decoder, path, root in options_if(space.root, ""):
        for layer in open_layers(decoder, path):
            joined = both(root, layer.condition)
            if joined is not None:
                yield replace(layer, condition=joined)


def _outer(space: Space, vocab: int) -> Named:
    """The widths."""
    found: Named = {}
    for d_model, condition in _widths(space, vocab):
        found.setdefault(Half("", None, d_model), []).append(condition)
    return found


def _widths(space: Space, vocab: int) -> Iterator[tuple[int, Condition]]:
    for decoder, path, root in options_if(space.root, ""):
        for known, one in closings_if(decoder.vocab, join(path, "vocab")):
            for d_model, other in closings_if(decoder.d_model, join(path, "d_model")):
                joined = _all(root, one, other)
                if known == vocab and joined is not None:
                    yield d_model, joined


def _at(space: Space, index: int, place: str) -> Named:
    """What may stand at a place of the layer at `index`, or that the layer is left out."""
    found: Named = {}
    for decoder, path, root in options_if(space.root, ""):
        widths = list(closings_if(decoder.d_model, join(path, "d_model")))
        for layer in open_layers(decoder, path):
            whole = both(root, layer.condition)
            if layer.index == index and whole is not None:
                for half, condition in _halves(replace(layer, condition=whole), place, widths):
                    found.setdefault(half, []).append(condition)
        site = LAYER.format(index) if place == PLACES[0] else BEHIND
        for condition in _without(decoder, path, index):
            for d_model, wide in widths:
                joined = _all(root, condition, wide)
                if joined is not None:
                    found.setdefault(Half(site, None, d_model), []).append(joined)
    return found


def _halves(
    layer: OpenLayer, place: str, widths: Sequence[tuple[int, Condition]]
) -> Iterator[tuple[Half, Condition]]:
    node, path = layer.layer, layer.path
    around = [
        joined
        for parts in product(*(_nothing(getattr(node, f), join(path, f)) for f in ALONE))
        if (joined := _all(layer.condition, *parts)) is not None
    ]
    bits = list(closings_if(node.bits, join(path, "bits")))
    for block, condition in closings_if(getattr(node, place), join(path, place)):
        for (d_model, wide), outside in product(widths, around):
            for own, when in bits if block is not None else [(Bits(), {})]:
                half = Half(f"{LAYER.format(layer.index)}.{place}", block, d_model, own)
                joined = _all(outside, wide, condition, when)
                if joined is not None and half.legal:
                    yield half, joined


def _nothing(node: Any, path: str) -> list[Condition]:
    """When a value is None."""
    return [condition for value, condition in closings_if(node, path) if value is None]


def _without(decoder: Any, path: str, index: int) -> Iterator[Condition]:
    """When a decoder has no layer at `index`."""
    stacks, where = decoder.layers, join(path, "layers")
    if isinstance(stacks, OneOf) and stacks.is_repeat:
        shallow = frozenset(i for i, stack in enumerate(stacks.options) if len(stack) <= index)
        if shallow:
            yield {stacks.own_path(where): shallow}
        return
    for stack, _, condition in options_if(stacks, where):
        if len(stack) <= index:
            yield condition


def _all(*conditions: Condition) -> Condition | None:
    joined: Condition | None = {}
    for condition in conditions:
        joined = both(joined, condition) if joined is not None else None
    return joined


def _pair(half: Half, place: str, places: Mapping[str, Named], vocab: int) -> Pair:
    """A network with the half, and one without."""
    empty = Decoder(vocab=vocab, d_model=half.d_model, layers=())
    if not place:
        return empty, None
    if half.block is None:
        return None, None
    if place.endswith(PLACES[0]):
        return replace(empty, layers=(Layer(sequence_mixer=half.block, bits=half.bits),)), empty
    beside = places[place.replace(PLACES[1], PLACES[0])]
    block = next(h.block for h in beside if h.d_model == half.d_model and h.block is not None)
    less = Layer(sequence_mixer=block, bits=half.bits)
    whole = replace(less, channel_mixer=half.block)
    return replace(empty, layers=(whole,)), replace(empty, layers=(less,))


def _prices(total: Total, pairs: Mapping[Half, Pair]) -> dict[Half, float]:
    """What each half adds to a cost."""
    specs = list(dict.fromkeys(s for pair in pairs.values() for s in pair if s is not None))
    prices = dict(zip(specs, map(float, total(specs)), strict=True))
    return {
        half: (prices[whole] if whole is not None else 0.0) - (prices[less] if less is not None else 0.0)
        for half, (whole, less) in pairs.items()
    }
