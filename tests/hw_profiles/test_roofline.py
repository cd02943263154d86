"""The roofline by hand, its limits, and that nobody can take an estimate for a measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundation.errors import ProfileError, SettingError
from hw_profiles.roofline.cards import Card, cards
from hw_profiles.roofline.roofline import ESTIMATE, Roofline, Work
from hw_profiles.timing.timings import READINGS
from nas.objectives.base import CostModel, objectives
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import small_space

SCENARIO = Scenario(prompt=64, new_tokens=8)


def card(flops: float, bandwidth: float, launch_us: float | None = None) -> Card:
    told = dict.fromkeys(("flops", "bandwidth", "launch_us"), "made up")
    return Card(
        name="toy",
        title="a toy",
        kind="cpu",
        flops={"float32": flops},
        bandwidth=bandwidth,
        launch_us=launch_us,
        sources=told,
    )


def spec(layers: int = 2, d_model: int = 64, **bits: float) -> Decoder:
    layer = Layer(
        sequence_mixer=Attention(num_heads=4, head_dim=16),
        channel_mixer=SwiGLU(),
        bits=Bits(**bits),  # type: ignore[arg-type]
    )
    return Decoder(vocab=128, d_model=d_model, layers=(layer,) * layers)


def test_the_slowest_of_three_decides() -> None:
    work = Work(flops=6e9, bytes=2e9, launches=1000)
    assert work.seconds(card(1e9, 1e9), SCENARIO) == 6
    assert work.seconds(card(1e12, 1e9), SCENARIO) == 2
    assert work.seconds(card(1e12, 1e12, 100.0), SCENARIO) == pytest.approx(0.1)
    graph = Scenario(device="cuda", engine="graph")
    assert work.seconds(replace(card(1e12, 1e12, 100.0), kind="cuda"), graph) == pytest.approx(0.006)


def test_where_products_decide_the_estimate_is_the_flops_on_paper() -> None:
    slow = Roofline(card(1e6, 1e15), SCENARIO)
    cost = spec().cost(SCENARIO)
    found = slow.predict(spec())
    assert found["prefill_ms"][0] == pytest.approx(cost.prefill_flops / 1e6 * 1e3)
    assert found["decode_ms"][0] == pytest.approx(cost.decode_flops / 1e6 * 1e3)


def test_where_memory_decides_a_token_reads_all_weights_and_little_else() -> None:
    narrow = Roofline(card(1e18, 1e9), SCENARIO)
    seconds = narrow.predict(spec(d_model=256))["decode_ms"][0] / 1e3
    weights = 4 * spec(d_model=256).cost(SCENARIO).params
    assert weights / 1e9 < seconds < 1.4 * weights / 1e9


def test_fewer_bits_are_read_faster_and_a_prompt_of_the_same_products_is_not() -> None:
    narrow, slow = Roofline(card(1e18, 1e9), SCENARIO), Roofline(card(1e6, 1e15), SCENARIO)
    full, few = spec(d_model=256), spec(d_model=256, weight=4)
    saved = 4 * full.cost(SCENARIO).params - few.cost(SCENARIO).weight_bytes
    gained = narrow.predict(full)["decode_ms"][0] - narrow.predict(few)["decode_ms"][0]
    assert 0.8 * saved / 1e9 < gained / 1e3 <= saved / 1e9
    assert slow.predict(full) == slow.predict(few)


def test_tokens_at_fewer_bits_read_fewer_bytes_and_compute_the_same() -> None:
    narrow, eight = card(1e18, 1e9), spec(d_model=256, weight=8)
    low = AdaptivePrecision(low=4, share=0.25)
    adaptive = replace(eight, layers=tuple(replace(layer, precision=low) for layer in eight.layers))
    for batch in (1, 3):
        roofline = Roofline(narrow, replace(SCENARIO, batch=batch))
        before, after = roofline.predict(eight), roofline.predict(adaptive)
        codes = 2 * sum(p.numel() for p in SwiGLU().build(256).parameters())
        saved = before["decode_ms"][0] - after["decode_ms"][0]
        assert saved == pytest.approx(0.75**batch * codes / 2 / 1e9 * 1e3, rel=1e-6)
        assert after["prefill_ms"] == before["prefill_ms"]


def test_a_compiled_network_moves_less() -> None:
    device = card(1e18, 1e9)
    compiled = Roofline(device, replace(SCENARIO, engine="compile")).predict(spec())
    assert compiled["prefill_ms"][0] < 0.7 * Roofline(device, SCENARIO).predict(spec())["prefill_ms"][0]


def test_layers_add_up_and_growing_states_show() -> None:
    roofline = Roofline(card(1e10, 1e9), SCENARIO)
    one, two, three = (roofline.predict(spec(layers))["decode_ms"][0] for layers in (1, 2, 3))
    assert three - two == pytest.approx(two - one)
    long = Roofline(card(1e18, 1e9), replace(SCENARIO, prompt=4096))
    short = Roofline(card(1e18, 1e9), SCENARIO)
    states = Decoder(vocab=8, d_model=64, layers=(Layer(sequence_mixer=Mamba2(num_heads=4)),))
    cache = Decoder(vocab=8, d_model=64, layers=(Layer(sequence_mixer=Attention(num_heads=4)),))
    assert long.predict(cache)["decode_ms"][0] > 5 * short.predict(cache)["decode_ms"][0]
    assert long.predict(states)["decode_ms"][0] == short.predict(states)["decode_ms"][0]


def test_a_card_must_suit_the_scenario() -> None:
    with pytest.raises(ProfileError, match="is of a cuda device, but the scenario asks for cpu"):
        Roofline(cards["h100-sxm"], SCENARIO)
    with pytest.raises(ProfileError, match="no peak for bfloat16"):
        Roofline(cards["phone-cpu-4-big-cores"], replace(SCENARIO, dtype="bfloat16"))
    with pytest.raises(SettingError, match="unsupported device 'mps'"):
        Roofline(cards["h100-sxm"], Scenario(device="mps"))


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "h200-sxm"])
def test_faster_devices_are_estimated_without_being_there(name: str) -> None:
    scenario = Scenario(device="cuda:0", dtype="bfloat16", prompt=512)
    found = Roofline(cards[name], scenario).predict(spec(d_model=512))
    assert 0 < found["decode_ms"][0] < found["prefill_ms"][0]


def test_an_estimate_says_so_everywhere() -> None:
    roofline = Roofline(card(1e10, 1e9), SCENARIO)
    assert not roofline.trusted
    assert roofline.source == ESTIMATE == "estimate"
    assert str(roofline).startswith("ESTIMATE")
    cost_model = CostModel(SCENARIO, roofline)
    for name in ("prefill_ms", "decode_ms"):
        value = objectives[name].cheap(spec(), cost_model)  # type: ignore[misc]
        assert value.source == "estimate"
        assert value.to_json()["source"] == "estimate"
        assert value.error == pytest.approx(value.value / 2)


def test_every_network_of_a_space_can_be_estimated() -> None:
    roofline = Roofline(card(1e10, 1e9), SCENARIO)
    assert roofline.covers(small_space())
    assert roofline.missing(small_space()) == ()


def test_reading_the_embedding_takes_time() -> None:
    plain = Layer(sequence_mixer=Attention(num_heads=4))
    roofline = Roofline(cards["laptop-cpu-8-cores"], SCENARIO)
    one, other = (
        roofline.predict(Decoder(d_model=256, layers=(layer,)))
        for layer in (plain, replace(plain, reads_embedding=True))
    )
    for reading in READINGS:
        assert other[reading][0] > 1.2 * one[reading][0]


def test_weights_that_are_shared_are_read_by_each_layer() -> None:
    layer = replace(spec().layers[0], shared="both")
    roofline = Roofline(card(1e10, 1e9), SCENARIO)
    shared = Decoder(vocab=128, d_model=64, layers=(layer, layer))
    assert roofline.predict(shared) == roofline.predict(spec())
