"""Costs as sums over sublayers: what each part adds, and how far the sums are from whole networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network.additive_cost import EXACT, Difference, added_by, deviation, prices
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.sublayers import Sublayer, sublayers_of
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

SCENARIO = Scenario(batch=3, prompt=24, new_tokens=8)
BESIDE = ShortConv(kernel=2)
NAMES = (
    "params",
    "prefill_flops",
    "decode_flops",
    "weight_bytes",
    "state_bytes",
    "state_bytes_per_token",
)

Counted = Callable[[Sequence[Decoder]], list[float]]


def counted(name: str) -> Counted:
    """A cost on paper of several networks."""
    return lambda specs: [float(getattr(spec.cost(SCENARIO), name)) for spec in specs]


def empty(d_model: int) -> Decoder:
    return Decoder(vocab=13, d_model=d_model, layers=(), norm=LayerNorm())


def space_of(**options: object) -> Space:
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=6),
            RGLRU(num_heads=3, head_dim=5),
            BESIDE,
        ),
        channel_mixer=one_of(None, SwiGLU(expansion=one_of(0.7, 1.3))),
        bits=Bits(weight=one_of(4, 16), state=one_of(8, 16)),
        **options,  # type: ignore[arg-type]
    )
    stack = repeat(layer, depths=(0, 1, 3))
    return Space(Decoder(vocab=13, d_model=one_of(9, 14), layers=stack, norm=LayerNorm()))


def added(total: Counted) -> Callable[[Genotype, Decoder], float]:
    """The sum of the parts of a network."""

    def of_network(genotype: Genotype, spec: Decoder) -> float:
        base = empty(spec.d_model)
        parts = [Difference(base)]
        parts += [added_by(s, base, beside=BESIDE) for s in sublayers_of(spec) if s.block is not None]
        costs = prices(total, parts)
        return fsum(costs[part] for part in parts)

    return of_network


@pytest.mark.parametrize("name", NAMES)
def test_costs_on_paper_are_sums_of_what_the_parts_add(name: str) -> None:
    space = space_of(reads_embedding=one_of(False, True))
    assert deviation(space, counted(name), added(counted(name))) < EXACT


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(NAMES))
def test_what_a_part_adds_does_not_depend_on_the_others(seed: int, name: str) -> None:
    dice, space, total = Random(seed), space_of(), counted(name)
    spec = space.close(space.sample(dice))
    assert added(total)(Genotype({}), spec) == pytest.approx(total([spec])[0], rel=1e-9, abs=1e-6)


def test_shared_weights_are_counted_once_so_their_sums_are_off() -> None:
    layer = Layer(sequence_mixer=BESIDE, shared="weights")
    space = Space(Decoder(vocab=13, d_model=one_of(9, 14), layers=(layer,) * 3, norm=LayerNorm()))
    assert deviation(space, counted("params"), added(counted("params"))) > 0.1
    assert deviation(space, counted("state_bytes"), added(counted("state_bytes"))) < EXACT


def test_networks_without_a_sum_are_left_out() -> None:
    def broken(specs: Sequence[Decoder]) -> list[float]:
        assert not specs
        return []

    assert deviation(space_of(), broken, lambda genotype, spec: None) == 0.0


def test_a_deviation_is_the_largest_and_relative() -> None:
    space = Space(Decoder(vocab=13, d_model=one_of(9, 14), layers=()))
    sums = {9: 90.0, 14: 140.0}
    total = {9: 100.0, 14: 141.0}
    worst = deviation(
        space, lambda specs: [total[spec.d_model] for spec in specs], lambda _, spec: sums[spec.d_model]
    )
    assert worst == pytest.approx(0.1)


def test_a_difference_has_its_part_alone() -> None:
    base, bits = empty(9), Bits(weight=4)
    reader = Sublayer("sequence_mixer", RGLRU(), 9, bits, reads_embedding=True)
    first = added_by(reader, base, beside=BESIDE)
    assert first.without == base
    assert first.whole.layers == (Layer(sequence_mixer=RGLRU(), bits=bits, reads_embedding=True),)
    second = added_by(Sublayer("channel_mixer", SwiGLU(), 9, bits), base, beside=BESIDE)
    assert second.without is not None
    assert second.without.layers == (Layer(sequence_mixer=BESIDE, bits=bits),)
    assert second.whole.layers == (Layer(sequence_mixer=BESIDE, channel_mixer=SwiGLU(), bits=bits),)
    for place, difference in zip(PLACES, (first, second), strict=True):
        assert difference.whole.norm == LayerNorm(), place


def test_a_cost_is_asked_once_for_all_networks() -> None:
    calls = list[int]()

    def total(specs: Sequence[Decoder]) -> list[float]:
        calls.append(len(specs))
        assert len(set(specs)) == len(specs)
        return counted("params")(specs)

    base = empty(9)
    differences = [
        Difference(base),
        *(added_by(Sublayer("sequence_mixer", BESIDE, 9), base, beside=BESIDE),) * 2,
    ]
    costs = prices(total, differences)
    assert calls == [2]
    assert costs[differences[0]] == base.cost(SCENARIO).params
    assert costs[differences[1]] == BESIDE.cost(9, SCENARIO).params + 2 * 9  # a gain and a bias


@pytest.mark.parametrize("amount", [float("nan"), float("inf")])
def test_a_cost_that_is_no_number_is_refused_with_its_network(amount: float) -> None:
    base = empty(9)
    with pytest.raises(SettingError) as error:
        prices(lambda specs: [amount for _ in specs], [Difference(base)])
    assert str(error.value) == f"a cost must be a finite number, got {amount} for {base}"
