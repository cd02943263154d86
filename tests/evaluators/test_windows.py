"""Scoring by windows: some at a time is as good as all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluators.scoring.windows import SCORED_AT_ONCE, SEGMENT, state_segment, window_losses, windows_at_once
from evaluators.tasks.recall import Recall
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from tests.evaluators.tiny import Fade


@dataclass
class Table:
    """A network that looks its logits up by the token, and keeps how it was called."""

    vocab: int = 12
    calls: ClassVar[list[tuple[int, int | None]]] = []

    def __call__(self, tokens: Tensor, *, segment: int | None = None) -> Tensor:
        self.calls.append((len(tokens), segment))
        dice = torch.Generator().manual_seed(0)
        return torch.randn(self.vocab, self.vocab, generator=dice)[tokens]


@pytest.fixture(autouse=True)
def no_calls() -> None:
    Table.calls.clear()


@given(windows=st.integers(2, 3 * SCORED_AT_ONCE["cpu"]), segment=st.none() | st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_windows_are_scored_in_order_whatever_their_number(windows: int, segment: int | None) -> None:
    Table.calls.clear()
    task = Recall(tokens=12, length=9, pairs=2, sequences=4, windows=windows)
    losses = window_losses(Table(), task, segment=segment)
    tokens, targets = task.validation()
    assert torch.equal(losses, task.judge(Table()(tokens), targets))
    sizes = [size for size, _ in Table.calls[:-1]]
    assert sum(sizes) == windows
    assert max(sizes) <= SCORED_AT_ONCE["cpu"]
    assert {given for _, given in Table.calls[:-1]} == {segment}


def test_a_gpu_takes_more_windows_and_nobody_more_logits_than_there_is_room_for() -> None:
    assert [windows_at_once(512, 256, device) for device in ("cpu", "cuda:1")] == [32, 128]
    assert windows_at_once(512, 50_000, "cuda:0") == 1


def test_no_gradients_are_kept() -> None:
    weight = torch.ones(12, requires_grad=True)

    def network(tokens: Tensor, *, segment: int | None = None) -> Tensor:
        return weight.expand(*tokens.shape, 12)

    task = Recall(tokens=12, length=9, pairs=2, sequences=4, windows=3)
    assert not window_losses(network, task).requires_grad


@pytest.mark.parametrize(("states", "segment"), [((16, 16), None), ((16, 8), SEGMENT), ((4,), SEGMENT)])
def test_a_rounded_state_is_scored_in_pieces(states: tuple[int, ...], segment: int | None) -> None:
    layers = tuple(Layer(sequence_mixer=Fade(), bits=Bits(state=bits)) for bits in states)
    assert state_segment(Decoder(vocab=12, d_model=8, layers=layers)) == segment
