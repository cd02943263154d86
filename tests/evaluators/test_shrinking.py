"""Phases are parts of a space; steps visit them fairly."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.supernet.sandwich import Sandwich, sandwich
from evaluators.supernet.shrinking import (
    DEPTH,
    DIMENSIONS,
    SHRINKING,
    SIZES,
    WHOLE,
    WIDTH,
    Phase,
    narrowed,
    phase_at,
    starts,
)
from foundation.errors import SettingError, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.spaces.hybrid_lm import hybrid_lm
from search_spaces.spaces.laptop import laptop


def small(**more: object) -> Space:
    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=4, num_kv_heads=one_of(1, 4), head_dim=4), ShortConv()),
        channel_mixer=one_of(SwiGLU(expansion=one_of(1, 2)), MoE(num_experts=one_of(2, 4), top_k=1), None),
        bits=Bits(weight=one_of(4, 8)),
    )
    return Space(Decoder(vocab=11, d_model=one_of(8, 16), layers=repeat(layer, (1, 3))), **more)


def size_labels(space: Space, genotype: Genotype) -> dict[str, set[Label]]:
    """What a genotype of the whole space answers, by the dimension of the question."""
    found: dict[str, set[Label]] = {name: set() for name in DIMENSIONS}
    for gene in space.genes:
        if gene.path not in genotype.genes:
            continue
        label = genotype.genes[gene.path]
        dimension = {"d_model": WIDTH, "layers": DEPTH}.get(gene.path)
        if dimension is None and all(type(other) in (int, float) for other in gene.labels):
            dimension = SIZES
        if dimension:
            found[dimension].add("largest" if label == max(gene.labels) else "smaller")
    return found


@pytest.mark.parametrize("space", [small(), laptop(), hybrid_lm()], ids=lambda space: space.name)
@pytest.mark.parametrize("varies", [(), (SIZES,), (DEPTH,), (SIZES, DEPTH), (WIDTH,)])
def test_what_is_held_is_at_its_largest_and_all_else_varies(space: Space, varies: tuple[str, ...]) -> None:
    part, dice = narrowed(space, varies), Random(0)
    seen: dict[str, set[Label]] = {name: set() for name in DIMENSIONS}
    kinds = set()
    for _ in range(60):
        spec = part.close(part.sample(dice))
        kinds |= {type(layer.sequence_mixer) for layer in spec.layers}
        for name, labels in size_labels(space, space.genotype_of(spec)).items():
            seen[name] |= labels
    for name in DIMENSIONS:
        assert seen[name] == ({"largest", "smaller"} if name in varies else {"largest"})
    assert len(kinds) > 1


def test_everything_open_is_the_space_itself() -> None:
    space = small()
    assert narrowed(space, DIMENSIONS) is space
    closed = Space(Decoder(d_model=8, layers=(Layer(sequence_mixer=ShortConv()),)))
    assert narrowed(closed, ()) is closed


def test_a_shared_choice_opens_when_all_its_uses_do() -> None:
    size = one_of(8, 16, name="size")
    layer = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=size))
    space = Space(Decoder(d_model=size, layers=(layer,)))
    assert narrowed(space, (SIZES,)).size() == 1
    assert narrowed(space, (WIDTH,)).size() == 1
    assert narrowed(space, (SIZES, WIDTH)).size() == 2


def test_constraints_hold_in_every_phase() -> None:
    space = small(constraints=[lambda spec: spec.d_model * len(spec.layers) < 48])
    assert narrowed(space, (DEPTH,)).sample(Random(0)).genes["layers"] == 1
    with pytest.raises(SpaceError, match="of which no size varies"):
        narrowed(space, ()).sample(Random(0))


@given(st.integers(1, 400), st.lists(st.floats(0.01, 5), min_size=1, max_size=6))
def test_phases_follow_each_other_and_fill_the_training(steps: int, shares: list[float]) -> None:
    phases = [Phase(str(i), (), share) for i, share in enumerate(shares)]
    numbers = [phase_at(phases, steps, step) for step in range(steps)]
    assert numbers == sorted(numbers)
    for i, share in enumerate(shares):
        assert abs(numbers.count(i) - steps * share / sum(shares)) <= 1
    begins = starts(phases, steps)
    assert begins[0] == 0
    assert all(numbers[begin] >= i for i, begin in enumerate(begins) if begin < steps)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), networks=st.integers(1, 5))
def test_kinds_are_dealt_evenly_whatever_the_number_of_networks(seed: int, networks: int) -> None:
    space = small()
    visits = Sandwich(narrowed(space, ()), seed, networks)
    seen: Counter[tuple[int, str]] = Counter()
    for step in range(30):
        for place in range(networks):  # before equal ones are merged
            spec = _network(visits, step, place)
            seen.update((i, type(layer.sequence_mixer).__name__) for i, layer in enumerate(spec.layers))
    for i in range(3):
        counts = [seen[i, name] for name in ("Attention", "ShortConv")]
        assert max(counts) - min(counts) <= 1


def _network(visits: Sandwich, step: int, place: int) -> Decoder:
    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        return visits._dealt(path, labels, step * visits.networks + place)

    spec: Decoder = visits.space.draw(answer)[1]
    return spec


def test_a_step_has_the_largest_first_and_the_smallest_second() -> None:
    space = small()
    for step in range(10):
        specs = Sandwich(space, 3).of(step)
        assert specs == Sandwich(space, 3).of(step)
        assert [spec.d_model for spec in specs[:2]] == [16, 8]
        assert [len(spec.layers) for spec in specs[:2]] == [3, 1]
        assert len(specs) == 4
    assert Sandwich(space, 3).of(0) != Sandwich(space, 4).of(0)
    assert {len(Sandwich(space, 3, networks=2).of(step)) for step in range(9)} == {2}
    assert {Sandwich(space, 3, networks=2).of(step)[0].d_model for step in range(9)} == {16}
    assert {Sandwich(space, 3, networks=1).of(step)[0].d_model for step in range(20)} == {8, 16}


def test_equal_networks_are_visited_once() -> None:
    closed = Space(Decoder(d_model=8, layers=(Layer(sequence_mixer=ShortConv()),)))
    assert len(Sandwich(closed, 0).of(0)) == 1
    assert len(sandwich(closed, Random(0))) == 4


def test_random_networks_may_come_from_the_neighbourhood_of_favoured_ones() -> None:
    space = laptop()
    front = (space.sample(Random(1)), space.sample(Random(2)))
    visits = Sandwich(space, 0, favoured=front, favour=0.75)
    near = total = 0
    for step in range(40):
        for spec in visits.of(step)[2:]:
            genes = space.genotype_of(spec).genes
            distance = min(sum(genes.get(k) != v for k, v in one.genes.items()) for one in front)
            near, total = near + (distance <= 4), total + 1
    assert 0.6 < near / total < 0.9
    far = sum(
        min(sum(space.genotype_of(s).genes.get(k) != v for k, v in one.genes.items()) for one in front) <= 4
        for step in range(40)
        for s in Sandwich(space, 0).of(step)[2:]
    )
    assert far < 5


def test_phases_of_nonsense_are_refused() -> None:
    with pytest.raises(SettingError, match="varies must be one of sizes, depth, width, got 'kinds'"):
        Phase("x", ("kinds",), 1)
    with pytest.raises(SettingError, match="must be positive, got 0"):
        Phase("x", (), 0)
    assert SHRINKING[-1].varies == WHOLE[0].varies == DIMENSIONS
