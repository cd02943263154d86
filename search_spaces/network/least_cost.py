"""The least that additive costs can be in a space, exactly, with a network that has it.

The costs of a network are those around its layers and what each sublayer adds, and the answers of the space
say what may stand together: a layer's bits are those of both its sublayers, a width is that of all layers.
What may be a layer is joined, then the layers one after the other; of all that agree in the answers that
matter to the rest, the cheapest stays (dynamic programming). Where layers may share weights, every set of the
weights that are used is gone through. Constraints in code are not looked at, so what they leave costs no
less; neither are values that were taken for one (`priced_parts`) told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import NamedTuple, TypeAlias

from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space
from search_spaces.language.walk import Condition, intersection
from search_spaces.network.additive_cost import Total
from search_spaces.network.decoder import PLACES
from search_spaces.network.priced_parts import AGAIN, ONCE, OWN, Content, PricedParts, priced_parts
from search_spaces.network.sublayers import OpenLayer, decoders_in

MOST_JOINED = 200_000
"""Pairs that are looked at most where two tables are joined."""

MOST_SHARED = 4
"""Sets of weights that layers may share, at most."""


class Least(NamedTuple):
    """The least of a weighted sum of costs, and the answers of a network that has it."""

    amount: float
    genotype: Genotype


class Entry(NamedTuple):
    """A way to fill what is joined so far: the answers that matter to the rest, and all answers."""

    matters: Condition
    amount: float
    answers: Condition


Tables: TypeAlias = "dict[tuple[int, str, str | None], list[Entry]]"
"""What may fill a layer, by its kind, whose weights it has, and their name if they are shared."""


class _TooMuch(Exception):
    """More pairs than `MOST_JOINED`."""


@dataclass(frozen=True)
class AdditiveCosts:
    """Costs of a space that were found to add up, with the price of everything that may stand somewhere."""

    space: Space
    parts: PricedParts

    def least(self, weights: Sequence[float]) -> Least | None:
        """The least sum of costs, each times its weight; None where too much would have to be joined."""
        names = self._shared_names()
        used = chain.from_iterable(combinations(names, count) for count in range(len(names) + 1))
        try:
            tables: Tables = {}
            joining = (_Joining(self.parts, weights, case, tables) for case in used)
            found = [entry for each in joining for entry in each.joined()]
        except _TooMuch:
            return None
        if not found:
            return None
        best = min(found, key=lambda entry: entry.amount)
        return Least(best.amount, self._genotype(best.answers))

    def _shared_names(self) -> list[str]:
        """The sets of weights that layers may share."""
        layers = (kind.layer for kind in self.parts.kinds.values())
        return sorted({c.value for layer in layers for c in layer.closings("shared") if c.value is not None})

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
    if len(decoders) > 1:
        return None
    parts = priced_parts(space, decoders[0], totals)
    found = None if parts is None else AdditiveCosts(space, parts)
    return found if found and len(found._shared_names()) <= MOST_SHARED else None


class _Joining:
    """The slots of a decoder that are filled one after the other; the layers share just these weights."""

    def __init__(
        self, parts: PricedParts, weights: Sequence[float], shared: Sequence[str], tables: Tables
    ) -> None:
        self.parts, self.weights, self.shared, self.tables = parts, weights, shared, tables
        self.layers = list(parts.decoder.layers())

    def joined(self) -> list[Entry]:
        """All slots filled; of all under the same answers, the cheapest."""
        slots = [self._around(), *map(self._first, self.shared), *map(self._at, range(self._depth()))]
        uses = Counter(gene for slot in slots for gene in _genes(slot))
        joined = [Entry({}, 0.0, {})]
        for slot in slots:
            uses.subtract(_genes(slot))
            joined = _cheapest(_joined(joined, slot), lambda gene: uses[gene] > 0)
        return joined

    def _depth(self) -> int:
        return 1 + max((layer.index for layer in self.layers), default=-1)

    def _around(self) -> list[Entry]:
        found = self.parts.decoder.around()
        return [Entry(when, self._amount(content), when) for content, when in found]

    def _at(self, index: int) -> list[Entry]:
        """What may stand at an index: no layer, one of its own weights, or one more of shared ones."""
        slot = [Entry(when, 0.0, when) for when in self.parts.decoder.shallower(index)]
        for layer in (layer for layer in self.layers if layer.index == index):
            slot += self._of_layer(layer, OWN, None)
            for name in self.shared:
                slot += self._of_layer(layer, AGAIN, name)
        return _cheapest(slot, lambda gene: True)

    def _first(self, name: str) -> list[Entry]:
        """What shared weights cost once; some layer has them."""
        slot = [entry for layer in self.layers for entry in self._of_layer(layer, ONCE, name)]
        return _cheapest(slot, lambda gene: True)

    def _of_layer(self, layer: OpenLayer, weights: str, name: str | None) -> Iterator[Entry]:
        """The entries of its kind, with the questions of its own place."""
        kind = self.parts.kind_of(layer)
        key = (id(layer.layer), weights, name)
        if key not in self.tables:
            self.tables[key] = self._table(*key)
        there, here = kind.layer.path, layer.path
        for entry in self.tables[key]:
            condition = intersection(layer.condition, _moved(entry.matters, there, here))
            answers = intersection(layer.condition, _moved(entry.answers, there, here))
            if condition is not None and answers is not None:
                yield Entry(condition, entry.amount, answers)

    def _table(self, kind: int, weights: str, name: str | None) -> list[Entry]:
        """Both places of a layer filled, what only it asks being answered in the cheapest way."""
        found = self.parts.kinds[kind]
        slots = [
            [
                Entry(when, self._amount(part), when)
                for part, shared, when in found.parts(place, self.parts.widths, weights)
                if shared == name
            ]
            for place in PLACES
        ]
        # what only the layer asks matters to nothing else, unless another slot says what its weights cost
        shares = any(c.value is not None for c in found.layer.closings("shared"))
        own = _asked_in("@" if shares else found.layer.path)
        asked = list(map(_genes, slots))
        both = _joined(
            _cheapest(slots[0], lambda gene: not own(gene) or gene in asked[1]),
            _cheapest(slots[1], lambda gene: not own(gene) or gene in asked[0]),
        )
        return _cheapest(both, lambda gene: not own(gene))

    def _amount(self, content: Content) -> float:
        return sum(w * c for w, c in zip(self.weights, self.parts.priced[content], strict=True))


def _asked_in(path: str) -> Callable[[str], bool]:
    """Whether a question is asked nowhere but inside the layer at a path; shared choices are not."""
    return lambda gene: gene.startswith(f"{path}.") and not path.startswith("@")


def _moved(condition: Condition, there: str, here: str) -> Condition:
    """The condition with the questions of another layer's place."""
    if there == here:
        return condition
    inside = _asked_in(there)
    return {here + gene[len(there) :] if inside(gene) else gene: s for gene, s in condition.items()}


def _genes(table: Sequence[Entry]) -> set[str]:
    return {gene for entry in table for gene in entry.matters}


def _joined(first: Sequence[Entry], second: Sequence[Entry]) -> Iterator[Entry]:
    """Both filled, where their answers stand together."""
    if len(first) * len(second) > MOST_JOINED:
        raise _TooMuch
    for one, other in product(first, second):
        matters = intersection(one.matters, other.matters)
        if matters is not None:
            answers = intersection(one.answers, other.answers)
            assert answers is not None
            yield Entry(matters, one.amount + other.amount, answers)


def _cheapest(entries: Iterable[Entry], matters: Callable[[str], bool]) -> list[Entry]:
    """Of all that agree in the answers that matter, the cheapest."""
    best: dict[frozenset[tuple[str, frozenset[int]]], Entry] = {}
    for entry in entries:
        left = {gene: allowed for gene, allowed in entry.matters.items() if matters(gene)}
        key = frozenset(left.items())
        if key not in best or entry.amount < best[key].amount:
            best[key] = Entry(left, entry.amount, entry.answers)
    return list(best.values())
