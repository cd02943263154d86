"""Through `torch.compile`, with static shapes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from hw_profiles.runtimes.base import Calls, Runtime, runtimes
from hw_profiles.runtimes.static_step import StaticStep
from hw_profiles.timing.timers import Call
from search_spaces.network.model import Model
from search_spaces.ops import assembler
from search_spaces.scenario import Scenario


class Compile(Runtime):
    """The prompt is compiled once for a model, a decode step once for each position."""

    name = "compile"
    static_shapes = True
    fuses = True

    def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
        """See `Runtime.calls`."""
        assembler.prepare(scenario.device)
        prompt = tokens[:, : scenario.prompt].contiguous()
        prefill = compiled(lambda tokens: model.prefill(tokens, capacity=scenario.context))

        def decode(position: int) -> Call:
            step = StaticStep.after(model, scenario, tokens, position)
            run = compiled(lambda token, states, position: step.run(token, states, position))
            return lambda: run(step.token, step.states, step.position)

        return Calls(lambda: prefill(prompt), decode)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` of a function of its own code object.

    The compiler keeps what it compiled with the code, and gives up after a few variants: closures of the same
    line of source over many models would silently stay uncompiled.
    """
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=f"timed_{next(_numbers)}")
    own = FunctionType(code, function.__globals__, code.co_name, None, function.__closure__)
    return torch.compile(own, dynamic=False)


_numbers = count()

runtimes.add(Compile())
