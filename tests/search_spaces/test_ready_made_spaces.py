"""The contract of ready-made spaces and architectures: searchable, stored as JSON, at the cost they state."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random

import pytest

from foundation.errors import SpaceError
from search_spaces.blocks.base import blocks
from search_spaces.language.choices import one_of
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.language.variation import crossover, mutate, neighbours
from search_spaces.language.walk import closed_values
from search_spaces.mixture import Mixture
from search_spaces.mixture.relaxable import check_space
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.sublayers import cannot_build, sublayers_in, sublayers_of
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces
from search_spaces.spaces.hybrid_lm import channel_mixer, sequence_mixer
from search_spaces.supernet import Supernet
from search_spaces.zoo import D_MODEL, Published, zoo
from tests.search_spaces.networks import text

COUNT = 12


@pytest.fixture(scope="module", params=list(spaces))
def space(request: pytest.FixtureRequest) -> Space:
    make: Callable[[], Space] = spaces[request.param]
    return make()


def samples(space: Space, count: int = COUNT) -> list[Genotype]:
    dice = Random(0)
    return [space.sample(dice) for _ in range(count)]


class TestEveryReadySpace:
    def test_it_has_its_files_name_and_a_description(self, space: Space) -> None:
        make = spaces[space.name]
        assert make.__module__ == f"search_spaces.spaces.{space.name}"
        assert inspect.getdoc(make)
        assert (make().root, make().digest) == (space.root, space.digest)

    def test_it_comes_back_from_json(self, space: Space) -> None:
        again = Space(from_json(to_json(space.root)), constraints=space.constraints, name=space.name)
        assert again.digest == space.digest
        assert again.size() == space.size() > 10**6
        assert space.digest in str(space)

    def test_its_architectures_lie_in_it(self, space: Space) -> None:
        for genotype in samples(space):
            spec = space.close(genotype)
            assert space.genotype_of(spec) == genotype
            assert from_json(to_json(spec)) == spec

    def test_its_architectures_vary_and_stay_in_it(self, space: Space) -> None:
        dice, (first, second, *_) = Random(1), samples(space)
        for child in (mutate(space, first, dice), crossover(space, first, second, dice)):
            assert space.contains(space.close(child))
        around = list(neighbours(space, first, dice))
        assert len(around) > len(first.genes)
        assert first not in around

    def test_the_cost_of_its_architectures_is_what_is_built(self, space: Space) -> None:
        for genotype in samples(space, 4):
            spec = space.close(genotype)
            model = build(spec, device="meta")
            assert spec.cost(Scenario()).params == sum(p.numel() for p in model.parameters()), str(spec)

    def test_its_sublayers_are_all_that_its_architectures_have(self, space: Space) -> None:
        if space.name == "hybrid_lm":
            pytest.skip("all bits of all blocks at all widths: too many to list in a test")
        described = set(sublayers_in(space))
        for genotype in samples(space):
            assert set(sublayers_of(space.close(genotype))) <= described

    def test_it_can_be_mixed_or_says_why_not(self, space: Space) -> None:
        if any(gene.path.endswith(".exit") for gene in space.genes):
            with pytest.raises(
                SpaceError, match=r"^layers\.0:Layer\(shared=None\)\.exit: an early exit cannot"
            ):
                check_space(space)
            return
        check_space(space)


def test_the_small_space_has_a_supernet_and_a_mixture() -> None:
    space = spaces["laptop"]()
    supernet = Supernet(space)
    assert Mixture(supernet).genes.size == sum(len(gene.labels) for gene in space.genes)
    spec = space.close(samples(space, 1)[0])
    assert supernet.subnet(spec)(text(spec.vocab, 1, 5)).shape == (1, 5, spec.vocab)


@pytest.mark.parametrize(
    ("place", "choice"), list(zip(PLACES, (sequence_mixer(), channel_mixer()), strict=True))
)
def test_the_large_space_offers_every_form_that_blocks_declare(place: str, choice: object) -> None:
    mixes = "sequence" if place == "sequence_mixer" else "channels"
    offered = {type(block) for block in closed_values(choice) if block is not None}
    declared = {kind for kind in blocks.values() if kind.mixes == mixes and kind.open_forms()}
    assert offered == declared
    assert (None in closed_values(choice)) == (place == "channel_mixer")
    for block in closed_values(choice):
        assert any(cannot_build(block, d_model) is None for d_model in (64, 96, 128)), block


@pytest.mark.parametrize("name", sorted(zoo))
class TestEveryPublishedArchitecture:
    def test_it_says_where_it_comes_from(self, name: str) -> None:
        entry: Published = zoo[name]
        assert entry.link == f"https://arxiv.org/abs/{entry.arxiv}"
        year, _, number = entry.arxiv.partition(".")
        assert year.isdigit()
        assert number.isdigit()
        assert entry.paper
        assert entry.family

    def test_it_is_small_and_legal_and_its_cost_is_what_is_built(self, name: str) -> None:
        spec = zoo[name].spec
        spec.check()
        assert spec.d_model == D_MODEL
        model = build(spec, device="meta")
        assert spec.cost(Scenario()).params == sum(p.numel() for p in model.parameters())

    def test_it_is_a_point_of_any_space_that_leaves_one_more_value_open(self, name: str) -> None:
        spec = zoo[name].spec
        extra = Layer(sequence_mixer=spec.layers[0].sequence_mixer)
        root = Decoder(
            vocab=spec.vocab,
            d_model=one_of(D_MODEL, 32),
            layers=one_of(spec.layers, (extra,)),
            norm=spec.norm,
        )
        space = Space(root)
        assert space.contains(spec)
        assert space.close(space.genotype_of(spec)) == spec
        assert space.size() == 4
