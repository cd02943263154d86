"""Memory of a network under a scenario: what its weights, its decode state and its activations take.

    memory = predict_memory(spec, scenario)
    memory.prefill_peak_bytes            # with weights at their bits
    measure_memory(model, scenario)      # the real thing, by the allocator of the device

Weights and state are counted. The peak follows a law: a network is read sublayer by sublayer, each frees what
it needed for itself and leaves its output and its new state behind, so

    peak = weights + state + max over the sublayers of (what those before it left + what it needs for itself)

and what one sublayer needs is found by tracing it on the meta device (`hw_profiles.memory.tracing`), once for
all that are equal in what matters to it (`key_of`). The law describes the engine that runs op by op; compiled
code never needs more tensors. A channel mixer that runs at two precisions leaves both results until one is
taken. Weights at fewer bits count the bytes that they are stored in; where they run
emulated (`Memory.emulated`), the device holds them in the scenario's dtype. Layers behind a router count as
if all tokens passed. Constants that blocks keep from one call to the next (such as rotary angles) are there
before, and do not count.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from hw_profiles.memory.tracing import GRANULE, NotTraceable, Trace, kind_of, traced
from hw_profiles.runtimes.base import random_tokens, runtimes
from hw_profiles.runtimes.placement import placed
from hw_profiles.timing.timers import Call, on_gpu, quiet
from search_spaces.network.cost import parameter_shapes, rounded_parameters
from search_spaces.network.decode_state import DecodeState
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.base import option_shapes
from search_spaces.network.options.reads_embedding import EmbeddingReader
from search_spaces.network.residual import Embedded, Residual
from search_spaces.network.shell import Shell, ShellModule
from search_spaces.network.sublayers import Sublayer, layer_sublayers
from search_spaces.quantization.bits import Bits, is_matrix, weight_bytes
from search_spaces.quantization.packed_weight import PackedWeight
from search_spaces.scenario import Scenario

WARM_UPS = 2


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one network under one scenario.

    `weight_bytes` are the weights at their bits, `emulated_weight_bytes` the same in the scenario's dtype, as
    they lie on a device without kernels for those bits. `state_bytes` is the decode state at the scenario's
    context. `prefill_bytes` and `decode_bytes` are the most that a prompt and a step need besides (prefill:
    besides the weights alone, since it makes the state).
    """

    weight_bytes: int
    emulated_weight_bytes: int
    state_bytes: int
    prefill_bytes: int
    decode_bytes: int

    @property
    def prefill_peak_bytes(self) -> int:
        """The most that is allocated while the prompt is read."""
        return self.weight_bytes + self.prefill_bytes

    @property
    def decode_peak_bytes(self) -> int:
        """The most that is allocated while a token is decoded."""
        return self.weight_bytes + self.state_bytes + self.decode_bytes

    @property
    def peak_bytes(self) -> int:
        """The most that is allocated at all."""
        return max(self.prefill_peak_bytes, self.decode_peak_bytes)

    @property
    def emulated(self) -> Memory:
        """The same where bits of weights are emulated: what a measurement here sees."""
        held = self.emulated_weight_bytes
        return Memory(**{**vars(self), "weight_bytes": held, "emulated_weight_bytes": held})


def predict_memory(spec: Decoder, scenario: Scenario) -> Memory:
    """What a network will allocate.

    Raises:
        ProfileError: a block cannot be traced without running it, and the device is not a CPU.
    """
    held, packed = _weights(spec, scenario)
    init = _Running()
    for layer in spec.layers:
        for sublayer in _sublayers(layer, spec):
            init.add(sublayer_traces(sublayer, scenario).init)
    prefill, decode = _Running(init.live, init.peak), _Running()
    _read(spec, scenario, prefill, lambda traces: traces.prefill, scenario.prompt)
    _read(spec, scenario, decode, lambda traces: traces.decode, 1)
    return Memory(
        weight_bytes=packed,
        emulated_weight_bytes=held,
        state_bytes=init.live,
        prefill_bytes=prefill.peak,
        decode_bytes=decode.peak,
    )


class _Running:
    """Bytes as they come and go."""

    def __init__(self, live: int = 0, peak: int = 0) -> None:
        self.live, self.peak = live, peak

    def add(self, trace: Trace) -> None:
        """A computation whose results stay."""
        self.peak = max(self.peak, self.live + trace.peak_bytes)
        self.live += trace.kept_bytes


@dataclass(frozen=True)
class SublayerTraces:
    """The traces of a sublayer: making its state, reading a prompt, decoding a token."""

    init: Trace
    prefill: Trace
    decode: Trace


def key_of(sublayer: Sublayer) -> Sublayer:
    """A sublayer as far as its memory goes: activations are rounded by kernels, if at all."""
    return replace(sublayer, bits=Bits(state=sublayer.bits.state), site=None)


def _sublayers(layer: Layer, spec: Decoder) -> list[Sublayer]:
    """The sublayers of a layer of a network that have a block."""
    every = layer_sublayers(layer, spec.d_model, norm=spec.norm)
    return [sublayer for sublayer in every if sublayer.block is not None]


def _read(
    spec: Decoder,
    scenario: Scenario,
    running: _Running,
    which: Callable[[SublayerTraces], Trace],
    count: int,
) -> None:
    """The residual stream of `count` tokens through all layers."""
    stream = _rounded(scenario.batch * count * spec.d_model * _itemsize(scenario), scenario)
    logits = _rounded(scenario.batch * count * spec.vocab * _itemsize(scenario), scenario)
    running.peak = max(running.peak, running.live + 2 * stream)  # embedded, then scaled
    running.live += stream
    kept = any(layer.reads_embedding for layer in spec.layers)  # what was embedded, to the end
    for index, layer in enumerate(spec.layers):
        for number, sublayer in enumerate(_sublayers(layer, spec)):
            more = layer.runs(sublayer.place) - 1
            for _ in range(1 + more):
                running.add(which(sublayer_traces(sublayer, scenario)))
            running.peak = max(running.peak, running.live + more * stream)  # what is taken of both results
            running.live -= more * stream
            running.live -= stream if number else 0  # what the first sublayer left
        running.live -= stream if index or not kept else 0  # the layer's input
        for _ in range(layer.predictions):
            running.live += logits
            running.peak = max(running.peak, running.live + stream)
    running.add(logits_trace(spec.shell, count, scenario))


def _weights(spec: Decoder, scenario: Scenario) -> tuple[int, int]:
    """Bytes of the weights in the scenario's dtype, and at their bits."""
    dtype, held, packed = _itemsize(scenario), 0, 0
    shell = spec.shell
    shapes = [(shape, shell.bits_of(name)) for name, shape in shell.shapes.items()]
    seen: set[str] = set()
    for layer in spec.layers:
        if layer.shared is not None and layer.shared in seen:
            continue
        seen |= {layer.shared} if layer.shared is not None else set()
        for option in layer.options.values():
            shapes += [(shape, Bits()) for shape in option_shapes(option, shell).values()]
        for place, block in layer.blocks.items():
            rounded = rounded_parameters(block, spec.d_model)
            of_block = parameter_shapes(block, spec.d_model).items()
            own = [shape for name, shape in of_block if name in rounded]
            shapes += [((spec.d_model,), Bits())] * len(layer.norm_in(spec.norm).sublayer_vectors)
            shapes += [(shape, layer.bits_at(place)) for shape in own]
            shapes += [(shape, Bits()) for name, shape in of_block if name not in rounded]
            # emulated leading bits are values of their own; read from the codes, they take nothing
            leading = own if layer.runs(place) > 1 else []
            held += sum(_rounded(dtype * torch.Size(shape).numel(), scenario) for shape in leading)
    for shape, bits in shapes:
        dense = dtype * torch.Size(shape).numel()
        narrow = bits.weight < 16 and is_matrix(shape)
        held += _rounded(dense, scenario)
        packed += _rounded(weight_bytes(shape, bits.stored) if narrow else dense, scenario)
    return held, packed


def sublayer_traces(sublayer: Sublayer, scenario: Scenario) -> SublayerTraces:
    """What a sublayer with a block needs, traced once for all of the same `key_of`.

    Raises:
        NotTraceable: its shapes depend on values, and the device is no CPU.
    """
    return _traces(key_of(sublayer), scenario)


@lru_cache(maxsize=16384)
def _traces(key: Sublayer, scenario: Scenario) -> SublayerTraces:
    try:
        return _traced(key, scenario, "meta")
    except NotTraceable:
        if kind_of(scenario) == "cuda":
            raise
        return _traced(key, scenario, "cpu")  # its shapes depend on values: run it


def _traced(key: Sublayer, scenario: Scenario, device: str) -> SublayerTraces:
    assert key.block is not None
    dtype = getattr(torch, scenario.dtype)
    with torch.device(device):
        residual = Residual(key.block, key.d_model, key.bits, key.norm).to(dtype).eval()
        x = torch.randn(scenario.batch, scenario.prompt, key.d_model, dtype=dtype)
        reader = EmbeddingReader(key.d_model, key.norm).to(dtype) if key.reads_embedding else None
    if device != "meta":
        _fill(residual, reader)
    with torch.device(device), torch.no_grad():
        state = residual.init_state(scenario.batch, scenario.context)
        token = x[:, 0].clone()
        embedded = () if reader is None else (Embedded(reader, x.clone()),)
        embedded_token = () if reader is None else (Embedded(reader, token.clone()),)
        runs: tuple[Callable[[], object], ...] = (
            lambda: residual.init_state(scenario.batch, scenario.context),
            lambda: residual(x, state, 0, *embedded)[:2],  # auxiliary losses are not kept
            lambda: residual.step(token, state, scenario.decode_position, *embedded_token),
        )
        for run in runs:  # constants that blocks keep are there afterwards
            traced(run, scenario)
        return SublayerTraces(*(traced(run, scenario) for run in runs))


@torch.no_grad()
def _fill(residual: Residual, reader: EmbeddingReader | None) -> None:
    """Give every parameter some value."""
    dice = torch.Generator().manual_seed(0)
    residual.reset_parameters(dice)
    if reader is not None:
        reader.reset_parameters(dice)


@lru_cache(maxsize=1024)
def logits_trace(shell: Shell, count: int, scenario: Scenario) -> Trace:
    """What the logits of `count` tokens need."""
    dtype = getattr(torch, scenario.dtype)
    with torch.device("meta"):
        module = ShellModule(shell).to(dtype)
        shape = (scenario.batch, count, shell.d_model) if count > 1 else (scenario.batch, shell.d_model)
        x = torch.empty(shape, dtype=dtype)
        return traced(lambda: module.logits(x), scenario)


def trace_network(spec: Decoder, scenario: Scenario) -> Mapping[str, Trace]:
    """The whole network traced at once, prefill and decode: what the law is held against.

    Raises:
        NotTraceable: its shapes depend on values.
    """
    with torch.device("meta"), torch.no_grad():
        model = build(spec, device="meta").to(getattr(torch, scenario.dtype)).eval()
        tokens = torch.zeros(scenario.batch, scenario.prompt, dtype=torch.long)
        layers = model.init_state(scenario.batch, scenario.context).layers
        state = DecodeState(layers, scenario.decode_position, scenario.context)
        runs = {
            "prefill": lambda: model.prefill(tokens, capacity=scenario.context),
            "decode": lambda: model.step(tokens[:, 0], state),
        }
        found = {}
        for name, run in runs.items():
            traced(run, scenario)
            found[name] = traced(run, scenario)  # constants that blocks keep are there now
    return found


def measure_memory(model: Model, scenario: Scenario, *, seed: int = 0) -> Memory:
    """What a network really allocates, by the allocator of its device, while it reads and decodes once.

    Weights count as they lie there (`Memory.emulated`). On a GPU, room that libraries keep from one call to
    the next (such as the workspace of cuBLAS) is there before and does not count.

    Others may use the device meanwhile: only this process is counted.

    Raises:
        ProfileError: no such device.
    """
    with quiet(scenario.threads), torch.no_grad():
        measure = _cuda_peak if on_gpu(scenario) else _cpu_peak
        home = placed(model, scenario)
        calls = runtimes["eager"].calls(home, scenario, random_tokens(home, scenario, seed))
        prefill = measure(calls.prefill, scenario)
        step = calls.decode(scenario.decode_position)
        decode = measure(step, scenario)
        weights = sum(_rounded(_held(weight), scenario) for weight in _weights_in(home))
        state = home.init_state(scenario.batch, scenario.context)
    tensors = (t for layer in state.layers for stored in layer.values() for t in stored.values())
    stored = sum(_rounded(tensor.untyped_storage().nbytes(), scenario) for tensor in tensors)
    return Memory(
        weight_bytes=weights,
        emulated_weight_bytes=weights,
        state_bytes=stored,
        prefill_bytes=prefill,
        decode_bytes=decode,
    )


def _cuda_peak(call: Call, scenario: Scenario) -> int:
    """The most that the caching allocator handed out during a call, beyond what it had before."""
    device = torch.device(scenario.device)
    for _ in range(WARM_UPS):
        call()
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def _cpu_peak(call: Call, scenario: Scenario) -> int:
    """The same from the allocations that torch's profiler records."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or it says on standard error that it starts
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    recorded: Any = profiler.profiler
    tree = recorded.kineto_results.experimental_event_tree()
    found = [event for event in _walk(tree) if event.tag == _EventType.Allocation]
    live = peak = 0
    for event in sorted(found, key=lambda event: event.start_time_ns):
        live += event.extra_fields.alloc_size
        peak = max(peak, live)
    return peak


def _walk(events: Any) -> Iterator[Any]:
    for event in events:
        yield event
        yield from _walk(event.children)


def _weights_in(model: Model) -> Iterator[Tensor]:
    """Its parameters, and what it keeps of them at fewer bits once it has run."""
    yield from model.parameters()
    for layer in dict.fromkeys(model.decoder_layers):
        yield from layer.precision.kept if layer.precision is not None else ()


def _held(parameter: Tensor) -> int:
    """Bytes that a parameter lies in."""
    if isinstance(parameter, PackedWeight):
        return sum(tensor.nbytes for tensor in parameter.packed.values())
    return int(parameter.untyped_storage().nbytes())


def _itemsize(scenario: Scenario) -> int:
    return int(getattr(torch, scenario.dtype).itemsize)


def _rounded(count: int, scenario: Scenario) -> int:
    granule = GRANULE[kind_of(scenario)]
    return -(-count // granule) * granule
