"""A decode step for rows at positions of their own, of whole networks: equal to each row alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.network import residual
from search_spaces.network.decode_state import DecodeState, LayerState
from search_spaces.network.model import Model, build
from tests.search_spaces.networks import NORMS, text
from tests.search_spaces.test_model import VOCAB, moved, random_network

LENGTHS, CAPACITY, NEAR = (1, 5, 33, 20), 64, 1e-9


def joined(states: list[DecodeState]) -> DecodeState:
    """The states of single rows as one of a batch, each row at its own position."""
    layers: list[LayerState] = [
        {
            place: {name: _cat([s.layers[i][place][name] for s in states]) for name in parts}
            for place, parts in layer.items()
        }
        for i, layer in enumerate(states[0].layers)
    ]
    positions = torch.tensor([int(state.position) for state in states])
    return DecodeState(tuple(layers), positions, CAPACITY)


def _cat(parts: list[Tensor]) -> Tensor:
    """The state of all rows; behind a router, a row that nothing passed has not grown."""
    slots = max(part.shape[-2] if part.ndim > 2 else 0 for part in parts)
    return torch.cat(
        [F.pad(part, (0, 0, 0, slots - part.shape[-2])) if part.ndim > 2 else part for part in parts]
    )


def network(seed: int) -> Model:
    spec = random_network(seed, NORMS[seed % len(NORMS)])
    state = (16, 8, 4)[seed % 3]
    layers = tuple(replace(layer, bits=replace(layer.bits, state=state)) for layer in spec.layers)
    return moved(build(replace(spec, layers=layers))).double()


@torch.no_grad()
def test_one_row_is_stepped_without_a_map_over_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = network(0).eval(), text(VOCAB, 1, 9, 0)
    state = model.prefill(tokens[:, :8], capacity=CAPACITY)[1]
    expected, _ = model.step(tokens[:, 8], model.prefill(tokens[:, :8], capacity=CAPACITY)[1])
    monkeypatch.setattr(residual, "step_rows", None)
    found, _ = model.step(tokens[:, 8], joined([state]))
    torch.testing.assert_close(found, expected, rtol=NEAR, atol=NEAR)


@pytest.mark.parametrize("seed", range(16))
@torch.no_grad()
def test_rows_at_positions_of_their_own_are_each_row_alone(seed: int) -> None:
    model = network(seed).eval()
    tokens = text(VOCAB, len(LENGTHS), max(LENGTHS) + 2, seed)
    alone = [
        model.prefill(tokens[i : i + 1, :count], capacity=CAPACITY)[1] for i, count in enumerate(LENGTHS)
    ]
    together = joined(alone)
    for after in range(2):
        token = torch.stack([tokens[i, count + after] for i, count in enumerate(LENGTHS)])
        stepped = [model.step(token[i : i + 1], state) for i, state in enumerate(alone)]
        logits, together = model.step(token, together)
        torch.testing.assert_close(logits, torch.cat([row for row, _ in stepped]), rtol=NEAR, atol=NEAR)
        alone = [state for _, state in stepped]
    assert isinstance(together.position, torch.Tensor)
    assert together.position.tolist() == [count + 2 for count in LENGTHS]
