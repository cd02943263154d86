"""A network layer by layer adds up to the whole, is drawn, and its Python makes it again."""

from __future__ import annotations

import pytest

from dashboards.app.network_drawings import overheads_text
from dashboards.facts.anatomy import FAMILIES, anatomy
from dashboards.facts.python_text import python_text
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.figures.strip import strip_figure, totals
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.zoo import zoo

SCENARIO = Scenario(prompt=32, new_tokens=8, batch=2)
NAMES = tuple(zoo)
HOSTILE = Decoder(
    d_model=32,
    layers=(
        Layer(sequence_mixer=Attention(), channel_mixer=SwiGLU(), shared="<img src=x onerror=alert(1)>"),
        Layer(sequence_mixer=Attention(), channel_mixer=SwiGLU(), shared="<img src=x onerror=alert(1)>"),
        Layer(sequence_mixer=Attention(window=8), bits=Bits(weight=4, state=8), routing=MixtureOfDepths()),
        Layer(sequence_mixer=Attention(), channel_mixer=SwiGLU(), exit=EarlyExit()),
        Layer(
            sequence_mixer=Attention(),
            channel_mixer=SwiGLU(),
            bits=Bits(weight=8),
            precision=AdaptivePrecision(),
        ),
    ),
)


@pytest.mark.parametrize("name", NAMES)
def test_rows_add_up_to_the_network(name: str) -> None:
    spec = zoo[name].spec
    facts, cost = anatomy(spec, SCENARIO), spec.cost(SCENARIO)
    assert facts is not None
    sums = totals(facts)
    assert sums["params"] == cost.params
    assert sums["weight_bytes"] == cost.weight_bytes
    assert sums["state_bytes"] == cost.state_bytes


@pytest.mark.parametrize("name", NAMES)
def test_the_python_of_a_network_makes_it_again(name: str) -> None:
    made: dict[str, object] = {}
    exec(python_text(zoo[name].spec), made)
    assert made["spec"] == zoo[name].spec
    assert max(map(len, python_text(zoo[name].spec).splitlines())) <= 110


def test_every_block_of_the_zoo_has_a_family() -> None:
    for name in NAMES:
        facts = anatomy(zoo[name].spec, SCENARIO)
        assert facts is not None
        assert {block.family for layer in facts.layers for block in layer.blocks} <= set(FAMILIES)


@pytest.mark.parametrize("by", ["family", "bits", "anything"])
def test_shared_weights_routers_and_exits_are_drawn_and_names_stay_text(by: str) -> None:
    facts = anatomy(HOSTILE, SCENARIO)
    assert facts is not None
    assert [layer.again for layer in facts.layers] == [False, True, False, False, False]
    assert facts.layers[1].costs["params"] == 0
    assert facts.layers[-1].notes == ("75.0 % of tokens read the channel mixer at 4 bits",)
    narrow = strip_figure(facts, by, narrow=True)
    assert narrow.layout.meta[LEAST_WIDTH] == 0
    figure = strip_figure(facts, by)
    assert [trace.name for trace in narrow.data] == [trace.name for trace in figure.data]
    names = {trace.name for trace in figure.data}
    assert {"shared weights", "router", "exit"} <= names
    assert "<img" not in figure.to_json()
    made: dict[str, object] = {}
    exec(python_text(HOSTILE), made)
    assert made["spec"] == HOSTILE


def test_a_precision_that_tokens_choose_is_shown_as_bits_are() -> None:
    facts = anatomy(HOSTILE, SCENARIO)
    assert facts is not None
    figure = strip_figure(facts, "bits")
    assert "8- or 4-bit weights, by token" in {trace.name for trace in figure.data}
    (names,) = figure.select_traces({"type": "scatter", "mode": "text"})
    assert names.text[-1].endswith(" w8 + SwiGLU w8/4")
    (bars,) = figure.select_traces({"name": "8- or 4-bit weights, by token"})
    assert "weights 8 or 4 bits" in bars.customdata[0]


def test_anything_else_has_no_layers() -> None:
    assert anatomy("no decoder", SCENARIO) is None


def test_a_sum_of_parts_beyond_the_whole_is_said_as_such() -> None:
    text = overheads_text({"prefill_ms": -2.46, "decode_ms": 0.5})
    assert text == (
        "The parts timed alone add up to 2.46 ms more prefill latency than the whole;"
        " 0.500 ms of decode latency per token belong to the whole and to no layer."
    )
    assert overheads_text({}) == ""


def test_a_narrow_page_scrolls_as_far_as_the_names_of_layers_reach() -> None:
    """Where the figure is as narrow as it may be, the longest name ends within its column."""
    mixer, bits = Attention(window=1024), Bits(weight=1.58, state=8)
    layer = Layer(sequence_mixer=mixer, channel_mixer=DeepSeekMoE(), bits=bits)
    facts = anatomy(Decoder(d_model=64, layers=(layer, layer)), SCENARIO)
    assert facts is not None
    figure = strip_figure(facts)
    (names,) = figure.select_traces({"type": "scatter", "mode": "text"})
    low, high = figure.layout.xaxis.range
    start, end = figure.layout.xaxis.domain
    margins = figure.layout.margin.l + figure.layout.margin.r
    pixels = (figure.layout.meta["least_width"] - margins) * (end - start) / (high - low)
    assert (high - max(names.x)) * pixels >= 6 * max(map(len, names.text))
