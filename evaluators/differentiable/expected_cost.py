"""What a mixture of architectures is expected to cost: latency by a table, bytes, counted numbers.

A cost is taken apart once (`search_spaces.network.additive_cost`): what an empty network costs at each width,
what each sequence mixer adds, what each channel mixer adds. Under independent genes the expectation of the
sum of these terms is exact: each term times the chance of the condition under which it occurs. With all
weight on one architecture it is the cost itself.

That holds for costs that add up. Where one does not, by its `deviation`, the expectation is that of its
additive part, and a search must check its result by the cost itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.language.walk import Closing, Condition, intersection
from search_spaces.mixture.conditions import Chances, Genes, gathered
from search_spaces.network.additive_cost import EXACT, Difference, Total, added_by, deviation, prices
from search_spaces.network.decoder import PLACES, Decoder
from search_spaces.network.sublayers import OpenDecoder, OpenLayer, decoders_in

Term: TypeAlias = "tuple[Difference, Condition]"
"""What something adds to a cost, and when it occurs."""


@dataclass(frozen=True, eq=False)
class ExpectedCost:
    """The expectation of a cost as a function of the genes' shares, differentiable.

    `total` is the cost itself. `deviation` is the largest relative error on random architectures.
    """

    total: Total
    chances: Chances
    values: Tensor
    deviation: float = 0.0

    def __call__(self, shares: Tensor) -> Tensor:
        """The expectation under independent genes, a float64 scalar."""
        return self.chances(shares.double()) @ self.values.to(shares.device)

    @property
    def exact(self) -> bool:
        """Whether the cost adds up, so that the expectation is that of the cost itself."""
        return self.deviation <= EXACT


def expected_cost(space: Space, total: Total, *, seed: int = 0) -> ExpectedCost:
    """Take a cost apart; see the module.

    Raises:
        SettingError: the cost is not a finite number for some part of the space.
    """
    genes = Genes(space)
    groups = [list(group) for decoder in decoders_in(space.root) for group in _terms(decoder)]
    added = prices(total, (difference for group in groups for difference, _ in group))
    values, conditions = list[float](), list[Condition]()
    for group in groups:
        worth = [(added[difference], condition) for difference, condition in group]
        for value, occurring in gathered(worth, genes.counts).items():
            values += [value] * len(occurring)
            conditions += occurring
    cost = ExpectedCost(total, Chances(genes, conditions), torch.tensor(values, dtype=torch.float64))

    def of_one(genotype: Genotype, spec: Decoder) -> float:
        return float(cost(genes.one_hot(genotype, torch.float64)))

    return replace(cost, deviation=deviation(space, total, of_one, seed=seed))


def _terms(decoder: OpenDecoder) -> Iterator[Iterator[Term]]:
    """Per part of the network everything that may stand there."""
    yield _outer_terms(decoder)
    for layer, place in product(decoder.layers(), PLACES):
        yield _layer_terms(decoder, layer, place)


def _outer_terms(decoder: OpenDecoder) -> Iterator[Term]:
    for empty, condition in decoder.around():
        yield Difference(empty), condition


def _layer_terms(decoder: OpenDecoder, layer: OpenLayer, place: str) -> Iterator[Term]:
    """The terms of a layer's sequence mixers, or of its channel mixers, over what is there without them."""
    vocabularies, options = list(decoder.closings("vocab")), list(layer.options())
    for width in decoder.closings("d_model"):
        beside = _sequence_mixer(layer, width)
        if beside is None:
            continue
        for (sublayer, inner), vocab, option in product(
            layer.sublayers(place, [width]), vocabularies, options
        ):
            condition = intersection(decoder.condition, vocab.condition, option.condition, inner)
            if condition is None or sublayer.block is None:
                continue
            empty = Decoder(vocab=vocab.value, d_model=width.value, layers=(), norm=sublayer.norm)
            yield added_by(sublayer, empty, beside=beside, **option.value), condition


def _sequence_mixer(layer: OpenLayer, width: Closing) -> Block | None:
    """Any sequence mixer that can stand in a layer at a width."""
    return next((sublayer.block for sublayer, _ in layer.sublayers(PLACES[0], [width])), None)
