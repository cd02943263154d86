"""The structure of a mixture: the blocks, widths, norms, bits and routers that a space has at each layer.

    Trunk     a decoder of the root
    Strand    one way to be the layer at an index
    Carried   a block that stands in for its sizes (`masked_blocks.Carrier`), with the conditions of each

Conditions have numbers, so that all their probabilities are one tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from search_spaces.blocks.base import Block
from search_spaces.language.walk import Closing, Condition, intersection
from search_spaces.mixture.conditions import Genes, gathered
from search_spaces.mixture.masked_blocks import Carrier
from search_spaces.mixture.relaxable import check_space
from search_spaces.mixture.stand_ins import grouped
from search_spaces.network.decoder import AROUND, PLACES, Decoder, weights_site
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.shell import Shell
from search_spaces.network.sublayers import OpenDecoder, OpenLayer, cannot_build, decoders_in
from search_spaces.quantization.bits import WeightFormat

Rows = list[int]
"""Conditions by number; the chance of any of them is the sum."""


@dataclass(frozen=True)
class Carried:
    """A carrier with its variants' conditions, those of its activations, and those of its formats."""

    carrier: Carrier
    rows: Rows
    activation: Rows
    formats: tuple[tuple[WeightFormat, Rows], ...]


@dataclass(frozen=True)
class Strand:
    """One way to be the layer at an index: when, behind which router, the carriers of its sublayers, and
    whether these stand side by side.
    """

    rows: Rows
    certain: bool
    site: str
    routing: MixtureOfDepths | None
    sublayers: tuple[tuple[Carried, ...], ...]
    side_by_side: bool


@dataclass(frozen=True)
class Trunk:
    """One decoder of the root: when, its shells, norms and widths, and the strands at each index.

    Shells are those at the largest width, without regard to norms.
    """

    rows: Rows
    certain: bool
    shells: tuple[tuple[Shell, Rows], ...]
    norms: tuple[tuple[Norm, Rows], ...]
    widths: tuple[tuple[int, Rows], ...]
    strands: tuple[tuple[Strand, ...], ...]


class Structure:
    """The trunks of a space, and their conditions by number.

    Raises:
        SpaceError: a gene that cannot be relaxed, named by its path.
    """

    def __init__(self, genes: Genes) -> None:
        check_space(genes.space)
        self.genes = genes
        self._conditions: dict[tuple[tuple[str, frozenset[int]], ...], int] = {}
        self.trunks = tuple(self._trunk(decoder) for decoder in decoders_in(genes.space.root))

    @property
    def conditions(self) -> list[Condition]:
        """The conditions in the order of their numbers."""
        return [dict(items) for items in self._conditions]

    def _number(self, condition: Condition) -> int:
        return self._conditions.setdefault(tuple(sorted(condition.items())), len(self._conditions))

    def _numbers(self, conditions: Iterable[Condition]) -> Rows:
        return [self._number(condition) for condition in conditions]

    def _trunk(self, root: OpenDecoder) -> Trunk:
        norms = gathered(root.closings("norm"), self.genes.counts)
        every = list(root.closings("d_model"))
        widths = gathered(every, self.genes.counts)
        by_index: dict[int, list[Strand]] = {}
        for layer in root.layers():
            by_index.setdefault(layer.index, []).extend(self._strands(layer, every))
        return Trunk(
            self._numbers([root.condition]),
            not root.condition,
            self._shells(root, max(widths)),
            tuple((norm, self._numbers(conditions)) for norm, conditions in norms.items()),
            tuple((d_model, self._numbers(conditions)) for d_model, conditions in widths.items()),
            tuple(tuple(by_index[index]) for index in sorted(by_index)),
        )

    def _shells(self, root: OpenDecoder, widest: int) -> tuple[tuple[Shell, Rows], ...]:
        names = [name for name in AROUND if name not in ("vocab", "d_model", "norm")]
        closed: list[tuple[Shell, Condition]] = []
        for values in product(*map(root.closings, names)):
            condition = intersection(*(value.condition for value in values))
            if condition is not None:
                named = {n: v.value for n, v in zip(names, values, strict=True)}
                around = Decoder(vocab=root.decoder.vocab, d_model=widest, layers=(), **named)
                closed.append((around.shell, condition))
        found = gathered(closed, self.genes.counts)
        return tuple((shell, self._numbers(conditions)) for shell, conditions in found.items())

    def _strands(self, layer: OpenLayer, widths: list[Closing]) -> Iterable[Strand]:
        both = (
            ((routing.value, parallel.value), condition)
            for routing, parallel in product(layer.closings("routing"), list(layer.closings("parallel")))
            if (condition := intersection(routing.condition, parallel.condition)) is not None
        )
        options = gathered(both, self.genes.counts)
        for shared, here in layer.closings("shared"):
            for option, conditions in options.items():
                whole = [intersection(layer.condition, here, condition) for condition in conditions]
                rows = [condition for condition in whole if condition is not None]
                if rows:
                    yield self._strand(layer, rows, weights_site(shared, layer.index), option, widths)

    def _strand(
        self,
        layer: OpenLayer,
        conditions: list[Condition],
        site: str,
        option: tuple[MixtureOfDepths | None, bool],
        widths: list[Closing],
    ) -> Strand:
        sublayers = []
        for place in PLACES:
            variants = [
                ((block, d_model), joined)
                for block, when in layer.closings(place)
                if block is not None
                for d_model, wide in widths
                if (joined := intersection(when, wide)) is not None
            ]
            sublayers.append(tuple(self._carriers(f"{site}.{place}", variants, list(layer.bits_at(place)))))
        certain = any(not condition for condition in conditions)
        routing, parallel = option
        return Strand(self._numbers(conditions), certain, site, routing, tuple(sublayers), parallel)

    def _carriers(
        self,
        site: str,
        variants: list[tuple[tuple[Block, int], Condition]],
        bits: list[Closing],
    ) -> Iterable[Carried]:
        counts = self.genes.counts
        activations = gathered(((b.rounding, c) for b, c in bits), counts)
        legal = [(variant, condition) for variant, condition in variants if not cannot_build(*variant)]
        kinds = dict.fromkeys(type(block) for (block, _), _ in legal)
        for kind in kinds:
            own = [(v, c) for v, c in legal if type(v[0]) is kind]
            for group in grouped([variant for variant, _ in own]):
                rows = self._numbers(own[i][1] for i in group)
                members = [own[i][0] for i in group]
                for rounding, conditions in activations.items():
                    formats = gathered(((b.stored, c) for b, c in bits if b.rounding == rounding), counts)
                    yield Carried(
                        Carrier(f"{site}:{kind.__name__}", members, rounding),
                        rows,
                        self._numbers(conditions),
                        tuple((stored, self._numbers(when)) for stored, when in formats.items()),
                    )
