"""Weights of 8 and 4 bits as integers in ONNX, against the emulation of the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hw_profiles.conversions.few_bits import few_bits_of
from hw_profiles.conversions.onnx_few_bits import KERNELS, _block
from hw_profiles.runtimes.base import check_scenario, runtime_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.rounding import round_all
from search_spaces.scenario import Scenario

PLAIN = Scenario(engine="onnxruntime", prompt=6, new_tokens=4)
PACKED = replace(PLAIN, weights="packed")


@torch.no_grad()
def rounded(*bits: Bits) -> Model:
    """A layer for each of these bits, its weights being values that they have."""
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=32)
    layers = tuple(
        Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=1), bits=each) for each in bits
    )
    model = build(Decoder(vocab=32, d_model=96, layers=layers), seed=1)
    values = round_all(dict(model.named_parameters()), weight_bits(model))
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
    return model


@pytest.mark.slow  # tests/nas/test_exports.py runs integer weights in one network
def test_integer_weights_compute_what_their_emulation_does_in_fewer_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    model = rounded(Bits(weight=4, group=32), Bits(weight=8))
    tokens = torch.randint(32, (1, 10), generator=torch.Generator().manual_seed(0))
    runtime, files = runtime_of(PACKED), list[set[Path]]()
    with torch.no_grad():
        for scenario in (PLAIN, PACKED):
            calls = runtime.calls(runtime.placed(model, scenario), scenario, tokens)
            expected, state = model.prefill(tokens[:, :6], capacity=10)
            for call, logits in (
                (calls.prefill, expected),
                (calls.decode(6), model.step(tokens[:, -1], state)[0]),
            ):
                difference = torch.from_numpy(call()[0]) - logits  # type: ignore[index]
                assert difference.abs().max() < 1e-5
            files.append(set(tmp_path.rglob("*.onnx")))
    for path in files[1] - files[0]:
        operators = [node.op_type for node in onnx.load(path).graph.node]
        assert operators.count("MatMulNBits") == 14
    assert max(sizes(files[1] - files[0])) < min(sizes(files[0]))


def sizes(paths: set[Path]) -> list[int]:
    return [path.stat().st_size for path in paths]


def test_kernels_are_those_of_integers_and_other_runtimes_of_programs_have_none() -> None:
    check_scenario(PACKED)
    assert runtime_of(PLAIN).kernels(PLAIN) == frozenset()
    assert runtime_of(PACKED).kernels(PACKED) == {(b, a, "int") for b in (8, 4) for a in (16, 8)}
    model = rounded(Bits(weight=8, activation=8, numbers="float"), Bits(weight=3), Bits(weight=4))
    assert {name.split(".")[1] for name in few_bits_of(model, KERNELS)} == {"2"}


@pytest.mark.parametrize(
    ("group", "width", "block"),
    [
        (32, 96, 32),
        (96, 96, 128),
        (65536, 8, 16),
        (48, 96, 16),
        (8, 64, None),
        (512, 1024, 256),
        (64, 96, 64),
    ],
)
def test_blocks_lie_within_groups(group: int, width: int, block: int | None) -> None:
    assert _block(group, width) == block
