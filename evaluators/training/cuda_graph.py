"""A pass that repeats, forwards and backwards, as one CUDA graph: the program starts it instead of its parts.

A small network is faster than the program that starts its operations one by one. After some calls the pass
is recorded, and from then on replayed on new inputs. Gradients and results then lie where they lay when it
was recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

WARM_UP = 3
"""Calls before the recording: kernels are compiled, and libraries take their workspaces."""

_log = logging.getLogger(__name__)


class RepeatedPass:
    """Calls a function that puts gradients into `parameters`, and records it where it can.

    The function is the same in every call, and so are the shapes of its inputs.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, recorded: bool) -> None:
        self.parameters = list(parameters)
        self.recorded = recorded
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._gradients: list[Tensor | None] = []
        self._result = torch.empty(0)

    def __call__(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The result, and gradients in the parameters."""
        with on_device_of(inputs[0]):
            return self._called(function, inputs)

    def _called(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        self._calls += 1
        if self._graph is None and self.recorded and self._calls > WARM_UP:
            self._record(function, inputs)
        if self._graph is None:
            return function(*inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._result.clone()

    def _record(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        """Record a call, which computes nothing; where that is impossible, say why, and never try again."""
        self._inputs = [each.clone() for each in inputs]
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                self._result = function(*self._inputs)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            _log.warning("WARNING: a step cannot be a CUDA graph, and runs as it is: %s", why)
            self.recorded = False
            torch.cuda.set_stream(stream)
            return
        self._gradients = [parameter.grad for parameter in self.parameters]
        self._graph = graph


def on_device_of(values: Tensor) -> AbstractContextManager[object]:
    """Streams and graphs belong to the current device."""
    return torch.cuda.device(values.device) if values.is_cuda else nullcontext()
