import math
from dataclasses import replace

import numpy as np
import pytest

from hw_profiles.latency.features import Axes, coordinates, features
from hw_profiles.latency.interpolation import Interpolator
from hw_profiles.latency.parts import at_position, block_part
from hw_profiles.timing.timings import Latency
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.scenario import Scenario

SCENARIO = Scenario(prompt=64, new_tokens=16)


def swiglu(d_model, expansion):
    return block_part(SwiGLU(expansion=expansion), d_model, 16)


def attention(heads, d_model=64, window=None, state_bits=16):
    block = Attention(num_heads=heads, num_kv_heads=heads, head_dim=16, window=window)
    return block_part(block, d_model, state_bits)


def physical(part, reading):
    """A machine that takes what its operations and bytes say."""
    one, flops, weights, state, activations = features(part, SCENARIO, reading)
    return 0.02 * one + flops / 5e7 + weights / 1e7 + state / 4e6 + activations / 2e7


def measured(parts, truth=physical):
    return {
        part: {reading: Latency((truth(part, reading),) * 5) for reading in ("prefill_ms", "decode_ms")}
        for part in parts
    }


def test_features_are_operations_and_bytes():
    part = attention(2)
    cost = part.block.cost(64, SCENARIO)
    weights = 2 * cost.params  # 16 bits
    prefill = features(part, SCENARIO, "prefill_ms")
    assert (*prefill[:3], prefill[4]) == (1.0, cost.prefill_flops, weights, 64 * 64)
    one, flops, held, state, activations = features(part, SCENARIO, "decode_ms")
    assert (one, flops, held, activations) == (1.0, cost.decode_flops, weights, 64)
    assert (
        state == 2 * 2 * 16 * (SCENARIO.decode_position + 1) * 2
    )  # keys and values of 2 heads of 16 at 2 bytes
    assert features(replace(part, state_bits=8), SCENARIO, "decode_ms")[3] == state / 2
    late = features(at_position(part, 159), SCENARIO, "decode_ms")
    assert late[3] == 2 * 2 * 16 * 160 * 2
    assert late[1] > flops
    static = replace(SCENARIO, engine="compile")
    assert features(part, static, "decode_ms")[3] == 2 * 2 * 16 * SCENARIO.context * 2


def test_coordinates_are_logarithms_and_categories():
    found = coordinates(attention(4, window=None))
    assert found[".num_heads"] == 2.0
    assert found["d_model"] == 6.0
    assert found[".window"] == "None"
    assert coordinates(attention(4, window=32))[".window"] == 5.0


def test_what_lies_between_measured_parts_is_interpolated():
    known = [swiglu(d, e) for d in (64, 128, 256) for e in (1, 2, 4)]
    interpolator = Interpolator(measured(known), SCENARIO)
    between = [swiglu(96, 2), swiglu(192, 3), swiglu(128, 3)]
    for reading in ("prefill_ms", "decode_ms"):
        for part, found in zip(between, interpolator.estimate(between, reading), strict=True):
            assert found.ms == pytest.approx(physical(part, reading), rel=0.02)
            assert 0 < found.error < 0.1


def test_a_staircase_is_followed_where_it_was_measured():
    def steps(part, reading):
        return 0.1 * math.ceil(part.d_model / 64) * (1.3 if part.d_model > 128 else 1.0)

    known = [swiglu(d, 2) for d in range(32, 257, 16)]
    interpolator = Interpolator(measured(known, steps), SCENARIO)
    found = interpolator.estimate(known, "prefill_ms")
    for part, estimate in zip(known, found, strict=True):
        assert estimate.ms == pytest.approx(steps(part, "prefill_ms"), rel=0.12)


def test_errors_grow_with_the_distance():
    rng = np.random.default_rng(0)
    rough = {d: 1 + 0.2 * rng.standard_normal() for d in (64, 80, 96, 112, 128)}
    known = [swiglu(d, 2) for d in rough]
    interpolator = Interpolator(measured(known, lambda part, reading: rough[part.d_model]), SCENARIO)
    at, near, far = interpolator.estimate([swiglu(96, 2), swiglu(104, 2), swiglu(512, 2)], "prefill_ms")
    assert at.error < near.error < far.error


def test_kinds_with_one_measurement_lean_on_the_others():
    known = [swiglu(d, e) for d in (64, 128, 256) for e in (1, 2, 4)]
    interpolator = Interpolator(measured([*known, attention(4)]), SCENARIO)
    at, twice = interpolator.estimate([attention(4), attention(8)], "prefill_ms")
    assert at.ms == pytest.approx(physical(attention(4), "prefill_ms"), rel=0.05)
    assert 1.2 < twice.ms / at.ms < 2.5
    assert twice.ms == pytest.approx(physical(attention(8), "prefill_ms"), rel=0.35)


def test_laws_know_their_reach():
    interpolator = Interpolator(measured([swiglu(64, 1), swiglu(128, 2)]), SCENARIO)
    assert interpolator.covers(swiglu(96, 4))
    assert not interpolator.covers(swiglu(512, 2))
    assert not interpolator.covers(attention(4))


def test_positions_are_an_axis():
    late, early = at_position(attention(4), 300), at_position(attention(4), 8)
    entries = measured([attention(2), attention(4)])
    entries |= {p: {"decode_ms": Latency((physical(p, "decode_ms"),) * 5)} for p in (late, early)}
    interpolator = Interpolator(entries, SCENARIO)
    middle = at_position(attention(4), 150)
    found = interpolator.estimate([middle], "decode_ms")[0]
    assert found.ms == pytest.approx(physical(middle, "decode_ms"), rel=0.1)
    assert interpolator.kinds["Attention", "prefill_ms"].axes.x.shape[0] == 2


def test_categories_are_a_doubling_apart():
    parts = [attention(4), attention(4, window=32), attention(8, window=32)]
    axes = Axes(parts, 0.0)
    gaps = axes.distances(parts)
    assert gaps[0, 1] == pytest.approx(1.0)
    assert gaps[1, 2] == pytest.approx(2.0)  # heads of both kinds double
    assert np.allclose(np.diag(gaps), 0)
