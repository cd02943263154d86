"""What a mixture of architectures is expected to cost: latency by a table, bytes, counted numbers.

A cost is given as a plain function of closed architectures, so that nothing here knows where it comes from.
Such a function is taken apart once: what an empty network costs at each width, what each sequence mixer adds,
what each channel mixer adds. Under independent genes the expectation of the sum of these terms is exact: each
term times the chance of the condition under which it occurs. With all weight on one architecture it is the
function itself.

That holds for costs that add up over the halves of layers: latency tables (parts, correction, overhead),
decode-state bytes, and weight bytes and parameters unless layers share their weights by name, which count
once. How far a function is from adding up is measured on random architectures (`deviation`); where it does
not, the expectation is that of its additive part, and a search must check its find by the function itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import torch
from torch import Tensor

from foundation.errors import IllegalArchitecture, SettingError
from search_spaces.blocks.base import Block
from search_spaces.language.choices import join
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import (
    Chances,
    Condition,
    Genes,
    OpenLayer,
    both,
    closings_if,
    gathered,
    open_layers,
    options_if,
)
from search_spaces.network.decoder import Decoder, Layer

Total: TypeAlias = Callable[[Sequence[Decoder]], Sequence[float]]
"""A cost of closed architectures, all of them at once."""

CHECKED = 48
EXACT = 1e-6
"""The relative error below which a cost is said to add up."""

Term: TypeAlias = "tuple[Decoder, Decoder | None, Condition]"
"""What is priced, what is subtracted from its price, and when it occurs."""


@dataclass(frozen=True, eq=False)
class ExpectedCost:
    """The expectation of a cost as a function of the genes' shares, differentiable.

    `total` is the function itself. `deviation` is the largest relative error on random architectures.
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
    groups = [[*group] for group in _terms(space)]
    priced = dict.fromkeys(spec for group in groups for *specs, _ in group for spec in specs if spec)
    prices = dict(zip(priced, map(float, total(list(priced))), strict=True))
    prices_found = torch.tensor(list(prices.values()), dtype=torch.float64)
    if not bool(prices_found.isfinite().all()):
        spec = list(prices)[int((~prices_found.isfinite()).nonzero()[0])]
        raise SettingError(f"a cost must be a finite number, got {prices[spec]} for {spec}")
    values, conditions = list[float](), list[Condition]()
    for group in groups:
        worth = [(prices[spec] - (prices[less] if less else 0.0), when) for spec, less, when in group]
        for value, whens in gathered(worth, genes.counts).items():
            values += [value] * len(whens)
            conditions += whens
    cost = ExpectedCost(total, Chances(genes, conditions), torch.tensor(values, dtype=torch.float64))
    return ExpectedCost(cost.total, cost.chances, cost.values, _deviation(space, genes, cost, seed))


def _deviation(space: Space, genes: Genes, cost: ExpectedCost, seed: int) -> float:
    dice, worst = Random(f"{seed}/deviation"), 0.0
    genotypes = [space.sample(dice) for _ in range(CHECKED)]
    for genotype, whole in zip(genotypes, cost.total([space.close(g) for g in genotypes]), strict=True):
        found = float(cost(genes.one_hot(genotype, torch.float64)))
        worst = max(worst, abs(found - whole) / max(abs(whole), 1e-12))
    return worst


def _terms(space: Space) -> Iterator[list[Term]]:
    """Per part of the network everything that may stand there."""
    for decoder, path, root in options_if(space.root, ""):
        outer = [
            (Decoder(vocab=vocab, d_model=d_model, layers=()), joined)
            for vocab, one in closings_if(decoder.vocab, join(path, "vocab"))
            for d_model, other in closings_if(decoder.d_model, join(path, "d_model"))
            if (joined := _all(root, one, other)) is not None
        ]
        yield [(empty, None, condition) for empty, condition in outer]
        for layer in open_layers(decoder, path):
            yield from _halves(layer, outer)


def _halves(layer: OpenLayer, outer: list[tuple[Decoder, Condition]]) -> Iterator[list[Term]]:
    """The terms of a layer's sequence mixers, and of its channel mixers, each over what is there without."""
    node, path = layer.layer, layer.path
    around = [
        ((bits, routing, leaving), joined)
        for bits, one in closings_if(node.bits, join(path, "bits"))
        for routing, two in closings_if(node.routing, join(path, "routing"))
        for leaving, three in closings_if(node.exit, join(path, "exit"))
        if (joined := _all(layer.condition, one, two, three)) is not None
    ]
    first = list(closings_if(node.sequence_mixer, join(path, "sequence_mixer")))
    second = list(closings_if(node.channel_mixer, join(path, "channel_mixer")))
    sequence, channels = list[Term](), list[Term]()
    for empty, outside in outer:
        first = [(block, c) for block, c in first if _buildable(block, empty.d_model)]
        for (bits, routing, leaving), inside in around:
            known = {"bits": bits, "routing": routing, "exit": leaving}
            for block, condition in first:
                joined = _all(outside, inside, condition)
                if joined is not None:
                    sequence.append((_with(empty, known, block, None), empty, joined))
            for block, condition in second:
                joined = _all(outside, inside, condition)
                if joined is None or block is None or not first or not _buildable(block, empty.d_model):
                    continue
                beside = first[0][0]
                whole, less = _with(empty, known, beside, block), _with(empty, known, beside, None)
                channels.append((whole, less, joined))
    yield sequence
    yield channels


def _with(empty: Decoder, known: dict[str, Any], sequence: Block, channels: Block | None) -> Decoder:
    layer = Layer(sequence_mixer=sequence, channel_mixer=channels, **known)
    return Decoder(vocab=empty.vocab, d_model=empty.d_model, layers=(layer,))


def _all(*conditions: Condition) -> Condition | None:
    joined: Condition | None = {}
    for condition in conditions:
        joined = both(joined, condition) if joined is not None else None
    return joined


def _buildable(block: Block | None, d_model: int) -> bool:
    try:
        if block is not None:
            block.check(d_model)
    except IllegalArchitecture:
        return False
    return True
