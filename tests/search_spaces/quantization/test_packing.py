"""Packed matrices and exported files hold what training saw, and the counted bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import SettingError
from search_spaces.language.space import Space
from search_spaces.network.model import build
from search_spaces.network.model_files import load_model, save_model
from search_spaces.quantization.bits import TERNARY, WEIGHT_BITS, Bits, WeightFormat, weight_bytes
from search_spaces.quantization.packing import SCALE_SUFFIX, pack, unpack, unpack_codes
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet
from tests.search_spaces.quantization.small import FLOAT8, formats, network, shapes, values

STEP = {6: 1 / 31, 4: 1 / 7, 8: 1 / 127, 16: 2**-7}
"""The distance of neighbouring values, where the largest value is always kept."""


@settings(max_examples=300, deadline=None)
@given(shapes, formats, st.integers(0, 999), st.sampled_from([1e-6, 1.0, 1e4]))
def test_packed_is_what_training_saw_and_packing_again_changes_nothing(
    shape: tuple[int, int], stored: WeightFormat, seed: int, scale: float
) -> None:
    weight = values(shape, seed, scale)
    packed = pack(weight, stored)
    again = unpack(packed, stored, shape[-1], weight.dtype)
    assert torch.equal(again, round_to_bits(weight, stored))
    assert torch.equal(round_to_bits(again, stored), again)
    assert torch.equal(unpack(pack(again, stored), stored, shape[-1], weight.dtype), again)
    assert sum(t.numel() * t.element_size() for t in packed.values()) == weight_bytes(shape, stored)
    if stored.is_float8:  # half a step is a 16th of the value, or of the smallest normal one
        assert ((again - weight).abs() <= 0.063 * weight.abs() + 0.51 * weight.abs().max() / 448 / 512).all()
    elif stored.bits in STEP:
        assert (again - weight).abs().max() <= 0.51 * weight.abs().max() * STEP[int(stored.bits)]


@given(st.sampled_from([8, 6, 4, 3, 2, TERNARY]), st.integers(8, 70), st.integers(0, 99))
def test_every_code_survives_its_bytes(bits: float, width: int, seed: int) -> None:
    top = 1 if bits == TERNARY else 2 ** (int(bits) - 1) - 1
    low = -top - 1 if bits < 4 and bits != TERNARY else -top
    codes = torch.randint(low, top + 1, (3, width), generator=torch.Generator().manual_seed(seed))
    codes[0, 0], codes[0, 1] = top, low  # the ends too
    stored = WeightFormat(bits, 256)
    scale = -0.5 if low < -top else 0.5
    packed = pack(codes * scale, stored)
    actual = unpack_codes(packed, stored, width) * packed[SCALE_SUFFIX].float()
    assert torch.equal(actual[0], codes[0] * scale)
    assert packed[""].dtype == torch.int8
    bits_used = 8 / 5 if bits == TERNARY else bits
    assert packed[""].shape[-1] == -(-width * round(10 * bits_used) // 80)


def test_float8_is_pytorchs_with_a_scale_for_each_row() -> None:
    weight = values((5, 40), 0) * torch.logspace(-3, 3, 5)[:, None]
    packed = pack(weight, FLOAT8)
    assert packed[""].dtype == torch.float8_e4m3fn
    assert (packed[""].float().abs().amax(1) == 448).all()
    assert packed[SCALE_SUFFIX].shape == (5, 1)
    assert weight_bytes((5, 40), FLOAT8) == 5 * (40 + 2)
    zeros = torch.zeros(3, 64, requires_grad=True)
    round_to_bits(zeros, FLOAT8).backward(torch.arange(192.0).view(3, 64))
    assert zeros.grad is not None
    assert torch.equal(zeros.grad, torch.arange(192.0).view(3, 64))


ALL_WIDTHS = [
    Bits(weight=bits, group=group, activation=8 if group == 128 else 16)
    for bits, group in zip(WEIGHT_BITS, (64, 32, 128, 64, 32, 65536, 32), strict=True)
] + [Bits(weight=8, activation=8, numbers="float")]


@pytest.mark.parametrize("bits", ALL_WIDTHS, ids=str)
@torch.no_grad()
def test_exported_files_hold_the_counted_bytes_and_come_back_bit_for_bit(bits: Bits, tmp_path: Path) -> None:
    spec = network(bits, bits, bits, d_model=41)
    model = Supernet(Space(spec)).subnet(spec).extract()
    save_model(model, tmp_path)
    again, tokens = load_model(tmp_path), torch.arange(40)[None]
    assert again.spec == spec
    assert torch.equal(again(tokens), model(tokens))
    raw = (tmp_path / "model.safetensors").read_bytes()
    assert len(raw) - 8 - int.from_bytes(raw[:8], "little") == spec.cost(Scenario()).weight_bytes
    save_model(again, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == raw


@pytest.mark.parametrize("number", [1, 3, None])
def test_another_format_is_refused(tmp_path: Path, number: int | None) -> None:
    save_model(build(network(Bits(weight=4), Bits(weight=8))), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    with pytest.raises(SettingError, match=f"has format {number}; this version reads 2"):
        load_model(tmp_path)


def test_4_bits_are_packed_by_twos_the_first_code_in_the_low_half() -> None:
    codes = torch.tensor([[7, -7, 1, -1, 0, 3, -4, 5, 2]])
    packed = pack(codes * 0.5, WeightFormat(4))[""]
    expected = [(0x97), (0xF1), (0x30), (0x5C), (0x02)]  # the first code of two in the low half
    assert packed.view(torch.uint8).tolist() == [expected]
