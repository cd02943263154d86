"""Export: `torch.export` takes the prefill with a fixed shape, and a step whose position is a tensor."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr, redirect_stdout

import torch
from torch import Tensor, nn

from search_spaces.block_contract.promise import Subject, copied, near, promise
from search_spaces.blocks.base import Mixer, State

COUNT = 24


class Prefill(nn.Module):
    """A mixer that reads a prompt into a state."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs [B, T, D] and the state after them."""
        mixed = self.mixer(x, state, 0)
        return mixed.y, mixed.state or {}


class Step(nn.Module):
    """A mixer that reads one token."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, state: State, position: Tensor) -> tuple[Tensor, State]:
        """The output [B, D] and the state after it."""
        return self.mixer.step(x, state, position)


@promise()
@torch.no_grad()
def prefill_and_step_can_be_exported(subject: Subject) -> None:
    """Exported programs compute what the module computes, the step at other positions, too."""
    mixer, dice = subject.built(torch.float32).eval(), torch.Generator().manual_seed(0)
    x = torch.randn(2, COUNT, subject.d_model, generator=dice)
    expected = mixer(x, mixer.init_state(2, COUNT + 8), 0)
    prefill = _exported(Prefill(mixer), x, mixer.init_state(2, COUNT + 8))
    y, state = prefill(x, mixer.init_state(2, COUNT + 8))
    near(y, expected.y, "the exported prefill and forward differ", 1e-4)
    again = mixer(x, mixer.init_state(2, COUNT + 8), 0).y
    near(again, expected.y, "what was made while exporting is met by later calls", 0.0)
    token, position = torch.randn(2, subject.d_model, generator=dice), torch.tensor(COUNT)
    step = _exported(Step(mixer), token, copied(state), position)
    for later in (position, position + 1):
        got, _ = step(token, copied(state), later)
        own = mixer.step(token, copied(expected.state or {}), later)[0]
        near(got, own, "the exported step and step differ", 1e-4)


def _exported(module: nn.Module, *inputs: object) -> nn.Module:
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what it says before it raises is about its own graphs
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            return torch.export.export(module, inputs).module()
    finally:
        log.setLevel(level)
