"""Mixtures over random spaces: refused from the space alone, or exact for each of its architectures."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import SpaceError
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.mixture.relaxable import check_space
from search_spaces.network.decoder import Decoder
from search_spaces.supernet import Supernet
from tests.search_spaces.networks import doubled, own_weights, randomised, text
from tests.search_spaces.random_spaces import VOCAB, spaces

SEEDS = st.integers(0, 99)
QUICK = settings(max_examples=20, deadline=None)


def relaxable(space: Space) -> bool:
    try:
        check_space(space)
    except SpaceError:
        return False
    return True


MIXABLE = spaces(60).filter(relaxable)


@QUICK
@given(spaces(60))
def test_a_space_that_is_refused_alone_is_refused_with_its_supernet_for_the_same_reason(space: Space) -> None:
    if relaxable(space):
        assert Mixture(Supernet(space)).space is space
        return
    with pytest.raises(SpaceError) as alone:
        check_space(space)
    with pytest.raises(SpaceError) as mixed:
        Mixture(Supernet(space))
    assert str(alone.value) == str(mixed.value)


@QUICK
@given(MIXABLE, SEEDS)
def test_with_all_weight_on_a_random_architecture_it_is_its_subnet(space: Space, seed: int) -> None:
    supernet, dice = randomised(space, seed), Random(seed)
    mixture, weights = Mixture(supernet), doubled(supernet)
    for count in (1, 2, 9):
        genotype = space.sample(dice)
        subnet, tokens = supernet.subnet(space.close(genotype)), text(VOCAB, 2, count, seed)
        losses, expected_losses = list[torch.Tensor](), list[torch.Tensor]()
        shares = mixture.one_hot(genotype, torch.float64)
        mixed = mixture(tokens, shares, weights=weights, losses=losses)
        expected = subnet(tokens, own_weights(subnet, weights), losses=expected_losses)
        torch.testing.assert_close(mixed, expected, rtol=1e-9, atol=1e-9, msg=str(subnet.spec))
        zero = torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(sum(losses, zero), sum(expected_losses, zero))


@settings(max_examples=12, deadline=None)
@given(MIXABLE, SEEDS)
def test_what_has_no_effect_on_the_mixture_is_what_it_says_it_does_not_see(space: Space, seed: int) -> None:
    mixture, dice = Mixture(randomised(space, seed)), torch.Generator().manual_seed(seed)
    shares = mixture.shares(torch.randn(mixture.genes.size, generator=dice))
    tokens = text(VOCAB, 1, 4, seed)
    with torch.no_grad():
        before = mixture(tokens, shares)
        for gene in space.genes:
            if gene.path in mixture.unseen:
                changed = shares.clone()
                changed[mixture.genes.slice(gene)] = changed[mixture.genes.slice(gene)].flip(0)
                assert torch.equal(mixture(tokens, changed), before)
    states = {gene.path for gene in space.genes if "state" in gene.path}
    assert set(mixture.unseen) <= states | {g.path for g in space.genes if len(g.labels) == 1}


def test_decoders_of_different_vocabularies_are_refused() -> None:
    first, second = (Decoder(vocab=vocab, d_model=8, layers=()) for vocab in (11, 13))
    space = Space(one_of(first, second))
    with pytest.raises(SpaceError) as error:
        Mixture(Supernet(space))
    assert str(error.value) == (":Decoder(vocab=13).vocab: vocabularies of different sizes cannot be mixed")


@QUICK
@given(MIXABLE, SEEDS)
def test_shares_are_a_distribution_for_each_gene_and_equal_at_the_start(space: Space, seed: int) -> None:
    mixture = Mixture(Supernet(space, seed=seed))
    shares = mixture.shares(mixture.logits(torch.float64))
    for gene in space.genes:
        own = shares[mixture.genes.slice(gene)]
        torch.testing.assert_close(own, torch.full_like(own, 1 / len(gene.labels)))
