"""Spaces of decoders drawn at random: the language, and the walker against brute force."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.language.variation import crossover, mutate, neighbours
from search_spaces.language.walk import closings, open_values
from search_spaces.network.decoder import OPTIONS, PLACES, Decoder, Layer, weights_site
from search_spaces.network.norms.base import BEFORE, Norm
from search_spaces.network.sublayers import Sublayer, decoders_in, sublayers_in, sublayers_of
from search_spaces.quantization.bits import Bits
from search_spaces.supernet.inventory import inventory
from tests.search_spaces.random_spaces import VOCAB, enumerated, holds, spaces

SEEDS = st.integers(0, 99)
QUICK = settings(max_examples=20, deadline=None)


@QUICK
@given(spaces())
def test_every_genotype_picks_an_architecture_of_its_own(space: Space) -> None:
    everything = list(enumerated(space))
    digests = [genotype.digest for genotype, _ in everything]
    specs = {spec for _, spec in everything}
    assert len(digests) == len(set(digests)) == len(specs) == space.size()
    assert digests == [genotype.digest for genotype in space.enumerate()]


@QUICK
@given(spaces())
def test_what_is_allowed_is_contained_and_what_is_not_is_refused(space: Space) -> None:
    for genotype, spec in enumerated(space):
        objection = space.objection(spec)
        assert space.contains(spec) == (objection is None)
        if objection is None:
            assert space.genotype_of(spec) == genotype
            assert space.close(genotype) == spec


@QUICK
@given(spaces(), SEEDS)
def test_json_keeps_the_space_its_genes_and_its_architectures(space: Space, seed: int) -> None:
    again = Space(from_json(to_json(space.root)), name=space.name)
    assert (again.root, again.genes, again.digest) == (space.root, space.genes, space.digest)
    assert to_json(again.root) == to_json(space.root)
    genotype = space.sample(Random(seed))
    spec = again.close(Genotype.from_json(genotype.to_json()))
    assert spec == space.close(genotype) == from_json(to_json(spec))


@QUICK
@given(spaces(), SEEDS)
def test_a_digest_depends_on_the_answers_and_not_on_their_order(space: Space, seed: int) -> None:
    genotype = space.sample(Random(seed))
    backwards = Genotype(dict(reversed(list(genotype.genes.items()))))
    assert (backwards, backwards.digest, hash(backwards)) == (genotype, genotype.digest, hash(genotype))
    assert json.loads(genotype.to_json()) == dict(genotype.genes)
    assert len(genotype.digest) == 12
    assert int(genotype.digest, 16) >= 0


@QUICK
@given(spaces(), SEEDS)
def test_samples_repeat_with_their_seed(space: Space, seed: int) -> None:
    first, second = ([space.sample(dice) for _ in range(5)] for dice in (Random(seed), Random(seed)))
    assert first == second
    assert all(space.contains(space.close(genotype)) for genotype in first)


@QUICK
@given(spaces(), SEEDS)
def test_a_child_of_two_has_no_answer_of_a_third(space: Space, seed: int) -> None:
    dice = Random(seed)
    parents = [space.sample(dice) for _ in range(2)]
    child = crossover(space, *parents, dice)
    space.close(child)
    for path, answer in child.genes.items():
        answers = [parent.genes[path] for parent in parents if path in parent.genes]
        assert answer in answers or not answers
    assert crossover(space, parents[0], parents[0], dice) == parents[0]


@QUICK
@given(spaces(), SEEDS)
def test_the_neighbours_of_an_architecture_are_all_that_differ_in_one_answer(space: Space, seed: int) -> None:
    dice = Random(seed)
    centre = space.sample(dice)
    around = list(neighbours(space, centre, dice))
    for neighbour in around:
        space.close(neighbour)
        common = centre.genes.keys() & neighbour.genes.keys()
        assert sum(centre.genes[path] != neighbour.genes[path] for path in common) == 1
    same_questions = {
        genotype
        for genotype, spec in enumerated(space)
        if genotype.genes.keys() == centre.genes.keys()
        and space.objection(spec) is None
        and sum(genotype.genes[path] != centre.genes[path] for path in centre.genes) == 1
    }
    assert same_questions <= set(around)


@pytest.mark.parametrize("changes", [1, 2, 3, 9])
def test_a_mutant_changes_as_many_answers_as_it_is_asked_to(changes: int) -> None:
    layer = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3, 4)), bits=Bits(weight=one_of(4, 8, 16)))
    space = Space(Decoder(vocab=VOCAB, d_model=one_of(8, 9), layers=(layer,)))
    for seed in range(20):
        dice = Random(seed)
        parent = space.sample(dice)
        child = mutate(space, parent, dice, changes)
        space.close(child)
        assert sum(child.genes[path] != parent.genes[path] for path in parent.genes) == min(changes, 3)


@QUICK
@given(spaces())
def test_closings_are_the_architectures_each_with_the_answers_that_lead_to_it(space: Space) -> None:
    conditions = dict(closings(space.root))
    assert len(conditions) == space.size() == len(list(closings(space.root)))
    for genotype, spec in enumerated(space):
        assert holds(conditions[spec], genotype, space)
        assert conditions[spec].keys() == genotype.genes.keys()


@QUICK
@given(spaces())
def test_the_genes_are_the_questions_that_some_architecture_is_asked(space: Space) -> None:
    asked = {path for genotype, _ in enumerated(space) for path in genotype.genes}
    assert {gene.path for gene in space.genes} == asked
    assert {path for path, _ in open_values(space.root)} == asked
    genotypes = list(space.enumerate())
    for gene in space.genes:
        answers = {genotype.genes[gene.path] for genotype in genotypes if gene.path in genotype.genes}
        assert answers == set(gene.labels)


@QUICK
@given(spaces())
def test_the_sublayers_of_a_space_are_those_of_all_its_architectures(space: Space) -> None:
    expected = {sublayer for _, spec in enumerated(space) for sublayer in sublayers_of(spec)}
    described = list(sublayers_in(space))
    assert set(described) == expected
    assert len(described) == len(expected)


@QUICK
@given(spaces())
def test_a_sublayer_is_there_exactly_under_its_conditions(space: Space) -> None:
    conditions = [
        (layer.index, sublayer, decoder.condition, condition)
        for decoder in decoders_in(space.root)
        for layer in decoder.layers()
        for place in PLACES
        for sublayer, condition in layer.sublayers(place, list(decoder.closings("d_model")))
    ]
    for genotype, spec in list(enumerated(space))[:40]:
        there = [
            (i, sublayer)
            for i, sublayer, outer, condition in conditions
            if holds(outer, genotype, space) and holds(condition, genotype, space)
        ]
        assert set(there) == _placed(spec)
        assert len(there) == len(PLACES) * len(spec.layers)


def _placed(spec: Decoder) -> set[tuple[int, Sublayer]]:
    """The sublayers of a network with the index of their layer."""
    return {(i // len(PLACES), sublayer) for i, sublayer in enumerate(sublayers_of(spec))}


@QUICK
@given(spaces())
def test_the_inventory_is_what_the_architectures_consist_of(space: Space) -> None:
    parts, specs = inventory(space.root), [spec for _, spec in enumerated(space)]
    assert parts.widths == {spec.d_model for spec in specs}
    assert set(parts.shells) == {spec.shell for spec in specs}
    blocks, norms = dict[tuple[str, str], set[object]](), dict[tuple[str, str], set[Norm]]()
    options = dict[str, set[object]]()
    for spec in specs:
        for index, layer in enumerate(spec.layers):
            site = weights_site(layer.shared, index)
            for place, block in layer.blocks.items():
                key = (f"{site}.{place}", type(block).__name__)
                blocks.setdefault(key, set()).add((block, spec.d_model))
                norms.setdefault(key, set()).add(layer.norm_in(spec.norm))
            for name, option in layer.options.items():
                options.setdefault(f"{site}.{name}", set()).add(option)
    # a width counts for every block of its decoder, also where a shared choice excludes the pair
    assert parts.variants.keys() == blocks.keys()
    assert all(set(parts.variants[key]) >= blocks[key] for key in blocks)
    assert parts.norms.keys() == norms.keys()
    for key, own in norms.items():
        assert set(parts.norms[key]) >= own
        assert {norm.at(BEFORE) for norm in parts.norms[key]} == {norm.at(BEFORE) for norm in own}
    assert parts.options.keys() >= options.keys()
    assert all(set(parts.options[key]) >= options[key] for key in options)
    assert {path.rpartition(".")[2] for path in parts.options} <= set(OPTIONS)


@QUICK
@given(spaces())
def test_a_printed_space_states_its_size_and_its_shared_choices(space: Space) -> None:
    text = str(space)
    first = text.splitlines()[0]
    count = f"{space.size():,}"
    genes = len(space.genes)
    assert first == f"random: {count} architectures, {genes} genes, digest {space.digest}"
    for _, choice in open_values(space.root):
        if choice.name is not None:
            assert f"(shared as {choice.name!r})" in text
