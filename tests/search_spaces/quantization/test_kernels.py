"""Real kernels against the emulated weights: products, views, whole networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model
from search_spaces.network.model_files import load_model, save_model
from search_spaces.quantization import products
from search_spaces.quantization.activations import round_activations
from search_spaces.quantization.bits import Bits, WeightFormat, weight_bytes
from search_spaces.quantization.kernels import EMULATED, kernels_of, real_kernels, with_real_kernels
from search_spaces.quantization.packed_weight import PackedWeight, Use
from search_spaces.quantization.packing import SCALE_SUFFIX, pack
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.supernet import Supernet

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
BFLOAT16 = 2.0**-8
"""Half a step of bfloat16, as a share of a value."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def packed(weight: Tensor, bits: float, group: int = 64, activation: int = 16) -> PackedWeight:
    stored = WeightFormat(bits, group)
    return PackedWeight(pack(weight, stored), stored, Use("weight", activation), weight)


def network(bits: Bits) -> Decoder:
    halves = (
        (Attention(num_heads=4, num_kv_heads=2, head_dim=16), SwiGLU(expansion=1.5)),
        (Mamba2(), MoE(top_k=2)),
    )
    layers = tuple(Layer(sequence_mixer=s, channel_mixer=c, bits=bits) for s, c in halves)
    return Decoder(vocab=50, d_model=64, layers=layers)


def model(bits: Bits) -> Model:
    spec = network(bits)
    return Supernet(Space(spec)).subnet(spec).extract().eval()


def test_a_cpu_has_kernels_for_16_8_and_4_bits() -> None:
    actual = real_kernels("cpu")
    float8 = {"w16/a8 float", "w8/a8 float"}
    assert {name for name, kernel in actual.items() if kernel != EMULATED} == float8 | {
        f"w{bits}/a{activation}" for bits in (16, 8, 4) for activation in (16, 8)
    }
    assert actual["w8/a16 float"] == EMULATED
    assert actual["w8/a8 float"] == "torch._scaled_mm"
    assert actual["w8/a8"] == "torch._int_mm"
    assert actual["w1.58/a16"] == actual["w6/a8"] == EMULATED


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 65])
@pytest.mark.parametrize(("rows", "width"), [(64, 64), (33, 70), (16, 256), (5, 8), (130, 300)])
@pytest.mark.parametrize(
    ("bits", "group"), [(16, 64), (8, 64), (8, 32), (8, 65536), (4, 32), (4, 64), (4, 256)]
)
def test_products_are_the_emulated_ones(
    bits: int, group: int, rows: int, width: int, count: int, device: str
) -> None:
    weight, x = draw(rows, width).to(device), draw(count, width, seed=1).to(device)
    real = packed(weight, bits, group)
    actual = F.linear(x, real)
    assert actual.dtype == x.dtype
    assert type(actual) is Tensor
    # against exact arithmetic on the inputs that the kernel sees: what is left is the rounding of its outputs
    expected = F.linear(x.bfloat16().double(), round_to_bits(weight, WeightFormat(bits, group)).double())
    assert (actual - expected).abs().max() <= 1.5 * BFLOAT16 * expected.abs().max()
    assert not real.use.unpacked


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 65])
@pytest.mark.parametrize(("rows", "width"), [(64, 64), (33, 70), (130, 300)])
@pytest.mark.parametrize("group", [32, 64, 65536])
def test_8_bits_by_8_bits_is_exact_arithmetic(
    group: int, rows: int, width: int, count: int, device: str
) -> None:
    weight, x = draw(rows, width).to(device), draw(count, width, seed=1).to(device)
    real, rounded = packed(weight, 8, group, 8), round_to_bits(weight, WeightFormat(8, group))
    expected = F.linear(round_activations(x).double(), rounded.double())
    assert (F.linear(x, real) - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert torch.equal(F.linear(round_activations(x), real), F.linear(x, real))
    x[0, 3], x[-1, 5] = 17.0, -30.0  # outliers go in bfloat16
    expected = F.linear(round_activations(x).double(), rounded.double())
    assert (F.linear(x, real) - expected).abs().max() <= 1.5 * BFLOAT16 * expected.abs().max()


@pytest.mark.parametrize("large", [0.0, 17.0])
def test_where_a_graph_is_recorded_nothing_asks_for_outliers(
    large: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, x = (
        packed(draw(32, 64), 8, activation=8),
        round_activations(draw(3, 64, seed=1).clamp(-5, 5), "int"),
    )
    x[1, 7] += large
    expected = weight.product(x)
    monkeypatch.setattr(products, "_recording", lambda x: True)
    monkeypatch.setattr(Tensor, "any", lambda *args, **kwargs: pytest.fail("the device was asked"))
    recorded = weight.product(x)
    assert expected is not None
    assert recorded is not None
    torch.testing.assert_close(recorded, expected, rtol=0, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 65])
@pytest.mark.parametrize(("rows", "width"), [(64, 64), (33, 70), (5, 8), (130, 300)])
def test_float8_by_float8_is_exact_arithmetic(rows: int, width: int, count: int, device: str) -> None:
    if real_kernels(device)["w8/a8 float"] == EMULATED:
        pytest.skip(f"{device} has no float8 products")
    weight, x = draw(rows, width).to(device), 30 * draw(count, width, seed=1).to(device)
    stored = WeightFormat(8, numbers="float")
    real = PackedWeight(pack(weight, stored), stored, Use("weight", 8), weight)
    rounded = round_activations(x, "float")
    expected = F.linear(rounded.double(), round_to_bits(weight, stored).double())
    sums = 1e-5 if device == "cpu" else 2e-3  # Hopper's sums have about 14 bits
    assert (F.linear(x, real) - expected).abs().max() <= sums * expected.abs().max()
    assert torch.equal(F.linear(rounded, real), F.linear(x, real))
    assert not real.use.unpacked
    assert torch.equal(real.flatten(), round_to_bits(weight, stored).flatten())  # joined rows: several scales


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_the_views_that_blocks_take_stay_packed(bits: int) -> None:
    weight, x = draw(3, 4, 64), draw(5, 64, seed=1)
    real, rounded = packed(weight, bits), round_to_bits(weight, WeightFormat(bits))
    pairs = [
        (F.linear(x, real.flatten(0, -2)), F.linear(x, rounded.flatten(0, -2))),
        (F.linear(x, real[1]), F.linear(x, rounded[1])),
        (F.linear(x.repeat(1, 4), real.flatten(1)), F.linear(x.repeat(1, 4), rounded.flatten(1))),
    ]
    assert not real.use.unpacked
    for actual, expected in pairs:
        assert (actual - expected).abs().max() <= 4 * BFLOAT16 * expected.abs().max()
    assert real.flatten(0, -2) is real.flatten(0, -2)  # made once
    assert (real.shape, real.dtype, real.ndim) == (weight.shape, weight.dtype, 3)
    assert not real.use.unpacked


def test_what_is_no_product_gets_the_emulated_values() -> None:
    weight = draw(6, 40)
    real, rounded = packed(weight, 4), round_to_bits(weight, WeightFormat(4))
    assert real.new_zeros(3).tolist() == [0, 0, 0]
    assert not real.use.unpacked
    assert torch.equal(real + 1, rounded + 1)
    assert torch.equal(real[2:5], rounded[2:5])
    assert torch.equal(torch.einsum("nk,mk->nm", real, real), torch.einsum("nk,mk->nm", rounded, rounded))
    assert real.use.unpacked
    small = packed(draw(5, 4, 9), 4)  # joined rows of 9 have no kernel
    assert torch.equal(
        F.linear(torch.ones(1, 36), small.flatten(1)), F.linear(torch.ones(1, 36), small.values().flatten(1))
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_a_packed_weight_holds_what_is_counted(bits: int) -> None:
    real = packed(draw(20, 300), bits, 32)
    held = sum(t.numel() * t.element_size() for t in real.packed.values())
    assert held == weight_bytes((20, 300), WeightFormat(bits, 32))
    assert real.packed[SCALE_SUFFIX].dtype == torch.bfloat16


BITS = [
    (Bits(), 0.02),
    (Bits(weight=8), 0.02),
    (Bits(weight=4, group=32), 0.02),
    (Bits(weight=8, activation=8), 0.06),
    (Bits(weight=4, activation=8), 0.06),
    (Bits(weight=3), 0.02),
    (Bits(weight=8, state=8), 0.02),
    (Bits(weight=8, activation=8, numbers="float"), 0.06),
    (Bits(weight=16, activation=8, numbers="float"), 0.06),
]
"""How far a network may be off, as a share of the standard deviation of its logits. Where activations have 8
bits, an error of bfloat16 may move a value to the next code."""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("bits", "bound"), BITS, ids=str)
@torch.no_grad()
def test_networks_are_near_their_emulation(bits: Bits, bound: float, device: str) -> None:
    emulated = model(bits).to(device)
    real = with_real_kernels(emulated)
    tokens = torch.randint(50, (3, 33), generator=torch.Generator().manual_seed(0)).to(device)
    expected, actual = emulated(tokens), real(tokens)
    scale = expected.std()
    assert 0 < (actual - expected).square().mean().sqrt() < bound * scale
    logits, state = real.prefill(tokens[:, :20])
    pieces = [logits]
    for token in tokens[:, 20:].unbind(1):
        logits, state = real.step(token, state)
        pieces.append(logits[:, None])
    assert (torch.cat(pieces, 1) - expected).square().mean().sqrt() < 2 * bound * scale


@torch.no_grad()
def test_kernels_are_listed_by_parameter() -> None:
    emulated = model(Bits(weight=4))
    assert set(kernels_of(emulated).values()) == {EMULATED}
    actual = kernels_of(with_real_kernels(emulated))
    name = "torch._weight_int4pack_mm_for_cpu"
    assert actual["embedding"] == "bfloat16"
    assert actual["layers.0.channel_mixer.mixer.up"] == actual["layers.1.channel_mixer.mixer.down"] == name
    assert actual["layers.0.sequence_mixer.mixer.wq"] == name
    assert actual["layers.0.sequence_mixer.mixer.wo"] == EMULATED  # joined rows of 16: no group of a kernel
    assert "layers.1.sequence_mixer.mixer.conv_x_bias" not in actual  # stays in 32 bits
    wide = kernels_of(with_real_kernels(model(Bits(weight=8))))
    assert wide["layers.0.sequence_mixer.mixer.wo"] == "torch._weight_int8pack_mm"
    float8 = kernels_of(with_real_kernels(model(Bits(weight=8, activation=8, numbers="float"))))
    assert float8["embedding"] == "bfloat16"
    assert float8["layers.0.channel_mixer.mixer.up"] == "torch._scaled_mm"
    assert float8["layers.0.sequence_mixer.mixer.wo"] == EMULATED  # joined rows
    narrow = kernels_of(with_real_kernels(model(Bits(weight=3))))
    assert {kernel for name, kernel in narrow.items() if name != "embedding"} == {EMULATED}


@torch.no_grad()
def test_the_model_that_was_given_stays_as_it_was(tmp_path: Path) -> None:
    save_model(model(Bits(weight=8)), tmp_path)
    emulated = load_model(tmp_path)
    before = {name: weight.clone() for name, weight in emulated.named_parameters()}
    real = with_real_kernels(emulated)
    tokens = torch.arange(9)[None]
    expected = emulated(tokens)
    real(tokens)
    assert all(torch.equal(before[name], weight) for name, weight in emulated.named_parameters())
    assert torch.equal(emulated(tokens), expected)
    assert not any(weight.requires_grad for weight in real.parameters())
    values = {
        name: weight.values() if isinstance(weight, PackedWeight) else weight
        for name, weight in real.named_parameters()
    }
    assert all(torch.equal(before[name], weight) for name, weight in values.items())


@torch.no_grad()
def test_what_is_not_packed_takes_the_dtype_that_was_asked_for() -> None:
    emulated = model(Bits(weight=8))
    real = with_real_kernels(emulated, torch.bfloat16)
    tokens = torch.arange(9)[None]
    logits, state = real.prefill(tokens)
    assert logits.dtype == real.step(tokens[:, 0], state)[0].dtype == torch.bfloat16
    expected = emulated(tokens)
    assert (logits.float() - expected).square().mean().sqrt() < 0.05 * expected.std()
