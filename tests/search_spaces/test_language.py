"""The language for spaces, shown on generated spaces."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from foundation.errors import IllegalArchitecture, SpaceError, UnknownName
from search_spaces.language.choices import OneOf, one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_json, from_plain, parts, to_json
from search_spaces.language.space import Space, close, draw
from search_spaces.language.variation import crossover, mutate, neighbours


@parts.add
@dataclass(frozen=True)
class Leaf:
    a: Any = 1
    b: Any = None


@parts.add
@dataclass(frozen=True)
class Other:
    c: Any = 1


@parts.add
@dataclass(frozen=True)
class Node:
    left: Any
    right: Any = None


numbers = st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True).map(lambda v: one_of(*v))
shared = st.sampled_from([one_of(1, 2, name="two"), one_of("x", "y", "z", name="three")])
values = st.one_of(st.integers(0, 6), numbers, shared, st.none())
leaves = st.one_of(st.builds(Leaf, values, values), st.builds(Other, values))


def _choices(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, min_size=1, max_size=3).map(_one_of_or_first)


def _one_of_or_first(options: list[Any]) -> Any:
    if any(isinstance(option, OneOf) for option in options):
        return options[0]
    try:
        return one_of(*options)
    except SpaceError:  # overlapping options are refused, as they should be
        return options[0]


trees = st.recursive(
    leaves,
    lambda children: st.one_of(
        _choices(children),
        st.builds(Node, children, values),
        st.tuples(children, st.sampled_from([(1, 2), (0, 1), (2,), (1, 3)])).map(lambda t: repeat(*t)),
    ),
    max_leaves=4,
)
spaces = trees.map(lambda tree: Space(Node(tree, one_of(1, 2))))


def small(space: Space, limit: int = 1500) -> bool:
    return space.size() <= limit


@given(spaces, st.integers(0, 9))
def test_every_draw_is_contained_and_comes_back(space: Space, seed: int) -> None:
    genotype = space.sample(Random(seed))
    spec = space.close(genotype)
    assert space.contains(spec)
    assert space.genotype_of(spec) == genotype
    assert draw(space, lambda path, labels: genotype.genes[path]) == genotype
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.from_json(genotype.to_json()).digest == genotype.digest


@given(spaces, st.integers(0, 9))
def test_json_keeps_spaces_and_architectures(space: Space, seed: int) -> None:
    again = Space(from_json(to_json(space.root)))
    assert again.root == space.root
    assert again.digest == space.digest
    spec = close(space, space.sample(Random(seed)))
    assert from_json(to_json(spec)) == spec


@settings(max_examples=60)
@given(spaces.filter(small))
def test_size_counts_distinct_architectures(space: Space) -> None:
    genotypes = list(space.enumerate())
    specs = {repr(space.close(genotype)) for genotype in genotypes}
    assert len(genotypes) == len({g.digest for g in genotypes}) == len(specs) == space.size()


@settings(max_examples=60)
@given(spaces.filter(lambda space: small(space, 300)))
def test_equal_specs_have_equal_digests(space: Space) -> None:
    digests: dict[Any, str] = {}
    for genotype in space.enumerate():
        assert digests.setdefault(space.close(genotype), genotype.digest) == genotype.digest


@given(spaces, st.integers(0, 9))
def test_static_genes_hold_every_question_and_its_labels(space: Space, seed: int) -> None:
    labels = {gene.path: gene.labels for gene in space.genes}
    genotype = space.sample(Random(seed))
    assert all(genotype.genes[path] in labels[path] for path in genotype.genes)
    assert len(labels) == len(space.genes)


@given(spaces, st.integers(0, 9))
def test_crossover_takes_parents_answers_or_fresh_ones_where_neither_was_asked(
    space: Space, seed: int
) -> None:
    dice = Random(seed)
    parents = [space.sample(dice) for _ in range(2)]
    child = crossover(space, *parents, dice)
    for path, answer in child.genes.items():
        inherited = [parent.genes[path] for parent in parents if path in parent.genes]
        assert not inherited or answer in inherited
    assert space.contains(space.close(child))


@given(spaces, st.integers(0, 9))
def test_a_mutant_differs_and_keeps_what_it_can(space: Space, seed: int) -> None:
    dice = Random(seed)
    parent = space.sample(dice)
    varying = {gene.path for gene in space.genes if len(gene.labels) > 1} & set(parent.genes)
    assume(varying)
    child = mutate(space, parent, dice)
    assert child != parent
    changed = [p for p in child.genes if p in parent.genes and child.genes[p] != parent.genes[p]]
    assert len(changed) == 1


@given(spaces.filter(lambda space: small(space, 300)), st.integers(0, 9))
def test_neighbours_differ_in_one_answer_and_are_all_there(space: Space, seed: int) -> None:
    dice = Random(seed)
    centre = space.sample(dice)
    around = list(neighbours(space, centre, dice))
    labels = {gene.path: gene.labels for gene in space.genes}
    assert len(around) == sum(len(labels[path]) - 1 for path in centre.genes)
    for neighbour in around:
        common = [p for p in neighbour.genes if p in centre.genes]
        assert sum(neighbour.genes[p] != centre.genes[p] for p in common) == 1


def test_depths_share_their_genes() -> None:
    space = Space(repeat(Leaf(one_of(1, 2)), (1, 3)))
    assert [gene.path for gene in space.genes] == ["", "0.a", "1.a", "2.a"]


def test_a_branch_opens_questions_under_its_own_name() -> None:
    space = Space(Node(one_of(Leaf(one_of(1, 2)), Other(one_of(3, 4)))))
    assert {gene.path for gene in space.genes} == {"left", "left:Leaf.a", "left:Other.c"}


def test_options_of_one_kind_are_told_apart_by_what_differs() -> None:
    choice = one_of(Leaf(a=one_of(1, 2)), Leaf(a=2, b=one_of(7, 8)))
    assert choice.labels == ("Leaf(b=None)", "Leaf(b=7|8)")


def test_a_shared_choice_is_one_gene_and_counts_once() -> None:
    k = one_of(1, 2, 3, name="k")
    space = Space(Node(Leaf(k, k), Other(k)))
    assert space.size() == 3
    assert [gene.path for gene in space.genes] == ["@k"]
    spec = space.close(Genotype({"@k": 2}))
    assert (spec.left.a, spec.left.b, spec.right.c) == (2, 2, 2)
    assert not space.contains(Node(Leaf(1, 2), Other(1)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: one_of(), "at least one option"),
        (lambda: one_of(1, 1), "disjoint"),
        (lambda: one_of(Leaf(one_of(1, 2)), Leaf(2)), "disjoint"),
        (lambda: one_of(one_of(1, 2), 3), "side by side"),
        (lambda: one_of(Leaf), "write Leaf\\(\\)"),
        (lambda: one_of([1, 2]), "use a tuple"),
        (lambda: Space(Node(left={"a": 1})), "at left: a dict"),
        (lambda: repeat(Leaf(), ("two",)), "whole numbers"),
        (lambda: Space(Node(one_of(1, 2, name="n"), one_of(1, 3, name="n"))), "two sets of options"),
        (lambda: Space(Leaf(), constraints=[3]), "a function"),
    ],
)
def test_ill_formed_spaces_say_what_would_be_right(make: Any, text: str) -> None:
    with pytest.raises(SpaceError, match=text):
        make()


def test_an_unsatisfiable_constraint_is_named_with_its_count() -> None:
    def never(spec: Node) -> bool:
        return False

    space = Space(Node(one_of(1, 2)), constraints=[never])
    with pytest.raises(SpaceError, match="1000 times: violates the constraint never"):
        space.sample(Random(0))


def test_constraints_hold_in_samples_mutants_and_crossings() -> None:
    space = Space(
        Node(Leaf(one_of(*range(9)), one_of(*range(9)))),
        constraints=[lambda spec: spec.left.a + spec.left.b < 9],
    )
    dice = Random(0)
    population = [space.sample(dice) for _ in range(20)]
    population += [mutate(space, parent, dice) for parent in population]
    population += [crossover(space, *dice.sample(population, 2), dice) for _ in range(20)]
    assert all(spec.left.a + spec.left.b < 9 for spec in map(space.close, population))


@pytest.mark.parametrize(
    "genes",
    [{}, {"left": 3}, {"left": True}, {"left": "1"}, {"left": 1, "right": 1}, {"left": 1.0}],
)
def test_a_wrong_genotype_is_an_illegal_architecture(genes: dict[str, Any]) -> None:
    with pytest.raises(IllegalArchitecture):
        Space(Node(one_of(1, 2))).close(Genotype(genes))


def test_reading_json_suggests_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'Leaf'"):
        from_plain({"type": "Leef"})
    with pytest.raises(UnknownName, match=r"Leaf has no field 'aa'.*did you mean 'a'"):
        from_plain({"type": "Leaf", "aa": 1})
    with pytest.raises(SpaceError, match="Node needs left"):
        from_plain({"type": "Node"})


def test_printing_a_space_names_its_parts() -> None:
    text = str(Space(Node(repeat(Leaf(one_of(1, 2)), (1, 2)), one_of("p", "q", name="pq")), name="mine"))
    for word in ("mine: 12 architectures", "a stack of 1, 2 times", "one of 1, 2", "shared as 'pq'"):
        assert word in text


def test_options_that_differ_deep_inside_are_told_apart() -> None:
    choice = one_of(Node(Leaf(1)), Node(Leaf(2)))
    assert choice.labels == ("Node(left=Leaf)", "Node(left=Leaf(a=2))")
