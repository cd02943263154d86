"""The decode state at 8 and 4 bits stays within its error bounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.blocks.base import StateShape
from search_spaces.network.model import build
from search_spaces.quantization.bits import Bits, state_bytes
from search_spaces.quantization.decode_state import StateCodec
from search_spaces.scenario import Scenario
from tests.search_spaces.quantization.small import network, values

BOUND = {8: 1 / 250, 4: 1 / 13}


@pytest.mark.parametrize("bits", BOUND)
@given(st.integers(0, 99), st.integers(1, 30), st.sampled_from([8, 7]))
def test_rows_of_a_cache_are_written_once_and_within_their_bound(
    bits: int, seed: int, count: int, width: int
) -> None:
    shape = StateShape((2, width), per_token=True, limit=12)
    codec = StateCodec({"k": shape}, bits)
    stored = codec.empty({"k": torch.zeros(shape.allocated(3, 30))})
    history = values((3, 2, count, width), seed)
    for position in range(count):
        cache = codec.read(stored, torch.float32)["k"]
        before = cache.clone()
        cache[:, :, position % 12] = history[:, :, position]
        stored = codec.write({"k": cache}, stored, torch.tensor(position), 1)
        after = codec.read(stored, torch.float32)["k"]
        others = [slot for slot in range(12) if slot != position % 12]
        assert torch.equal(after[:, :, others], before[:, :, others])
        row, kept = history[:, :, position], after[:, :, position % 12]
        assert ((kept - row).abs() <= row.abs().amax(-1, keepdim=True) * BOUND[bits]).all()
    held = sum(t.numel() * t.element_size() for t in stored.values())
    assert held == 3 * state_bytes(shape, bits, 30)


@pytest.mark.parametrize("bits", [16, *BOUND])
def test_a_state_keeps_its_order(bits: int) -> None:
    codec = StateCodec({"k": StateShape((2, 8), per_token=True), "h": StateShape((8,))}, bits)
    stored = codec.empty({"k": torch.zeros(1, 2, 4, 8), "h": torch.zeros(1, 8)})
    after = codec.write(codec.read(stored, torch.float32), stored, 0, 1)
    assert list(after) == list(stored), "programs pass it on as a list"


@pytest.mark.parametrize("bits", BOUND)
def test_many_rows_at_once_are_the_rows_one_by_one(bits: int) -> None:
    shape = StateShape((2, 8), per_token=True)
    codec = StateCodec({"k": shape}, bits)
    cache = values(shape.allocated(1, 20), 0)
    stored = codec.empty({"k": torch.zeros_like(cache)})
    whole = codec.write({"k": cache}, stored, 0, 20)
    assert torch.equal(
        codec.read(whole, torch.float32)["k"], codec.read(codec.empty({"k": cache}), torch.float32)["k"]
    )


@pytest.mark.parametrize("bits", BOUND)
def test_a_fading_state_stays_within_the_bound_of_its_decay(bits: int) -> None:
    """h = decay * h + x, rounded at every token: no further off than one write over (1 - decay)."""
    codec, decay = StateCodec({"h": StateShape((3, 16), exact=True)}, bits), 0.8
    exact = torch.zeros(2, 3, 16)
    stored = codec.empty({"h": exact.clone()})
    largest = torch.zeros(2, 3, 1)
    for t in range(60):
        x = values((2, 3, 16), t)
        exact = decay * exact + x
        state = {"h": decay * codec.read(stored, torch.float32)["h"] + x}
        largest = torch.maximum(largest, state["h"].abs().amax(-1, keepdim=True))
        stored = codec.write(state, stored, t, 1)
        error = (codec.read(stored, torch.float32)["h"] - exact).abs()
        assert (error <= BOUND[bits] * largest / (1 - decay) + 1e-6).all()
    assert error.max() > 0


@torch.no_grad()
def test_a_network_decodes_with_a_state_of_4_bits() -> None:
    spec = network(Bits(state=4), Bits(state=4))
    model = build(spec).double()
    tokens = torch.randint(64, (2, 40), generator=torch.Generator().manual_seed(0))
    whole = model(tokens)
    logits, state = model.prefill(tokens[:, :20], capacity=22)
    pieces = [logits]
    for token in tokens[:, 20:].unbind(1):
        logits, state = model.step(token, state)
        pieces.append(logits[:, None])
    error = (torch.cat(pieces, 1) - whole)[:, 20:].square().mean().sqrt() / whole.std()
    assert 1e-3 < error < 0.3
    stored = [half for layer in model.init_state(2, 40).layers for half in layer.values()]
    held = sum(tensor.numel() * tensor.element_size() for half in stored for tensor in half.values())
    assert held == spec.cost(Scenario(batch=2, prompt=32, new_tokens=8)).state_bytes
