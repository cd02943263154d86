"""Rounding to bits, packing, and the state codec."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.bits import Bits, StateCodec, is_matrix, pack, round_to_bits, unpack, weight_bytes
from search_spaces.blocks.base import StateShape
from search_spaces.errors import IllegalArchitecture

shapes = st.tuples(st.integers(1, 5), st.integers(8, 150))
widths = st.sampled_from([4, 8, 16])


def values(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=150)
@given(shapes, widths, st.integers(0, 999), st.sampled_from([1e-6, 1.0, 1e4]))
def test_packed_is_what_training_saw_and_packing_again_changes_nothing(
    shape: tuple[int, int], bits: int, seed: int, scale: float
) -> None:
    weight = values(shape, seed, scale)
    stored = pack(weight, bits)
    again = unpack(stored, bits, shape[-1], weight.dtype)
    assert torch.equal(again, round_to_bits(weight, bits))
    assert torch.equal(round_to_bits(again, bits), again)
    assert sum(t.numel() * t.element_size() for t in stored.values()) == weight_bytes(shape, bits)
    step = weight.abs().max() * {4: 1 / 7, 8: 1 / 127, 16: 2**-7}[bits]
    assert (again - weight).abs().max() <= 0.51 * step


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_zeros_stay_zeros_and_gradients_pass_straight_through(bits: int) -> None:
    weight = torch.zeros(3, 64, requires_grad=True)
    rounded = round_to_bits(weight, bits)
    assert torch.equal(rounded, weight)
    rounded.backward(torch.arange(192.0).view(3, 64))
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(192.0).view(3, 64))


def test_vectors_and_short_kernels_stay_whole() -> None:
    assert not is_matrix((64,))
    assert not is_matrix((64, 4))
    assert weight_bytes((64, 4), 4) == 1024


@pytest.mark.parametrize("bits", [Bits(weight=3), Bits(state=4), Bits(weight="8")])  # type: ignore[arg-type]
def test_unknown_widths_are_illegal(bits: Bits) -> None:
    with pytest.raises(IllegalArchitecture, match="known widths"):
        bits.check()


@given(st.integers(0, 99), st.integers(1, 30))
def test_rows_of_a_cache_are_written_once_and_within_their_bound(seed: int, count: int) -> None:
    shape = StateShape((2, 8), per_token=True, limit=12)
    codec = StateCodec({"k": shape}, 8)
    stored = codec.empty({"k": torch.zeros(shape.allocated(3, 30))})
    history = values((3, 2, count, 8), seed)
    for position in range(count):
        cache = codec.read(stored, torch.float32)["k"]
        before = cache.clone()
        cache[:, :, position % 12] = history[:, :, position]
        stored = codec.write({"k": cache}, stored, torch.tensor(position), 1)
        after = codec.read(stored, torch.float32)["k"]
        others = [slot for slot in range(12) if slot != position % 12]
        assert torch.equal(after[:, :, others], before[:, :, others])
        row, kept = history[:, :, position], after[:, :, position % 12]
        assert ((kept - row).abs() <= row.abs().amax(-1, keepdim=True) / 250).all()


def test_many_rows_at_once_are_the_rows_one_by_one() -> None:
    shape = StateShape((2, 8), per_token=True)
    codec = StateCodec({"k": shape}, 8)
    cache = values(shape.allocated(1, 20), 0)
    stored = codec.empty({"k": torch.zeros_like(cache)})
    whole = codec.write({"k": cache}, stored, 0, 20)
    assert torch.equal(
        codec.read(whole, torch.float32)["k"], codec.read(codec.empty({"k": cache}), torch.float32)["k"]
    )
