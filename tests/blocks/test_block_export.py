"""Every block can be exported: prefill with a fixed shape, and a step whose position is a tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Mixer, State, blocks

D_MODEL, COUNT = 16, 24
FIRST = [kind.examples()[0] for kind in blocks.values()]


class Prefill(nn.Module):
    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        mixed = self.mixer(x, state, 0)
        return mixed.y, mixed.state or {}


class Step(nn.Module):
    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, state: State, position: Tensor) -> tuple[Tensor, State]:
        return self.mixer.step(x, state, position)


@pytest.mark.parametrize("spec", FIRST, ids=str)
@torch.no_grad()
def test_prefill_and_step_export_and_compute_the_same(spec: Block) -> None:
    dice = torch.Generator().manual_seed(0)
    mixer = spec.build(D_MODEL).eval()
    mixer.reset_parameters(dice)
    x = torch.randn(2, COUNT, D_MODEL, generator=dice)
    expected = mixer(x, mixer.init_state(2, COUNT + 8), 0)
    prefill = torch.export.export(Prefill(mixer), (x, mixer.init_state(2, COUNT + 8)))
    y, state = prefill.module()(x, mixer.init_state(2, COUNT + 8))
    torch.testing.assert_close(y, expected.y)
    # nothing that was made while tracing may be met afterwards
    assert torch.equal(mixer(x, mixer.init_state(2, COUNT + 8), 0).y, expected.y)
    token, position = torch.randn(2, D_MODEL, generator=dice), torch.tensor(COUNT)

    def copy(of: State) -> State:
        return {name: tensor.clone() for name, tensor in of.items()}

    step = torch.export.export(Step(mixer), (token, copy(state), position))
    got, _ = step.module()(token, copy(state), position)
    torch.testing.assert_close(got, mixer.step(token, copy(expected.state or {}), position)[0])
    later, _ = step.module()(token, copy(state), position + 1)
    torch.testing.assert_close(later, mixer.step(token, copy(expected.state or {}), position + 1)[0])
