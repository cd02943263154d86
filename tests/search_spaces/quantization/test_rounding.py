"""Weights rounded to their format: errors, scales, gradients, several matrices together."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.quantization.activations import round_activations
from search_spaces.quantization.bits import TERNARY, WEIGHT_BITS, WeightFormat
from search_spaces.quantization.packing import SCALE_SUFFIX, pack, unpack_codes
from search_spaces.quantization.rounding import round_all, round_to_bits
from tests.search_spaces.quantization.small import FLOAT8, formats, shapes, values

ERROR = {8: 4e-5, 6: 7e-4, 4: 0.013, 3: 0.035, 2: 0.135, TERNARY: 0.28}
"""Bounds of the squared error over the square, for normal values in groups of 64; also in bits.md."""


@given(st.lists(st.tuples(shapes, formats, st.booleans()), max_size=7), st.integers(0, 999))
def test_matrices_rounded_together_are_as_by_themselves(
    asked: list[tuple[tuple[int, ...], WeightFormat, bool]], seed: int
) -> None:
    weights, formats_ = [], [stored for _, stored, _ in asked]
    for place, (shape, _, sliced) in enumerate(asked):
        large = tuple(size + 3 for size in shape) if sliced else shape
        weights.append(values(large, seed + place)[tuple(map(slice, shape))].requires_grad_())
    names = [f"weight {place}" for place in range(len(asked))]
    rounded = round_all(dict(zip(names, weights, strict=True)), dict(zip(names, formats_, strict=True)))
    actual = [rounded[name] for name in names]
    for matrix, weight, stored in zip(actual, weights, formats_, strict=True):
        assert torch.equal(matrix, round_to_bits(weight, stored))
        assert matrix.is_contiguous() or stored.bits == 16
    if len(actual) > 1:
        torch.stack(
            [place * matrix.sum() for place, matrix in enumerate(actual[1:], start=1)]
        ).sum().backward()
        assert weights[0].grad is None  # what was not used has no gradient
        for place, weight in enumerate(weights[1:], start=1):
            assert weight.grad is not None
            assert torch.equal(weight.grad, torch.full_like(weight, place))


@pytest.mark.parametrize("bits", ERROR)
def test_the_error_of_normal_weights_is_the_documented_one(bits: float) -> None:
    weight = values((500, 256), 0)
    error = (round_to_bits(weight, WeightFormat(bits)) - weight).square().sum() / weight.square().sum()
    assert 0.5 * ERROR[bits] < error < ERROR[bits]


@pytest.mark.parametrize("bits", [3, 2])
def test_searched_scales_beat_those_of_the_largest_value(bits: int) -> None:
    weight = values((50, 64), 1)
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(-1, keepdim=True) / top
    plain = (weight / scale).round().clamp(-top, top) * scale
    searched = round_to_bits(weight, WeightFormat(bits))
    assert (searched - weight).square().sum() < 0.6 * (plain - weight).square().sum()


@pytest.mark.parametrize("shape", [(1, 64), (4, 100)])
def test_ternary_weights_are_bitnets(shape: tuple[int, int]) -> None:
    """Equations 1 to 3 of arXiv:2402.17764, for each group instead of each matrix."""
    weight = values(shape, 3)
    actual = round_to_bits(weight, WeightFormat(TERNARY, 64))
    for row, kept in zip(weight, actual, strict=True):
        for part, got in zip(row.split(64), kept.split(64), strict=True):
            gamma = sum(abs(float(w)) for w in part) / len(part)
            codes = torch.tensor([max(-1, min(1, round(float(w) / gamma))) for w in part])
            assert torch.equal(got.sign(), codes.float())
            torch.testing.assert_close(got.abs().max().item(), gamma, rtol=2**-8, atol=0)


def test_ternary_weights_and_8_bit_activations_are_those_of_transformers() -> None:
    """Rows of one group, one matrix each, because BitNet has one scale for a whole matrix."""
    bitnet = pytest.importorskip("transformers.integrations.bitnet")
    x = values((7, 64), 1).requires_grad_()
    weight = values((5, 64), 2)
    # means of |w| that bfloat16 can hold, so that the scales are the same
    weight *= torch.tensor([[2.0], [1.0], [0.5], [0.25], [4.0]]) / weight.abs().mean(-1, keepdim=True)
    actual = F.linear(round_activations(x), round_to_bits(weight, WeightFormat(TERNARY, 64)))
    with torch.compiler.set_stance("force_eager"):
        rows = [F.linear(bitnet.ActQuant.apply(x), bitnet.WeightQuant.apply(row[None])) for row in weight]
    expected = torch.cat(rows, dim=-1)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in (actual, expected)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_ternary_weights_are_torchaos() -> None:
    bitnet = pytest.importorskip("torchao.prototype.quantized_training.bitnet")
    weight = values((1, 64), 2)
    scale = bitnet.get_bitnet_scale(weight)
    codes = bitnet.quantize_bitnet_weight(weight, scale)
    packed, stored = pack(weight, WeightFormat(TERNARY)), WeightFormat(TERNARY)
    assert torch.equal(unpack_codes(packed, stored, 64), codes)
    torch.testing.assert_close(packed[SCALE_SUFFIX].float(), scale.view(1, 1), rtol=2**-8, atol=0)


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_zeros_stay_zeros_and_gradients_pass_straight_through(bits: float) -> None:
    weight = torch.zeros(3, 64, requires_grad=True)
    rounded = round_to_bits(weight, WeightFormat(bits))
    assert torch.equal(rounded, weight)
    rounded.backward(torch.arange(192.0).view(3, 64))
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(192.0).view(3, 64))


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_slices_are_rounded_as_their_copies(bits: float) -> None:
    large, stored = values((4, 300, 333), 0), WeightFormat(bits, 128)
    for width in (77, 128, 256):
        view = large[:3, :170, :width]
        assert torch.equal(round_to_bits(view, stored), round_to_bits(view.clone().contiguous(), stored))
    view = values((256, 300), 1).T  # along the other axis
    assert torch.equal(round_to_bits(view, stored), round_to_bits(view.clone().contiguous(), stored))
    assert torch.equal(round_to_bits(view, FLOAT8), round_to_bits(view.clone().contiguous(), FLOAT8))
