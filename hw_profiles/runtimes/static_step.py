"""Decode without shapes that depend on data, for runtimes that compile or capture a step once.

The state is in fixed buffers, the position is a tensor on the device, and a step reads all slots of a cache,
filled or not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.network.decode_state import DecodeState, LayerState
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario


class StaticStep:
    """Decode of one token in fixed buffers, at the position in the tensor `position`.

    Calling it writes `logits` and the state, and leaves the position; `advance` moves on by one token.
    """

    def __init__(self, model: Model, scenario: Scenario) -> None:
        self.model, self.capacity = model, scenario.context
        device = model.embedding.device
        self.token = torch.zeros(scenario.batch, dtype=torch.long, device=device)
        self.position = torch.zeros((), dtype=torch.long, device=device)
        self.states = model.init_state(scenario.batch, self.capacity).layers
        self.logits: Tensor | None = None

    @classmethod
    def after(cls, model: Model, scenario: Scenario, tokens: Tensor, position: int) -> StaticStep:
        """A step at a position, after the first tokens [B, context] were read."""
        step = cls(model, scenario)
        step.begin(tokens[:, :position], tokens[:, -1])
        return step

    def begin(self, tokens: Tensor, token: Tensor) -> None:
        """Read tokens [B, T] as a prompt, and make `token` [B] the next one."""
        with torch.no_grad():
            _, state = self.model.prefill(tokens, capacity=self.capacity)
            _overwrite(self.states, state.layers)
            self.position.fill_(tokens.shape[1])
            self.token.copy_(token)

    def __call__(self) -> Tensor:
        """One step; returns the logits [B, V]."""
        self.logits = self.run(self.token, self.states, self.position)
        return self.logits

    def advance(self, token: Tensor) -> None:
        """Make `token` [B] the next one."""
        self.token.copy_(token)
        self.position.add_(1)

    def run(self, token: Tensor, states: tuple[LayerState, ...], position: Tensor) -> Tensor:
        """Logits [B, V]; the new state is written where the old one was."""
        logits, after = self.model.step(token, DecodeState(states, position, self.capacity))
        _overwrite(states, after.layers)
        return logits


def _overwrite(buffers: tuple[LayerState, ...], values: tuple[LayerState, ...]) -> None:
    """Write values into buffers, except where they are the buffers."""
    for kept, new in zip(buffers, values, strict=True):
        for place, sublayer in new.items():
            for name, tensor in sublayer.items():
                if tensor is not kept[place][name]:
                    kept[place][name].copy_(tensor)
