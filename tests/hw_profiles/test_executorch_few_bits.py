"""Weights of 8 and 4 bits as integers in ExecuTorch, against the emulation of the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foundation.errors import SettingError
from hw_profiles.conversions.executorch_few_bits import (
    IN_4,
    IN_8,
    KERNELS,
    IntegerProduct,
    _products,
    integer_products,
)
from hw_profiles.conversions.few_bits import few_bits_of, integers_of
from hw_profiles.runtimes.base import check_scenario, runtime_of
from nas.exports.base import Network, target_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.programs import PARAMETERS, static_programs
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import Bits, WeightFormat
from search_spaces.quantization.packing import pack, unpack
from search_spaces.quantization.rounding import round_all
from search_spaces.scenario import Scenario

PACKED = Scenario(engine="executorch", prompt=6, new_tokens=4, weights="packed")
FOUR, EIGHT = Bits(weight=4, activation=8, group=32), Bits(weight=8, activation=8)


@torch.no_grad()
def network(*bits: Bits, channel: Bits | None = None) -> Model:
    """A layer for each of these bits, its weights being values that they have."""
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=32)
    layers = tuple(
        Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=1), bits=each, channel_bits=channel)
        for each in bits
    )
    model = build(Decoder(vocab=32, d_model=96, layers=layers), seed=1)
    values = round_all(dict(model.named_parameters()), weight_bits(model))
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
    return model


@pytest.mark.parametrize(
    ("width", "bits", "group", "pieces", "block"),
    [
        (96, 4, 32, 1, 32),
        (96, 4, 64, 1, 32),  # groups of 64 and 32: their scales are written for 32 each
        (96, 4, 65536, 1, 96),
        (72, 4, 65536, 1, 72),  # no multiple of 32: a code in a byte
        (96, 8, 64, 2, 64),
        (96, 8, 65536, 1, 96),
    ],
)
def test_integers_are_those_of_a_packed_matrix(
    width: int, bits: int, group: int, pieces: int, block: int
) -> None:
    rows, stored = (
        torch.randn(5, width, generator=torch.Generator().manual_seed(0)),
        WeightFormat(bits, group),
    )
    integers = integers_of(rows, width, stored)
    assert integers is not None
    product = IntegerProduct(integers, bits)
    held = dict(product.named_buffers())
    assert (len(product.starts), product.block) == (pieces, block)
    assert product.range == (IN_4 if bits == 4 and width % 32 == 0 else IN_8)
    values = [
        held[f"codes{i}"].float() * held[f"scales{i}"].repeat_interleave(block, -1)[:, : span_of(held, i)]
        for i in range(pieces)
    ]
    assert torch.equal(torch.cat(values, -1), unpack(pack(rows, stored), stored, width, torch.float32))


def span_of(held: dict[str, torch.Tensor], piece: int) -> int:
    return held[f"codes{piece}"].shape[-1]


def test_rows_of_several_rows_of_a_parameter_are_made_of_whole_groups() -> None:
    assert integers_of(torch.ones(4, 96), 48, WeightFormat(4, 32)) is None
    assert integers_of(torch.ones(4, 64), 96, WeightFormat(4, 32)) is None
    joined = integers_of(torch.ones(4, 96), 48, WeightFormat(4, 64))
    assert joined is not None
    assert joined.group == 48


def test_products_by_parameters_of_these_bits_are_found_and_no_others() -> None:
    model = network(FOUR, Bits(weight=4), EIGHT)
    few = few_bits_of(model, KERNELS)
    assert {name.split(".")[1] for name in few} == {"0", "2"}
    step = static_programs(model, prompt=2, capacity=4).step
    module = step.module(check_guards=False)
    assert isinstance(module, torch.fx.GraphModule)
    assert len(dict(_products(module, few, PARAMETERS))) == 14
    assert integer_products(step, {}, prefix=PARAMETERS) == (step, 0)


def test_scenarios_of_packed_weights_have_the_kernels_of_activations_of_8_bits() -> None:
    check_scenario(PACKED)
    assert runtime_of(PACKED).kernels(PACKED) == {(8, 8, "int"), (4, 8, "int")}
    with pytest.raises(SettingError, match="runs plain weights here"):
        check_scenario(replace(PACKED, engine="aotinductor"))


@pytest.mark.parametrize(
    ("bits", "named"),
    [(Bits(weight=4), "w4/s16 bits"), (Bits(weight=3, activation=8), "w3/a8/s16 bits")],
)
def test_packed_bits_without_a_kernel_are_refused(bits: Bits, named: str) -> None:
    with pytest.raises(
        SettingError, match=rf"layers\.1\.sequence_mixer has {named}, and XNNPACK has kernels"
    ):
        target_of("executorch,packed=yes").require(network(FOUR, bits).spec)
    target_of("executorch").require(network(bits).spec)
    with pytest.raises(SettingError, match="packed keeps the network's own bits"):
        target_of("executorch,packed=yes,weights=4")
    with pytest.raises(SettingError, match="group"):
        target_of("executorch,weights=4,group=16")


@pytest.mark.slow
def test_a_file_of_the_integers_of_a_network_is_small_and_computes_it(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    model, sizes = Network(network(FOUR, channel=EIGHT)), "executorch,prompt=6,capacity=40"
    told = target_of(f"{sizes},packed=yes").export(model, tmp_path / "out")
    target_of(sizes).export(model, tmp_path / "plain")
    assert told["products_of_few_bits"] == 7
    assert len(told["differences"]) == 2
    assert all(0 < difference < 0.1 for difference in told["differences"].values())
    small, plain = ((tmp_path / name / "model.pte").stat().st_size for name in ("out", "plain"))
    assert small < 0.75 * plain


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_rounded_anew_are_near_our_rounding(bits: int, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    options = f"executorch,prompt=6,capacity=40,weights={bits}"
    told = target_of(options).export(Network(network(Bits())), tmp_path / "out")
    assert told["products_of_few_bits"] == 7
    ours = [value for name, value in told["differences"].items() if "our rounding" in name]
    theirs = [value for name, value in told["differences"].items() if "our rounding" not in name]
    assert len(ours) == len(theirs) == 2
    assert 0 < max(ours) < 0.1
    assert bits == 8 or max(theirs) > max(ours)


@pytest.mark.slow
def test_packed_weights_are_timed_as_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("executorch")
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    model, runtime = network(FOUR), runtime_of(PACKED)
    tokens = torch.randint(32, (1, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        calls = runtime.calls(runtime.placed(model, PACKED), PACKED, tokens)
        expected, state = model.prefill(tokens[:, :6], capacity=10)
        logits = calls.prefill()[0]  # type: ignore[index]
        assert 0 < (logits - expected).abs().max() < 0.1
        step = calls.decode(6)()[0]  # type: ignore[index]
        assert 0 < (step - model.step(tokens[:, -1], state)[0]).abs().max() < 0.1
