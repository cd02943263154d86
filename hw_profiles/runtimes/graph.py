"""Captured once in CUDA graphs, then replayed: no Python, and one launch for all kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foundation.errors import ProfileError
from hw_profiles.runtimes.base import Calls, Runtime, runtimes
from hw_profiles.runtimes.static_step import StaticStep
from hw_profiles.timing.timers import Call
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

WARM_UPS = 2
"""Runs before a capture: kernels are loaded, and constants that blocks keep are there."""

SCARCE_MEMORY = 0.5
"""The share of free memory below which torch's cached memory is returned to the driver before a capture."""


class Graph(Runtime):
    """CUDA graphs of static shapes; layers that choose tokens at run time have none."""

    name = "graph"
    static_shapes = True
    launches = False
    own_kernels = True

    def unsupported_scenario(self, scenario: Scenario) -> str:
        """See `Runtime.unsupported_scenario`."""
        if scenario.device.startswith("cuda"):
            return ""
        return f"replays CUDA graphs; {scenario.device!r} has none"

    def unsupported_network(self, spec: Decoder) -> str:
        """See `Runtime.unsupported_network`."""
        for i, layer in enumerate(spec.layers):
            if layer.not_static:
                return f"layers.{i} {layer.not_static}, so its shapes are not static"
        return ""

    def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
        """See `Runtime.calls`."""
        prompt = tokens[:, : scenario.prompt].contiguous()
        prefill = captured(lambda: model.prefill(prompt, capacity=scenario.context), scenario)

        def decode(position: int) -> Call:
            return captured(StaticStep.after(model, scenario, tokens, position), scenario)

        return Calls(prefill, decode)


@dataclass(frozen=True)
class Replay:
    """A captured graph, and the call it was captured from.

    A graph reads what the call read: weights, tokens, buffers. The call is kept so that their memory is not
    handed out again, and so are the outputs, which every replay overwrites.
    """

    graph: Any
    call: Call
    outputs: object

    def __call__(self) -> object:
        """Run once what was captured; returns the outputs."""
        self.graph.replay()
        return self.outputs


def captured(call: Call, scenario: Scenario) -> Call:
    """A CUDA graph of a call, to be replayed; it keeps alive what the call refers to.

    All graphs of a process share one pool of memory, because they are replayed one after another.

    Raises:
        ProfileError: the call does something that CUDA cannot capture. The process should then time no more:
            torch's allocator keeps what was captured halfway.
    """
    device = torch.device(scenario.device)
    try:
        with torch.no_grad(), torch.cuda.device(device):
            return Replay(*_captured(call, device))
    except (RuntimeError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        raise ProfileError(f"engine graph cannot capture this model: {first}; use engine=eager") from error


def _captured(call: Call, device: torch.device) -> tuple[torch.cuda.CUDAGraph, Call, object]:
    """Warm up and capture on one stream, the same for all graphs.

    Like `torch.cuda.graph`, but memory is returned to the driver only where it is scarce: a profile captures
    hundreds of small graphs, and allocating the same memory again would take longer than they run.
    """
    current, stream, pool = torch.cuda.current_stream(), _capture_stream(device), _pool(device)
    free, total = torch.cuda.mem_get_info(device)
    if free < SCARCE_MEMORY * total:
        torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            call()
        torch.cuda.synchronize(device)
        graph.capture_begin(pool=pool)
        try:
            outputs = call()
        finally:
            graph.capture_end()
    current.wait_stream(stream)
    return graph, call, outputs


_streams: dict[torch.device, torch.cuda.Stream] = {}
_anchors: dict[torch.device, torch.cuda.CUDAGraph] = {}


def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream beside the default one, which cannot be captured."""
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]


def _pool(device: torch.device) -> Any:
    """The memory pool of all graphs of a device.

    Torch refuses to reopen a pool whose last graph is gone, and every batch of a profile drops its graphs
    before the next one: so one almost empty graph stays.
    """
    if device not in _anchors:
        anchor = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        with torch.cuda.stream(_capture_stream(device)):
            anchor.capture_begin()
            torch.zeros(1, device=device)
            anchor.capture_end()
        _anchors[device] = anchor
    return _anchors[device].pool()


runtimes.add(Graph())
