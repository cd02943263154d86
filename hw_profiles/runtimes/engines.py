"""How a model is run: op by op, compiled, or replayed from CUDA graphs of static shapes.

    calls = engine_of(scenario).prepare(model, scenario)
    calls.prefill()            # read the prompt
    calls.decode(300)()        # one step at position 300, again and again

`StaticStep` is decode without data-dependent shapes: the state lies in fixed buffers, the position is a
tensor on the device, and a step reads all slots of a cache, filled or not. That is what can be compiled once
and captured in a graph, so with those engines a step takes the same time at every position.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor

from foundation.errors import ProfileError
from hw_profiles.timing.timers import Call
from search_spaces.network.decode_state import DecodeState
from search_spaces.network.model import Model
from search_spaces.network.residual import Residual
from search_spaces.quantization.kernels import Factors, real_factors, with_real_kernels
from search_spaces.scenario import Scenario

GRAPH_WARM_UPS = 2
"""Runs before a capture: kernels are loaded, and constants that blocks keep are there."""

SCARCE = 0.5
"""The share of free memory below which what torch keeps for later is handed back before a capture."""


@dataclass(frozen=True)
class Calls:
    """What can be timed of a model: reading the prompt, and one decode step at a position."""

    prefill: Call
    decode: Callable[[int], Call]


class Engine(ABC):
    """One way of running a model."""

    name: ClassVar[str]
    static: ClassVar[bool] = True
    """Whether a decode step takes the same time at every position."""

    @abstractmethod
    def prepare(self, model: Model, scenario: Scenario, *, seed: int = 0) -> Calls:
        """The calls of a model that is on the scenario's device (see `at_home`).

        Raises:
            ProfileError: the model cannot be run in this way.
        """


class Eager(Engine):
    """Op by op, from Python, with the shapes of the moment."""

    name = "eager"
    static = False

    def prepare(self, model: Model, scenario: Scenario, *, seed: int = 0) -> Calls:
        """See `Engine.prepare`."""
        tokens = random_tokens(model, scenario, seed)
        prompt, token = tokens[:, : scenario.prompt], tokens[:, -1].contiguous()

        def decode(position: int) -> Call:
            _, state = model.prefill(tokens[:, :position], capacity=scenario.context)
            return lambda: model.step(token, state)  # the same state is given to every step

        return Calls(lambda: model.prefill(prompt, capacity=scenario.context), decode)


class Compile(Engine):
    """Through `torch.compile`, with static shapes."""

    name = "compile"

    def prepare(self, model: Model, scenario: Scenario, *, seed: int = 0) -> Calls:
        """See `Engine.prepare`."""
        tokens = random_tokens(model, scenario, seed)
        prompt = tokens[:, : scenario.prompt].contiguous()
        read = compiled(lambda tokens: model.prefill(tokens, capacity=scenario.context))

        def decode(position: int) -> Call:
            step = StaticStep(model, scenario)
            step.begin(tokens[:, :position], tokens[:, -1])
            run = compiled(lambda token, states, at: step.run(token, states, at))
            return lambda: run(step.token, step.states, step.position)

        return Calls(lambda: read(prompt), decode)


class Graph(Engine):
    """Captured once in CUDA graphs, then replayed: no Python, and one launch for all kernels."""

    name = "graph"

    def prepare(self, model: Model, scenario: Scenario, *, seed: int = 0) -> Calls:
        """See `Engine.prepare`."""
        _static_only(model)
        tokens = random_tokens(model, scenario, seed)
        prompt = tokens[:, : scenario.prompt].contiguous()
        prefill = captured(lambda: model.prefill(prompt, capacity=scenario.context), scenario)

        def decode(position: int) -> Call:
            step = StaticStep(model, scenario)
            step.begin(tokens[:, :position], tokens[:, -1])
            return captured(step, scenario)

        return Calls(prefill, decode)


ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Eager(), Compile(), Graph())}


def engine_of(scenario: Scenario) -> Engine:
    """The engine that a scenario names."""
    return ENGINES[scenario.engine]


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

    def begin(self, tokens: Tensor, token: Tensor) -> None:
        """Read tokens [B, T] as a prompt, and make `token` [B] the next one."""
        with torch.no_grad():
            _, state = self.model.prefill(tokens, capacity=self.capacity)
            for kept, new in zip(self.states, state.layers, strict=True):
                for place, half in new.items():
                    for name, tensor in half.items():
                        kept[place][name].copy_(tensor)
            self.position.fill_(tokens.shape[1])
            self.token.copy_(token)

    def __call__(self) -> None:
        """One step."""
        self.logits = self.run(self.token, self.states, self.position)

    def advance(self, token: Tensor) -> None:
        """Make `token` [B] the next one."""
        self.token.copy_(token)
        self.position.add_(1)

    def run(self, token: Tensor, states: tuple[dict[str, dict[str, Tensor]], ...], at: Tensor) -> Tensor:
        """Logits [B, V]; the new state is written where the old one was."""
        logits, after = self.model.step(token, DecodeState(states, at, self.capacity))
        for kept, new in zip(states, after.layers, strict=True):
            for place, half in new.items():
                for name, tensor in half.items():
                    if tensor is not kept[place][name]:
                        kept[place][name].copy_(tensor)
        return logits


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` of a function of its own code object.

    The compiler keeps what it compiled with the code, and gives up after a few variants: closures of one
    place in a source file over many models would end up uncompiled, without a word.
    """
    assert isinstance(function, FunctionType)
    number = next(_numbers)
    code = function.__code__.replace(co_name=f"timed_{number}")
    own = FunctionType(code, function.__globals__, code.co_name, None, function.__closure__)
    return torch.compile(own, dynamic=False)


_numbers = count()


@dataclass(frozen=True)
class Replay:
    """A captured graph, and the call it was captured from.

    A graph reads what the call read: weights, tokens, buffers. Nobody else may hold them, and memory that is
    handed out again would be read as if nothing had happened.
    """

    graph: Any
    call: Call

    def __call__(self) -> None:
        """Run once what was captured."""
        self.graph.replay()


def captured(call: Call, scenario: Scenario) -> Call:
    """A CUDA graph of a call, to be replayed; it keeps alive what the call holds.

    All graphs of a process share one pool of memory: they are replayed one after another for their time, and
    nobody reads what they leave.

    Raises:
        ProfileError: the call does something that CUDA cannot capture. The process should then time no more:
            what was half captured stays with torch's allocator.
    """
    device = torch.device(scenario.device)
    try:
        with torch.no_grad(), torch.cuda.device(device):
            return Replay(_captured(call, device), call)
    except (RuntimeError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        raise ProfileError(f"engine graph cannot capture this model: {first}; use engine=eager") from error


def _captured(call: Call, device: torch.device) -> torch.cuda.CUDAGraph:
    """Warm up and capture on one stream, the same for all graphs.

    As `torch.cuda.graph` does it, but memory is handed back to the driver only where it is scarce: a profile
    captures hundreds of small graphs, and asking for the same memory again would take longer than they run.
    """
    here, aside, pool = torch.cuda.current_stream(), _aside(device), _pool(device)
    free, total = torch.cuda.mem_get_info(device)
    if free < SCARCE * total:
        torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(GRAPH_WARM_UPS):
            call()
        torch.cuda.synchronize(device)
        graph.capture_begin(pool=pool)
        try:
            call()
        finally:
            graph.capture_end()
    here.wait_stream(aside)
    return graph


_asides: dict[torch.device, torch.cuda.Stream] = {}
_anchors: dict[torch.device, torch.cuda.CUDAGraph] = {}


def _aside(device: torch.device) -> torch.cuda.Stream:
    """A stream that is not the usual one, which cannot be captured."""
    if device not in _asides:
        _asides[device] = torch.cuda.Stream(device)
    return _asides[device]


def _pool(device: torch.device) -> Any:
    """The pool of all graphs of a device.

    Torch refuses to open a pool again once its last graph is gone, and every batch of a profile drops its
    graphs before the next one: so one graph of next to nothing stays.
    """
    if device not in _anchors:
        anchor = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        with torch.cuda.stream(_aside(device)):
            anchor.capture_begin()
            torch.zeros(1, device=device)
            anchor.capture_end()
        _anchors[device] = anchor
    return _anchors[device].pool()


def _static_only(model: Model) -> None:
    for i, layer in enumerate(model.spec.layers):
        if layer.routing is not None or layer.exit is not None:
            raise ProfileError(
                f"engine graph: layers.{i} decides for every token whether it passes, so its shapes are not"
                " static; use engine=eager"
            )


def random_tokens(model: Model, scenario: Scenario, seed: int) -> Tensor:
    """Tokens [B, context] to read and to decode."""
    dice = torch.Generator().manual_seed(seed)
    shape = (scenario.batch, scenario.context)
    return torch.randint(model.spec.vocab, shape, generator=dice).to(scenario.device)


def real_widths(scenario: Scenario) -> frozenset[Factors]:
    """Bits of weights and activations that run on kernels of their own; all others are emulated in time.

    There are none where weights are plain: then narrow weights count their bytes, and run as 16 bits do.
    """
    if scenario.weights == "plain":
        return frozenset()
    return real_factors(scenario.device)


def at_home(model: Model, scenario: Scenario) -> Model:
    """The model as it is timed: on the scenario's device, in its dtype, its weights packed where it says so.

    Emulation is never timed: where weights are plain, activations are not rounded either. The model itself
    stays as it is.
    """
    dtype, device = getattr(torch, scenario.dtype), torch.device(scenario.device)
    there = model.embedding
    same_place = there.device.type == device.type and device.index in (None, there.device.index)
    if scenario.weights == "packed":
        return with_real_kernels(model if same_place else copy.deepcopy(model).to(device=device), dtype)
    rounding = any(layer.bits.activation < 16 for layer in model.spec.layers)
    if there.dtype == dtype and same_place and not rounding:
        return model
    model = copy.deepcopy(model).to(device=device, dtype=dtype)
    for module in model.modules():
        if isinstance(module, Residual):
            module.activations = nullcontext
    return model
