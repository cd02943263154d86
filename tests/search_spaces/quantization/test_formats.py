"""Properties of every format: bytes of codes, errors of groups, symmetry, order, gradients, sizes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import StateShape
from search_spaces.language.serialization import from_json, to_json
from search_spaces.quantization.activations import (
    OUTLIER,
    activation_codes,
    float8_activations,
    round_activations,
)
from search_spaces.quantization.bits import (
    ACTIVATION_BITS,
    FLOAT8_LARGEST,
    GROUPS,
    NUMBERS,
    STATE_BITS,
    TERNARY,
    WEIGHT_BITS,
    Bits,
    WeightFormat,
    row_bytes,
    state_bytes,
    weight_bytes,
)
from search_spaces.quantization.decode_state import StateCodec
from search_spaces.quantization.packed_weight import PackedWeight, Use
from search_spaces.quantization.packing import (
    SCALE_SUFFIX,
    codes_from_bytes,
    codes_to_bytes,
    pack,
    unpack,
    unpack_codes,
)
from search_spaces.quantization.products import (
    INT4_GROUPS,
    IntegerMatrix,
    bfloat16_product,
    float8_product,
    int4_product,
    int8_activation_product,
    int8_product,
)
from search_spaces.quantization.rounding import codes_and_scales, in_groups, round_to_bits
from tests.search_spaces.quantization.small import FLOAT8, formats, shapes, values

NARROW = (8, 6, 4, 3, 2, TERNARY)
seeds = st.integers(0, 999)
leading = st.lists(st.integers(1, 3), max_size=2).map(tuple)


def ends(bits: float) -> tuple[int, int]:
    """The smallest and the largest code."""
    if bits == TERNARY:
        return -1, 1
    top = 2 ** (int(bits) - 1)
    return (-top, top - 1) if bits < 4 else (1 - top, top - 1)


def random_codes(shape: tuple[int, ...], bits: float, seed: int) -> Tensor:
    low, high = ends(bits)
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=dice).to(torch.int8)


def is_legal(bits: Bits) -> bool:
    try:
        bits.check()
    except IllegalArchitecture:
        return False
    return True


class TestBytesOfCodes:
    @settings(max_examples=120, deadline=None)
    @given(bits=st.sampled_from(NARROW), shape=leading, width=st.integers(1, 70), seed=seeds)
    def test_codes_survive_in_the_counted_bytes(
        self, bits: float, shape: tuple[int, ...], width: int, seed: int
    ) -> None:
        codes = random_codes((*shape, width), bits, seed)
        packed = codes_to_bytes(codes, bits)
        assert packed.dtype == torch.int8
        assert packed.shape == (*shape, row_bytes(width, bits))
        assert torch.equal(codes_from_bytes(packed, bits, width), codes)

    @settings(max_examples=40, deadline=None)
    @given(bits=st.sampled_from(NARROW), width=st.integers(1, 70), seed=seeds)
    def test_rows_are_packed_by_themselves(self, bits: float, width: int, seed: int) -> None:
        codes = random_codes((3, width), bits, seed)
        packed = codes_to_bytes(codes, bits)
        for row in range(3):
            assert torch.equal(codes_to_bytes(codes[row], bits), packed[row])

    @pytest.mark.parametrize("bits", NARROW)
    def test_every_pair_of_neighbours_survives(self, bits: float) -> None:
        low, high = ends(bits)
        numbers = range(low, high + 1) if bits < 8 else range(low, high + 1, 7)
        codes = torch.tensor(list(itertools.product(numbers, repeat=2)), dtype=torch.int8).flatten()
        assert torch.equal(codes_from_bytes(codes_to_bytes(codes, bits), bits, len(codes)), codes)

    @pytest.mark.parametrize("bits", [6, 4, 3, 2])
    def test_the_first_code_lies_in_the_lowest_bits(self, bits: int) -> None:
        codes = torch.zeros(8, dtype=torch.int8)
        codes[0] = 1
        packed = codes_to_bytes(codes, bits).view(torch.uint8)
        assert packed[0] == 1
        assert not packed[1:].any()
        number = int.from_bytes(
            bytes(codes_to_bytes(random_codes((8,), bits, 3), bits).view(torch.uint8).tolist()), "little"
        )
        again = [(number >> (bits * place)) & (2**bits - 1) for place in range(8)]
        assert again == [int(code) & (2**bits - 1) for code in random_codes((8,), bits, 3)]


class TestRounding:
    @settings(max_examples=120, deadline=None)
    @given(shape=shapes, stored=formats, seed=seeds)
    def test_errors_of_a_group_are_bounded_by_its_scale(
        self, shape: tuple[int, int], stored: WeightFormat, seed: int
    ) -> None:
        if stored.bits == 16:
            return
        weight = values(shape, seed)
        codes, scale = codes_and_scales(weight, stored)
        rounded = in_groups(round_to_bits(weight, stored), stored.span(shape[-1]))
        grouped, step = in_groups(weight, stored.span(shape[-1])), scale.float().abs()
        torch.testing.assert_close(rounded, codes * scale.float())
        error = (rounded - grouped).abs()
        if stored.is_float8:
            assert (error <= grouped.abs() / 16 + step / 512 + 1e-9).all()
            return
        low, high = ends(stored.bits)
        inside = (codes > low) & (codes < high)
        assert (error[inside] <= (0.5001 * step).expand_as(error)[inside]).all()
        assert (codes >= low).all()
        assert (codes <= high).all()
        assert torch.equal(codes, codes.round())

    @settings(max_examples=60, deadline=None)
    @given(stored=formats, groups=st.integers(2, 4), rest=st.integers(1, 31), seed=seeds)
    def test_groups_are_rounded_by_themselves(
        self, stored: WeightFormat, groups: int, rest: int, seed: int
    ) -> None:
        if stored.is_float8:
            return
        weight = values((3, (groups - 1) * stored.group + rest), seed)
        rounded = round_to_bits(weight, stored)
        for part, expected in zip(
            weight.split(stored.group, -1), rounded.split(stored.group, -1), strict=True
        ):
            assert torch.equal(round_to_bits(part, stored), expected)

    @settings(max_examples=60, deadline=None)
    @given(shape=shapes, stored=formats, seed=seeds)
    def test_rows_are_rounded_by_themselves(
        self, shape: tuple[int, int], stored: WeightFormat, seed: int
    ) -> None:
        weight = values(shape, seed)
        rounded = round_to_bits(weight, stored)
        for row in range(shape[0]):
            assert torch.equal(round_to_bits(weight[row : row + 1], stored), rounded[row : row + 1])
        assert torch.equal(round_to_bits(weight.view(1, *shape), stored)[0], rounded)

    @settings(max_examples=80, deadline=None)
    @given(shape=shapes, stored=formats, seed=seeds, power=st.integers(-12, 12))
    def test_powers_of_two_and_signs_pass_through(
        self, shape: tuple[int, int], stored: WeightFormat, seed: int, power: int
    ) -> None:
        weight = values(shape, seed)
        rounded = round_to_bits(weight, stored)
        assert torch.equal(round_to_bits(weight * 2.0**power, stored), rounded * 2.0**power)
        assert torch.equal(round_to_bits(-weight, stored), -rounded)

    @settings(max_examples=60, deadline=None)
    @given(stored=formats, seed=seeds)
    def test_rounding_keeps_the_order_of_values(self, stored: WeightFormat, seed: int) -> None:
        weight = values((3, 32), seed).sort(-1).values
        assert (round_to_bits(weight, stored).diff(dim=-1) >= 0).all()

    @settings(max_examples=60, deadline=None)
    @given(shape=shapes, stored=formats, seed=seeds)
    def test_rounding_twice_changes_nothing_in_float64_either(
        self, shape: tuple[int, int], stored: WeightFormat, seed: int
    ) -> None:
        once = round_to_bits(values(shape, seed).double(), stored)
        assert once.dtype == torch.float64
        assert torch.equal(round_to_bits(once, stored), once)

    @settings(max_examples=60, deadline=None)
    @given(shape=shapes, stored=formats, seed=seeds)
    def test_gradients_pass_straight_through(
        self, shape: tuple[int, int], stored: WeightFormat, seed: int
    ) -> None:
        weight, upstream = values(shape, seed).requires_grad_(), values(shape, seed + 1)
        round_to_bits(weight, stored).backward(upstream)
        assert weight.grad is not None
        assert torch.equal(weight.grad, upstream)
        (2 * round_to_bits(weight, stored)).square().sum().backward()
        torch.testing.assert_close(weight.grad - upstream, 8 * round_to_bits(weight.detach(), stored))

    def test_more_bits_have_smaller_errors(self) -> None:
        weight = values((40, 256), 5)
        errors = [
            float((round_to_bits(weight, WeightFormat(bits)) - weight).square().mean())
            for bits in (16, 8, 6, 4, 3, 2, TERNARY)
        ]
        assert errors == sorted(errors)
        assert errors[0] > 0

    @pytest.mark.parametrize("bits", [8, 6, 4, 3, 2, TERNARY])
    def test_smaller_groups_have_smaller_errors(self, bits: float) -> None:
        weight = values((40, 256), 5) * torch.logspace(-1, 1, 256)
        errors = [
            float((round_to_bits(weight, WeightFormat(bits, group)) - weight).square().mean())
            for group in (32, 64, 256)
        ]
        assert errors == sorted(errors)

    def test_a_zero_group_beside_others_stays_zero(self) -> None:
        for stored in (*(WeightFormat(bits, 32) for bits in NARROW), FLOAT8):
            weight = values((2, 96), 1)
            weight[0] = 0
            weight[1, 32:64] = 0
            rounded = round_to_bits(weight, stored)
            assert not rounded[0].any()
            assert not rounded[1, 32:64].any()
            assert rounded[1, :32].any()

    def test_ternary_codes_are_three(self) -> None:
        codes, scale = codes_and_scales(values((20, 64), 2), WeightFormat(TERNARY))
        assert set(codes.unique().tolist()) == {-1.0, 0.0, 1.0}
        torch.testing.assert_close(
            scale[:, 0, 0].float(), values((20, 64), 2).abs().mean(-1), rtol=2**-8, atol=0
        )


class TestSizes:
    @settings(max_examples=60, deadline=None)
    @given(shape=shapes, stored=formats)
    def test_bytes_are_those_of_what_is_packed(self, shape: tuple[int, int], stored: WeightFormat) -> None:
        packed = pack(values(shape, 0), stored)
        assert sum(part.numel() * part.itemsize for part in packed.values()) == weight_bytes(shape, stored)
        assert weight_bytes((2, *shape), stored) == 2 * weight_bytes(shape, stored)

    @given(st.integers(1, 300))
    def test_fewer_bits_take_no_more_bytes(self, width: int) -> None:
        sizes = [row_bytes(width, bits) for bits in (8, 6, 4, 3, 2, TERNARY)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] == width
        assert all(
            8 * size >= width * bits for size, bits in zip(sizes, (8, 6, 4, 3, 2, TERNARY), strict=True)
        )

    @given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 60), st.sampled_from(STATE_BITS))
    def test_states_take_the_counted_bytes(self, heads: int, width: int, context: int, bits: int) -> None:
        shape = StateShape((heads, width), per_token=True, limit=24)
        held = StateCodec({"k": shape}, bits).empty({"k": torch.zeros(shape.allocated(1, context))})
        size = 2 if bits == 16 else 1  # at 16 bits a value counts as two bytes, whatever holds it
        expected = sum(part.numel() * (size if bits == 16 else part.itemsize) for part in held.values())
        assert state_bytes(shape, bits, context) == expected

    def test_all_legal_bits_have_names_of_their_own_and_survive_json(self) -> None:
        names = set()
        combinations = itertools.product(WEIGHT_BITS, ACTIVATION_BITS, STATE_BITS, GROUPS[:3], NUMBERS)
        every = [
            Bits(weight=weight, activation=activation, state=state, group=group, numbers=numbers)
            for weight, activation, state, group, numbers in combinations
        ]
        legal = [bits for bits in every if is_legal(bits)]
        for bits in legal:
            names.add(str(bits))
            assert from_json(to_json(bits)) == bits
            assert bits.stored.bits == bits.weight
            assert bits.rounding == (bits.numbers if bits.activation == 8 else "")
        assert all(bits in legal for bits in every if bits.numbers == "int")
        assert len(names) == len(legal) > 100


class TestActivations:
    @settings(max_examples=60, deadline=None)
    @given(shape=leading, width=st.integers(1, 70), seed=seeds, numbers=st.sampled_from(NUMBERS))
    def test_tokens_are_rounded_by_themselves_within_their_bounds(
        self, shape: tuple[int, ...], width: int, seed: int, numbers: str
    ) -> None:
        x = 3 * values((2, *shape, width), seed)
        rounded = round_activations(x, numbers)
        assert torch.equal(round_activations(x[:1], numbers), rounded[:1])
        error, largest = (rounded - x).abs(), x.abs().amax(-1, keepdim=True)
        if numbers == "float":
            assert (error <= x.abs() / 16 + largest / FLOAT8_LARGEST / 512 + 1e-9).all()
        else:
            assert (error <= 0.5001 * largest.clamp(max=OUTLIER) / 127).all()
            assert torch.equal(rounded[x.abs() > OUTLIER], x[x.abs() > OUTLIER])

    @settings(max_examples=30, deadline=None)
    @given(width=st.integers(1, 70), seed=seeds)
    def test_codes_and_scales_are_the_rounded_values(self, width: int, seed: int) -> None:
        x = 3 * values((5, width), seed)
        codes, scale, outlier = activation_codes(x)
        assert codes.abs().max() <= 127
        assert not codes[outlier].any()
        assert torch.equal(outlier, x.abs() > OUTLIER)
        torch.testing.assert_close(torch.where(outlier, x, codes * scale), round_activations(x))
        codes8, scale8 = float8_activations(x)
        torch.testing.assert_close(codes8.float() * scale8, round_activations(x, "float"))
        assert (codes8.float().abs().amax(-1) == FLOAT8_LARGEST).all()

    @pytest.mark.parametrize("numbers", NUMBERS)
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
    def test_dtypes_gradients_and_views(self, numbers: str, dtype: torch.dtype) -> None:
        large = values((9, 40), 3).to(dtype)
        view = large.T[3:20, 2:8]
        assert torch.equal(round_activations(view, numbers), round_activations(view.contiguous(), numbers))
        x, upstream = view.detach().clone().requires_grad_(), values((17, 6), 4).to(dtype)
        rounded = round_activations(x, numbers)
        assert rounded.dtype == dtype
        rounded.backward(upstream)
        assert x.grad is not None
        assert torch.equal(x.grad, upstream)


class TestProducts:
    """Each kernel against the product with the dequantized matrix, at sides that fill no tile."""

    SIDES = ((1, 8), (5, 70), (16, 64), (33, 130))

    def matrix(self, bits: int, group: int, rows: int, width: int) -> tuple[IntegerMatrix, Tensor]:
        stored = WeightFormat(bits, group)
        packed = pack(values((rows, width), rows), stored)
        codes = unpack_codes(packed, stored, width)
        matrix = IntegerMatrix(codes, packed[SCALE_SUFFIX], stored.span(width))
        return matrix, unpack(packed, stored, width, torch.float64)

    @pytest.mark.parametrize(("rows", "width"), SIDES)
    @pytest.mark.parametrize("group", [32, 64, 128])
    @pytest.mark.parametrize("bits", [8, 4])
    def test_integer_matrices_are_the_unpacked_ones(
        self, bits: int, group: int, rows: int, width: int
    ) -> None:
        matrix, dequantized = self.matrix(bits, group, rows, width)
        torch.testing.assert_close(matrix.values(torch.float64), dequantized)
        assert matrix.groups == -(-width // min(group, width))

    @pytest.mark.parametrize(("rows", "width"), SIDES)
    @pytest.mark.parametrize("count", [1, 7])
    @pytest.mark.parametrize("group", [32, 64])
    def test_kernels_multiply_by_the_dequantized_matrix(
        self, group: int, count: int, rows: int, width: int
    ) -> None:
        x = values((count, width), 9)
        eight, eight_values = self.matrix(8, group, rows, width)
        four, four_values = self.matrix(4, group, rows, width)
        four_product = int4_product(four)
        assert four_product is not None
        for product, dequantized in ((int8_product(eight), eight_values), (four_product, four_values)):
            expected = x.bfloat16().double() @ dequantized.T
            y = product(x)
            assert y.shape == (count, rows)
            assert (y.double() - expected).abs().max() <= 0.006 * expected.abs().max()
        rounded = round_activations(x).double() @ eight_values.T
        assert (int8_activation_product(eight)(x) - rounded).abs().max() <= 1e-5 * rounded.abs().max()
        expected = x.bfloat16().double() @ values((rows, width), rows).bfloat16().double().T
        y = bfloat16_product(values((rows, width), rows))(x)
        assert (y.double() - expected).abs().max() <= 0.006 * expected.abs().max()

    @pytest.mark.parametrize(("rows", "width"), SIDES)
    def test_float8_multiplies_by_the_dequantized_matrix(self, rows: int, width: int) -> None:
        packed, x = pack(values((rows, width), rows), FLOAT8), 10 * values((7, width), 9)
        expected = round_activations(x, "float").double() @ unpack(packed, FLOAT8, width, torch.float64).T
        y = float8_product(packed[""], packed[SCALE_SUFFIX])(x)
        assert (y - expected).abs().max() <= 1e-5 * expected.abs().max()

    def test_groups_without_a_kernel_have_no_product(self) -> None:
        matrix, _ = self.matrix(4, 512, 16, 1024)
        assert 512 not in INT4_GROUPS
        assert int4_product(matrix) is None
        whole, _ = self.matrix(4, 512, 16, 100)  # a row shorter than its group is one group of the next size
        assert int4_product(whole) is not None

    @pytest.mark.parametrize("bits", [6, 3, 2, TERNARY])
    def test_formats_without_a_kernel_are_multiplied_unpacked(self, bits: float) -> None:
        weight, x, stored = values((9, 40), 1), values((3, 40), 2), WeightFormat(bits)
        packed = PackedWeight(pack(weight, stored), stored, Use("weight", 16), weight)
        assert packed.product(x) is None
        assert torch.equal(torch.nn.functional.linear(x, packed), x @ round_to_bits(weight, stored).T)
        assert packed.use.unpacked


class TestDecodeState:
    def test_16_bits_keep_the_state_itself(self) -> None:
        codec = StateCodec({"k": StateShape((2, 8), per_token=True)}, 16)
        state = {"k": values((1, 2, 5, 8), 0)}
        assert codec.empty(state) is state
        assert codec.read(state, torch.float32) is state
        assert codec.write(state, state, 0, 5) is state

    @settings(max_examples=30, deadline=None)
    @given(bits=st.sampled_from([8, 4]), first=st.integers(0, 20), count=st.integers(1, 20), seed=seeds)
    def test_rows_written_over_the_end_of_a_ring_go_to_its_beginning(
        self, bits: int, first: int, count: int, seed: int
    ) -> None:
        shape = StateShape((2, 8), per_token=True, limit=7)
        codec, cache = StateCodec({"k": shape}, bits), values((1, 2, 7, 8), seed)
        stored = codec.empty({"k": torch.zeros_like(cache)})
        after = codec.read(codec.write({"k": cache}, stored, first, count), torch.float32)["k"]
        written = {position % 7 for position in range(first, first + count)}
        whole = codec.read(codec.empty({"k": cache}), torch.float32)["k"]
        for slot in range(7):
            expected = whole[:, :, slot] if slot in written else torch.zeros(1, 2, 8)
            assert torch.equal(after[:, :, slot], expected)

    @pytest.mark.parametrize("bits", [8, 4])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_sums_are_read_in_float32_at_least(self, bits: int, dtype: torch.dtype) -> None:
        shapes_ = {"h": StateShape((3, 8), exact=True), "x": StateShape((3, 8))}
        codec = StateCodec(shapes_, bits)
        stored = codec.empty({name: values((2, 3, 8), 1).to(dtype) for name in shapes_})
        read = codec.read(stored, dtype)
        assert read["h"].dtype == torch.promote_types(dtype, torch.float32)
        assert read["x"].dtype == dtype
        again = codec.read(codec.empty(read), dtype)
        assert torch.equal(again["h"], read["h"])
