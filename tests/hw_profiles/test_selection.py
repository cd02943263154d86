from random import Random

import pytest

from hw_profiles.latency.interpolation import Interpolator
from hw_profiles.latency.parts import block_part, parts_in, parts_of
from hw_profiles.latency.selection import (
    KIND_LIMIT,
    SMALL_SPACE,
    coarse_grid,
    expected_errors,
    most_uncertain,
    random_specs,
    usage_in,
)
from hw_profiles.timing.timings import Latency
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, small_space


def wide_space():
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=one_of(1, 2, 4, 8), num_kv_heads=1, head_dim=one_of(16, 32)),
            RGLRU(num_heads=one_of(2, 4), head_dim=one_of(16, 32, 64)),
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3, 4)),
    )
    return Space(Decoder(vocab=16, d_model=one_of(64, 96, 128), layers=repeat(layer, (2, 4))))


def test_a_small_space_is_measured_whole():
    parts = parts_in(small_space())
    least, more = coarse_grid(parts, {}, SCENARIO, 0)
    grid = [*least, *more]
    assert len(grid) == len(set(grid)) == len(parts) <= SMALL_SPACE
    assert set(grid) == set(parts)


def test_a_grid_begins_with_the_outer_parts_and_one_of_every_kind():
    parts, scenario = parts_in(wide_space()), Scenario(prompt=64, new_tokens=16, engine="compile")
    assert len(parts) > SMALL_SPACE
    least, more = coarse_grid(parts, {}, scenario, 0)
    grid = [*least, *more]
    assert [part.kind for part in grid[:3]] == [""] * 3
    assert {part.kind for part in grid[3:6]} == {"Attention", "RGLRU", "SwiGLU"}
    assert len(grid) == len(set(grid)) < len(parts)
    assert (least, more) == coarse_grid(parts, {}, scenario, 0)


def test_a_grid_has_the_ends_of_every_range():
    grid, _ = coarse_grid(parts_in(wide_space()), {}, SCENARIO, 0)
    for kind, field, values in (
        ("Attention", "num_heads", {1, 8}),
        ("RGLRU", "head_dim", {16, 64}),
        ("SwiGLU", "expansion", {1, 4}),
    ):
        blocks = [part.block for part in grid if part.kind == kind]
        assert values <= {getattr(block, field) for block in blocks}
        assert {64, 128} <= {part.d_model for part in grid if part.kind == kind}


def test_growing_states_are_also_looked_at_elsewhere():
    scenario = Scenario(prompt=64, new_tokens=16)
    least, more = coarse_grid(parts_in(wide_space()), {}, scenario, 0)
    moved = [part for part in more if part.position is not None]
    assert not [part for part in least if part.position is not None]
    assert {part.kind for part in moved} == {"Attention"}
    assert {part.position for part in moved} == {16, 79}
    static = Scenario(engine="compile", prompt=64, new_tokens=16)
    _, more = coarse_grid(parts_in(wide_space()), {}, static, 0)
    assert not [part for part in more if part.position is not None]


def test_what_is_needed_puts_every_part_within_reach():
    """Here no part is the largest in everything: many heads are narrow."""
    sizes = tuple(Attention(num_heads=2**i, num_kv_heads=1, head_dim=2 ** (9 - i)) for i in range(1, 9))
    layer = Layer(sequence_mixer=one_of(*sizes), channel_mixer=SwiGLU(expansion=one_of(*range(1, 9))))
    space = Space(Decoder(vocab=16, d_model=one_of(64, 96, 128), layers=repeat(layer, (2,))))
    parts = parts_in(space)
    assert len(parts) > SMALL_SPACE
    least, _ = coarse_grid(parts, {}, SCENARIO, 0)
    known = {p: {r: Latency((1.0,) * 5) for r in ("prefill_ms", "decode_ms")} for p in least}
    interpolator = Interpolator(known, SCENARIO)
    assert all(interpolator.covers(part) for part in parts if part.block is not None)
    assert len(least) < len(parts) / 2


def test_usage_counts_how_often_a_part_stands_in_a_network():
    usage = usage_in(small_space(depths=(2,)), frozenset(), 0)
    halves = {part: count for part, count in usage.items() if part.kind == "Sum"}
    assert sum(halves.values()) == pytest.approx(2.0)
    assert usage[block_part(Scale(), 8, 16)] == pytest.approx(1.0, abs=0.25)


def test_random_networks_have_no_routers():
    layer = Layer(sequence_mixer=Sum(), routing=one_of(None, MixtureOfDepths()))
    space = Space(Decoder(vocab=16, d_model=8, layers=repeat(layer, (2,))))
    specs = list(random_specs(space, Random(0), 5))
    assert len(specs) == 5
    assert all(layer.routing is None for spec in specs for layer in spec.layers)


def test_what_is_measured_has_no_error_and_the_usual_is_asked_for_first():
    parts = [block_part(SwiGLU(expansion=e), d, 16) for d in (64, 96, 128) for e in (1, 2, 3, 4)]
    known = {
        part: {r: Latency((float(i + 1),) * 5) for r in ("prefill_ms", "decode_ms")}
        for i, part in enumerate(parts[::4])
    }
    interpolator, usual = Interpolator(known, SCENARIO), parts[1]
    error, shares = expected_errors(parts, {usual: 2.0, parts[2]: 0.1}, interpolator, known)
    assert error > 0
    assert all(shares[part] == 0 for part in known)
    assert most_uncertain(shares, 5)[0] == usual
    assert len(most_uncertain(shares, 5)) == KIND_LIMIT
    assert expected_errors(parts, {usual: 2.0}, interpolator, dict.fromkeys(parts)) == (
        0.0,
        dict.fromkeys(parts, 0.0),
    )


def test_all_parts_of_networks_are_known_to_usage():
    space = small_space()
    usage = usage_in(space, frozenset(), 0)
    spec = next(random_specs(space, Random(5), 1))
    assert set(parts_of(spec)) <= set(usage)
