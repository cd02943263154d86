"""Chances of the parts of a space, against the enumeration of all its architectures."""

from __future__ import annotations

from math import prod
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.language.walk import Condition, intersection
from search_spaces.mixture.conditions import Chances, Genes, gathered
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.sublayers import Sublayer, decoders_in, sublayers_of
from search_spaces.quantization.bits import Bits
from tests.search_spaces.random_spaces import VOCAB, enumerated, holds, spaces

SEEDS = st.integers(0, 999)
QUICK = settings(max_examples=20, deadline=None)


def random_shares(genes: Genes, seed: int) -> Tensor:
    """A distribution for each gene."""
    dice = torch.Generator().manual_seed(seed)
    return genes.shares(torch.randn(genes.size, generator=dice, dtype=torch.float64))


def chance_of(genotype: Genotype, shares: Tensor, genes: Genes) -> float:
    """The product of the shares of its answers."""
    answers = [
        shares[genes.start[path] + genes.index(genes.gene(path), label)].item()
        for path, label in genotype.genes.items()
    ]
    return prod(answers)


def placed_conditions(space: Space) -> list[tuple[tuple[int, Sublayer], Condition]]:
    """Every sublayer with the index of its layer, and when it is there."""
    conditions = []
    for decoder in decoders_in(space.root):
        widths = list(decoder.closings("d_model"))
        for layer in decoder.layers():
            for place in PLACES:
                for sublayer, condition in layer.sublayers(place, widths):
                    whole = intersection(decoder.condition, condition)
                    if whole is not None:
                        conditions.append(((layer.index, sublayer), whole))
    return conditions


def placed(spec: Decoder) -> set[tuple[int, Sublayer]]:
    """The sublayers of a network with the index of their layer."""
    return {(i // len(PLACES), sublayer) for i, sublayer in enumerate(sublayers_of(spec))}


@QUICK
@given(spaces(), SEEDS)
def test_the_chances_of_all_architectures_are_a_distribution(space: Space, seed: int) -> None:
    genes = Genes(space)
    shares = random_shares(genes, seed)
    assert sum(chance_of(g, shares, genes) for g in space.enumerate()) == pytest.approx(1.0)


@QUICK
@given(spaces(), SEEDS)
def test_the_chance_of_a_sublayer_is_that_of_the_architectures_with_it(space: Space, seed: int) -> None:
    genes = Genes(space)
    shares = random_shares(genes, seed)
    expected = dict[tuple[int, Sublayer], float]()
    for genotype, spec in enumerated(space):
        for where in placed(spec):
            expected[where] = expected.get(where, 0.0) + chance_of(genotype, shares, genes)
    for where, conditions in gathered(placed_conditions(space), genes.counts).items():
        assert Chances(genes, conditions)(shares).sum().item() == pytest.approx(expected[where])


@QUICK
@given(spaces())
def test_merged_conditions_hold_one_at_a_time_and_where_the_value_is(space: Space) -> None:
    merged = gathered(placed_conditions(space), Genes(space).counts)
    for genotype, spec in list(enumerated(space))[:30]:
        there = placed(spec)
        for where, conditions in merged.items():
            holding = [condition for condition in conditions if holds(condition, genotype, space)]
            assert len(holding) == (where in there)


@QUICK
@given(spaces(), SEEDS)
def test_all_weight_on_a_genotype_makes_its_chance_one(space: Space, seed: int) -> None:
    genes, genotype = Genes(space), space.sample(Random(seed))
    shares = genes.one_hot(genotype, torch.float64)
    assert chance_of(genotype, shares, genes) == 1.0
    for gene in genes.genes:
        own = shares[genes.slice(gene)]
        assert own.sum().item() == pytest.approx(1.0)
        if gene.path not in genotype.genes:
            assert own.unique().numel() == 1


@QUICK
@given(spaces(), SEEDS)
def test_a_table_of_options_is_the_flat_vector_by_rows(space: Space, seed: int) -> None:
    genes = Genes(space)
    if not genes.size:
        return
    flat = torch.randn(genes.size, generator=torch.Generator().manual_seed(seed))
    table = genes.table(flat, float("-inf"))
    assert table.shape == (len(space.genes), max(len(gene.labels) for gene in space.genes))
    assert torch.equal(genes.flat(table), flat)
    assert table.isfinite().sum() == genes.size
    for row, gene in enumerate(genes.genes):
        assert torch.equal(table[row, : len(gene.labels)], flat[genes.slice(gene)])
        torch.testing.assert_close(genes.shares(flat)[genes.slice(gene)], flat[genes.slice(gene)].softmax(0))


def small() -> Space:
    layer = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3)), bits=Bits(weight=one_of(4, 8, 16)))
    return Space(Decoder(vocab=VOCAB, d_model=8, layers=(layer,)), name="small")


def test_conditions_that_differ_in_one_gene_become_one() -> None:
    counts = {"a": 3, "b": 2}
    every = [("x", {"a": frozenset((i,)), "b": frozenset((j,))}) for i in range(3) for j in range(2)]
    assert gathered(every, counts) == {"x": [{}]}
    assert gathered(every[:4], counts) == {"x": [{"a": frozenset((0, 1))}]}
    corner = [every[0], every[1], every[2]]
    (conditions,) = gathered(corner, counts).values()
    assert len(conditions) == 2


def test_a_chance_is_differentiable_in_the_shares() -> None:
    genes = Genes(small())
    shares = torch.full((genes.size,), 0.5, dtype=torch.float64, requires_grad=True)
    conditions: list[Condition] = [
        {},
        {"layers.0.bits.weight": frozenset((0, 2))},
        {"layers.0.bits.weight": frozenset((1,)), "layers.0.sequence_mixer.kernel": frozenset((0,))},
    ]
    chances = Chances(genes, conditions)(shares)
    assert chances.tolist() == [1.0, 1.0, 0.25]
    chances[2].backward()
    start, kernel = genes.start["layers.0.bits.weight"], genes.start["layers.0.sequence_mixer.kernel"]
    assert shares.grad is not None
    assert {i: g for i, g in enumerate(shares.grad.tolist()) if g} == {start + 1: 0.5, kernel: 0.5}


def test_no_conditions_have_no_chances() -> None:
    genes = Genes(small())
    assert Chances(genes, [])(torch.ones(genes.size)).shape == (0,)
    assert Chances(genes, [{}])(torch.ones(genes.size)).tolist() == [1.0]


def test_a_space_without_genes_has_no_shares() -> None:
    genes = Genes(Space(Decoder(vocab=VOCAB, d_model=8, layers=())))
    assert genes.size == 0
    assert genes.shares(torch.zeros(0)).shape == (0,)
    assert genes.one_hot(Genotype({})).shape == (0,)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"layers.9": 1}, "small has no gene 'layers.9'"),
        ({"layers.0.bits.weight": 5}, "layers.0.bits.weight: 5 is not among (4, 8, 16)"),
        ({"layers.0.bits.weight": 4.0}, "layers.0.bits.weight: 4.0 is not among (4, 8, 16)"),
        ({"layers.0.bits.weight": "4"}, "layers.0.bits.weight: '4' is not among (4, 8, 16)"),
    ],
)
def test_an_answer_to_no_gene_or_with_no_option_is_refused(
    answers: dict[str, int | float | str], message: str
) -> None:
    with pytest.raises(SpaceError) as error:
        Genes(small()).one_hot(Genotype(answers))
    assert str(error.value) == message
