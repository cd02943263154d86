"""The least that additive costs can be in a space, exactly, with a network that has it.

The costs of a network are those around its layers and what each sublayer adds, and the answers of the space
say what may stand together: a layer's bits are those of both its sublayers, a width is that of all layers.
Sublayers are joined one after the other; of all that agree in the answers that matter to the rest, the
cheapest stays (dynamic programming). Constraints in code are not looked at, so what they leave costs no less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from random import Random
from typing import Any, NamedTuple, TypeAlias, cast

from search_spaces.blocks.base import Block
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space
from search_spaces.language.walk import Condition, intersection
from search_spaces.network.additive_cost import CHECKED, EXACT, Difference, Total, added_by, prices
from search_spaces.network.decoder import OPTIONS, PLACES, Decoder
from search_spaces.network.sublayers import (
    OWN_OPTIONS,
    OpenDecoder,
    Sublayer,
    decoders_in,
    layer_sublayers,
)

MOST_PARTS = 20_000
"""Sublayers of a space that are priced at most."""

MOST_JOINED = 200_000
"""Pairs that are looked at most where two tables are joined."""

Costs: TypeAlias = tuple[float, ...]
"""One number for each of some costs."""

Options: TypeAlias = "tuple[tuple[str, Any], ...]"
"""Fields of a layer with options, and their values."""

Content: TypeAlias = "Decoder | tuple[Sublayer, Options] | None"
"""What stands somewhere: what is around the layers, a sublayer in a layer with options, or nothing."""

Slot: TypeAlias = "list[tuple[Content, Condition]]"
"""What may stand somewhere, and when."""


class Least(NamedTuple):
    """The least of a weighted sum of costs, and the answers of a network that has it."""

    amount: float
    genotype: Genotype


class Entry(NamedTuple):
    """A way to fill the slots that are joined: the answers that matter to later ones, and all answers."""

    matters: Condition
    amount: float
    answers: Condition


@dataclass(frozen=True)
class AdditiveCosts:
    """Costs of a space that were found to add up, with the price of everything that may stand somewhere."""

    space: Space
    slots: Sequence[Slot]
    priced: Mapping[Content, Costs]

    def least(self, weights: Sequence[float]) -> Least | None:
        """The least sum of costs, each times its weight; None where too much would have to be joined."""
        tables = [self._table(slot, weights) for slot in self.slots]
        uses = Counter(gene for table in tables for gene in _genes(table))
        joined = [Entry({}, 0.0, {})]
        for table in tables:
            if len(joined) * len(table) > MOST_JOINED:
                return None
            uses.subtract(_genes(table))
            joined = _cheapest(_joined(joined, table), {gene for gene in uses if uses[gene]})
        if not joined:
            return None
        best = min(joined, key=lambda entry: entry.amount)
        return Least(best.amount, self._genotype(best.answers))

    def _table(self, slot: Slot, weights: Sequence[float]) -> list[Entry]:
        """What may fill a slot; of all under the same answers, the cheapest."""
        entries = (
            Entry(
                when, sum(w * c for w, c in zip(weights, self.priced[_anywhere(content)], strict=True)), when
            )
            for content, when in slot
        )
        return _cheapest(entries, {gene for _, when in slot for gene in when})

    def _genotype(self, answers: Condition) -> Genotype:
        def answer(path: str, labels: tuple[Label, ...]) -> Label:
            return labels[min(answers[path])] if path in answers else labels[0]

        return self.space.draw(answer)[0]


def additive_costs(space: Space, totals: Sequence[Total]) -> AdditiveCosts | None:
    """These costs as sums of parts; None where they are no sums, or have too many parts.

    Raises:
        SpaceError: the space is not one of decoders.
    """
    decoders = list(decoders_in(space.root))
    if len(decoders) > 1 or _shares_weights(decoders[0]):
        return None
    slots = _slots(decoders[0])
    if sum(map(len, slots)) > MOST_PARTS or not all(slots):
        return None
    contents = dict.fromkeys(_anywhere(content) for slot in slots for content, _ in slot)
    sublayers = (content[0] for content in contents if isinstance(content, tuple))
    beside = {sublayer.d_model: sublayer.block for sublayer in sublayers if sublayer.place == PLACES[0]}
    vocab = cast(Decoder, slots[0][0][0]).vocab
    differences = {content: _difference(content, vocab, beside) for content in contents}
    by_total = [prices(total, filter(None, differences.values())) for total in totals]
    priced = {
        content: tuple(0.0 if d is None else amounts[d] for amounts in by_total)
        for content, d in differences.items()
    }
    return AdditiveCosts(space, slots, priced) if _adds_up(space, totals, priced) else None


def _shares_weights(decoder: OpenDecoder) -> bool:
    """Whether layers may have one set of weights, which costs once what is counted for each."""
    return any(value is not None for layer in decoder.layers() for value, _ in layer.closings("shared"))


def _slots(decoder: OpenDecoder) -> list[Slot]:
    """What may be around the layers, and stand at each place of each."""
    around: Slot = []
    for vocab, width, norm in product(*map(decoder.closings, ("vocab", "d_model", "norm"))):
        condition = intersection(decoder.condition, vocab.condition, width.condition, norm.condition)
        if condition is not None:
            empty = Decoder(vocab=vocab.value, d_model=width.value, layers=(), norm=norm.value)
            around.append((empty, condition))
    slots, widths, layers = [around], list(decoder.closings("d_model")), list(decoder.layers())
    for index, place in product(sorted({layer.index for layer in layers}), PLACES):
        slot: Slot = [(None, condition) for condition in decoder.shallower(index)]
        for layer in (layer for layer in layers if layer.index == index):
            found = (
                (*pair, inner) for pair, inner in product(layer.sublayers(place, widths), layer.options())
            )
            for sublayer, outer, options in islice(found, MOST_PARTS):
                condition = intersection(outer, options.condition)
                if condition is not None:
                    slot.append(((sublayer, tuple(options.value.items())), condition))
        slots.append(slot)
    return slots


def _anywhere(content: Content) -> Content:
    """The same wherever it stands."""
    return (replace(content[0], site=None), content[1]) if isinstance(content, tuple) else content


def _difference(content: Content, vocab: int, beside: Mapping[int, Block | None]) -> Difference | None:
    """What it adds to a network; None where that is nothing."""
    if isinstance(content, Decoder):
        return Difference(content)
    if content is None or content[0].block is None:
        return None
    sublayer, options = content
    empty = Decoder(vocab=vocab, d_model=sublayer.d_model, layers=(), norm=sublayer.norm)
    neighbour = beside[sublayer.d_model]
    assert neighbour is not None
    return added_by(sublayer, empty, beside=neighbour, **dict(options))


def _adds_up(space: Space, totals: Sequence[Total], priced: Mapping[Content, Costs]) -> bool:
    """Whether sums of prices are the costs of random networks."""
    dice, networks = Random("adds up"), list[Decoder]()
    for _ in range(10 * CHECKED):
        spec: Decoder = space.draw(lambda path, labels: dice.choice(labels))[1]
        if not space.cannot_be(spec) and len(networks) < CHECKED:
            networks.append(spec)
    for number, total in enumerate(totals):
        for spec, whole in zip(networks, total(networks), strict=True):
            amount = sum(priced[part][number] for part in _parts(spec))
            if abs(amount - whole) > EXACT * max(abs(whole), 1e-12):
                return False
    return True


def _parts(spec: Decoder) -> Iterator[Content]:
    """What a network consists of, as it is priced."""
    yield replace(spec, layers=())
    for layer in spec.layers:
        options = tuple((name, getattr(layer, name)) for name in OPTIONS if name not in OWN_OPTIONS)
        for sublayer in layer_sublayers(layer, spec.d_model, norm=spec.norm):
            yield sublayer, options


def _genes(table: Sequence[Entry]) -> set[str]:
    return {gene for entry in table for gene in entry.matters}


def _joined(first: Sequence[Entry], second: Sequence[Entry]) -> Iterator[Entry]:
    """Both filled, where their answers stand together."""
    for one, other in product(first, second):
        matters = intersection(one.matters, other.matters)
        if matters is not None:
            answers = intersection(one.answers, other.answers)
            assert answers is not None
            yield Entry(matters, one.amount + other.amount, answers)


def _cheapest(entries: Iterator[Entry], matter: Collection[str]) -> list[Entry]:
    """Of all that agree in the answers that matter, the cheapest."""
    best: dict[frozenset[tuple[str, frozenset[int]]], Entry] = {}
    for entry in entries:
        left = {gene: allowed for gene, allowed in entry.matters.items() if gene in matter}
        key = frozenset(left.items())
        if key not in best or entry.amount < best[key].amount:
            best[key] = Entry(left, entry.amount, entry.answers)
    return list(best.values())
