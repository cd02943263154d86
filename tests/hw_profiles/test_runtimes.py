"""The contract that every runtime keeps, and what is particular to each."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from foundation.errors import IllegalArchitecture, ProfileError, SettingError, UnknownName
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.table import LatencyTable
from hw_profiles.runtimes import graph
from hw_profiles.runtimes.base import Calls, Runtime, check_scenario, random_tokens, runtime_of, runtimes
from hw_profiles.runtimes.compile import compiled
from hw_profiles.runtimes.graph import captured
from hw_profiles.runtimes.placement import placed
from hw_profiles.runtimes.static_step import StaticStep
from hw_profiles.timing.timers import Clock
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import kernels_of
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, registered, small_space

MIXERS = (
    Attention(num_heads=2, num_kv_heads=1, head_dim=8),
    Attention(num_heads=2, num_kv_heads=2, head_dim=8, window=5),
    GatedLinearAttention(num_heads=2, head_dim=8, state_dim=8),
    Mamba2(num_heads=2, head_dim=8, state_dim=8),
    RGLRU(num_heads=2, head_dim=8),
    ShortConv(kernel=3),
)
CUDA = Scenario(device="cuda:0", engine="graph", prompt=8, new_tokens=4)
DOUBLE = replace(SCENARIO, dtype="float64")
SLOW = {"compile", *(name for name, runtime in runtimes.items() if runtime.converts)}
"""Runtimes that take seconds to prepare a model."""


def hybrid(state: int = 16, mixers: tuple[Block, ...] = MIXERS) -> Model:
    layers = tuple(
        Layer(sequence_mixer=mixer, channel_mixer=channel, bits=Bits(state=state))
        for mixer, channel in zip(mixers, (SwiGLU(), MoE(num_experts=2, top_k=1)) * 3, strict=False)
    )
    return build(Decoder(vocab=16, d_model=16, layers=layers)).double()


def small() -> Model:
    """Attention writes the same values when a step is repeated; a recurrent state would move on."""
    layer = Layer(sequence_mixer=MIXERS[0], channel_mixer=SwiGLU())
    return build(Decoder(vocab=16, d_model=16, layers=(layer, layer))).double()


def logits_of(result: Any) -> Tensor:
    """Logits are what a call returns, or the first of it."""
    found = result[0] if isinstance(result, (tuple, list)) else result
    return torch.as_tensor(found)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in runtimes]
)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return runtimes[request.param]


@pytest.fixture
def scenario(runtime: Runtime) -> Scenario:
    """A scenario on a device of this machine that the runtime can run."""
    for dtype, device in product(("float64", "float32"), ("cpu", "cuda:0")):
        found = replace(DOUBLE, engine=runtime.name, device=device, dtype=dtype)
        if not runtime.unsupported_scenario(found):
            if device.startswith("cuda") and not torch.cuda.is_available():
                pytest.skip("no GPU")
            if lacking := runtime.not_installed():
                pytest.skip(lacking)
            return found
    raise AssertionError(f"{runtime.name} runs on no device")


class TestEveryRuntime:
    """The contract."""

    pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Dynamo detected")

    @pytest.fixture(autouse=True, scope="class")
    def _own_cache(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Conversions of one test serve the others."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
            yield

    def test_is_named_like_its_file(self, runtime: Runtime) -> None:
        assert type(runtime).__module__ == f"hw_profiles.runtimes.{runtime.name}"
        assert runtime_of(Scenario(engine=runtime.name)) is runtime

    def test_gives_what_the_model_gives(self, runtime: Runtime, scenario: Scenario) -> None:
        model = small().to(scenario.device, getattr(torch, scenario.dtype))
        tokens = random_tokens(model, scenario, 0)
        with torch.no_grad():
            calls = runtime.prepare(model, scenario)
            expected, _ = model.prefill(tokens[:, : scenario.prompt])
            torch.testing.assert_close(logits_of(calls.prefill()), expected)
            for position in (3, 10):
                _, state = model.prefill(tokens[:, :position], capacity=scenario.context)
                expected, _ = model.step(tokens[:, -1], state)
                torch.testing.assert_close(logits_of(calls.decode(position)()), expected)

    def test_has_calls_that_are_repeatable(self, runtime: Runtime, scenario: Scenario) -> None:
        with torch.no_grad():
            calls = runtime.prepare(small(), scenario)
            first = logits_of(calls.prefill()).clone()
            assert torch.equal(first, logits_of(calls.prefill()))

    def test_leaves_the_model_as_it_was(self, runtime: Runtime, scenario: Scenario) -> None:
        model = small()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            runtime.prepare(model, replace(scenario, dtype="float32")).prefill()
        for name, value in model.state_dict().items():
            assert torch.equal(weights[name], value)
            assert value.dtype == weights[name].dtype

    def test_refuses_with_a_reason(self, runtime: Runtime) -> None:
        exits = Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(), exit=EarlyExit()),) * 2)
        scenarios = [Scenario(device=device, engine=runtime.name) for device in ("cpu", "cuda")]
        at = next(found for found in scenarios if not runtime.unsupported_scenario(found))
        reason = runtime.unsupported_network(exits)
        if reason:
            with pytest.raises(ProfileError, match=f"engine {runtime.name}: {reason}"):
                runtime.prepare(build(exits), at)
        for device in ("cpu", "cuda"):
            here = replace(at, device=device)
            if reason := runtime.unsupported_scenario(here):
                with pytest.raises(SettingError, match=f"engine {runtime.name} {reason}"):
                    check_scenario(here)
            else:
                check_scenario(here)
        with pytest.raises(SettingError, match="unsupported device 'mps'"):
            check_scenario(replace(at, device="mps"))

    def test_has_a_clock_for_every_scenario_that_it_runs(self, runtime: Runtime) -> None:
        assert runtime.clock(Scenario(device="cuda:0")) in Clock
        assert runtime.clock(Scenario(threads=2)) is not Clock.THREAD  # one thread's time is not latency

    def test_emulates_all_bits_where_weights_are_plain(self, runtime: Runtime) -> None:
        assert runtime.kernels(Scenario(engine=runtime.name)) == frozenset()


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (Scenario(engine="graf", device="cuda:0"), "engine: unknown runtime 'graf'; did you mean 'graph'"),
        (Scenario(engine="fast"), "engine: unknown runtime 'fast'; known: aotinductor, compile, eager"),
    ],
)
def test_an_unknown_runtime_is_answered_with_the_nearest_name(scenario: Scenario, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        check_scenario(scenario)


def test_graphs_need_cuda() -> None:
    with pytest.raises(SettingError, match="engine graph replays CUDA graphs; 'cpu' has none"):
        check_scenario(Scenario(engine="graph"))


def test_a_runtime_that_is_added_is_used_by_its_name(added: Callable[[Runtime], None]) -> None:
    class Wall(Runtime):
        name, static_shapes = "own threads", True

        def clock(self, scenario: Scenario) -> Clock:
            return Clock.WALL

        def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
            return Calls(lambda: model.prefill(tokens), lambda position: lambda: None)

    added(Wall())
    scenario = Scenario(engine="own threads")
    check_scenario(scenario)
    assert runtime_of(scenario).clock(scenario) is Clock.WALL


@pytest.fixture
def added() -> Iterator[Callable[[Runtime], None]]:
    """Adds a runtime for the length of a test."""
    names: list[str] = []

    def add(runtime: Runtime) -> None:
        names.append(runtimes.add(runtime).name)

    yield add
    for name in names:
        del runtimes._things[name]


@pytest.mark.parametrize("state", [16, 8])
def test_a_static_step_decodes_like_a_step(state: int) -> None:
    model, scenario = hybrid(state), Scenario(prompt=7, new_tokens=9, batch=3)
    tokens = torch.randint(16, (3, 16), generator=torch.Generator().manual_seed(1))
    static = StaticStep(model, scenario)
    with torch.no_grad():
        static.begin(tokens[:, :7], tokens[:, 7])
        buffers = tensors(static)
        _, decoding = model.prefill(tokens[:, :7], capacity=scenario.context)
        for i in range(7, 16):
            static()
            logits, decoding = model.step(tokens[:, i], decoding)
            torch.testing.assert_close(static.logits, logits, rtol=1e-9, atol=1e-9)
            if i < 15:
                static.advance(tokens[:, i + 1])
        assert all(before is after for before, after in zip(buffers, tensors(static), strict=True))


def tensors(static: StaticStep) -> list[Tensor]:
    return [t for layer in static.states for sublayer in layer.values() for t in sublayer.values()]


def test_a_static_step_stays_at_its_position_until_it_advances() -> None:
    static = StaticStep(hybrid(mixers=MIXERS[:1]), SCENARIO)
    with torch.no_grad():
        static.begin(torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, dtype=torch.long))
        static()
        assert static.logits is not None
        first = static.logits.clone()
        static()
    assert torch.equal(first, static.logits)
    assert int(static.position) == 5


def test_eager_decode_is_at_its_position() -> None:
    model, positions = hybrid(), []
    with torch.no_grad():
        calls = runtime_of(DOUBLE).prepare(model, DOUBLE)
        logits = logits_of(calls.prefill())
        assert logits.shape == (1, 8, 16)
        model.step = lambda token, state: positions.append((state.position, state.capacity))  # type: ignore
        for position in (3, 10):
            calls.decode(position)()
    assert positions == [(3, 12), (10, 12)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_compiled_function_is_compiled_however_many_there_are() -> None:
    def times(number: int) -> Callable[[Tensor], Tensor]:
        return lambda x: x * number

    functions = [compiled(times(number)) for number in range(4)]
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=2):
        for number, function in enumerate(functions):
            assert function(torch.ones(2)).tolist() == [number, number]


class Picky(Runtime):
    """Converts models, but not every block."""

    name, static_shapes, converts = "picky", True, True

    def versions(self) -> dict[str, str]:
        return {"picky": "1.0"}

    def not_installed(self) -> str:
        return self.lacking

    def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
        if any(isinstance(layer.channel_mixer, Scale) for layer in model.spec.layers):
            raise ProfileError("it has no Scale")
        if any(isinstance(layer.sequence_mixer, Scale) for layer in model.spec.layers):
            raise ProfileError("it has no Scale")
        return runtimes["eager"].calls(model, scenario, tokens)

    lacking = ""


def test_blocks_that_a_runtime_cannot_convert_are_illegal_in_its_table(
    added: Callable[[Runtime], None], tmp_path: Path
) -> None:
    added(Picky())
    scenario = replace(SCENARIO, engine="picky")
    with registered():
        heard: list[tuple[str, int, int]] = []
        table = profile_space(
            small_space(),
            scenario,
            seconds=0,
            output=tmp_path / "table.json",
            progress=lambda *told: heard.append(told),
        )
        assert ("trying Scale in picky", 0, 2) in heard
        converting = [(done, total) for what, done, total in heard if what.startswith("converting for picky")]
        assert [done for done, _ in converting] == list(range(1, len(converting) + 1))
        assert converting[0][1] == converting[-1][1] == converting[-1][0]
        assert all(what.endswith("left at most") for what, *_ in heard if what.startswith("converting"))
        assert table.illegal == {"Scale": "it has no Scale"}
        assert table.fingerprint["picky"] == "1.0"
        assert not table.missing(small_space())
        again = LatencyTable.load(tmp_path / "table.json", scenario)
        assert again.illegal == table.illegal
        legal = Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()),))
        assert again.predict(legal)["decode_ms"][0] > 0
        scaled = replace(legal, layers=(Layer(sequence_mixer=Sum(), channel_mixer=Scale()),))
        with pytest.raises(IllegalArchitecture, match="engine picky cannot run Scale: it has no Scale"):
            again.predict(scaled)
        layer = Layer(sequence_mixer=Sum(copies=one_of(1, 2)), channel_mixer=Scale())
        only = Space(Decoder(vocab=16, d_model=8, layers=(layer,)), name="only")
        with pytest.raises(ProfileError, match="only: none of its networks can be run; Scale: it has"):
            profile_space(only, scenario, seconds=0)


def test_a_runtime_that_is_not_installed_names_the_extra(added: Callable[[Runtime], None]) -> None:
    picky = Picky()
    picky.lacking = "needs picky: pip install 'nas[picky]'"
    added(picky)
    scenario = replace(SCENARIO, engine="picky")
    check_scenario(scenario)  # a table from elsewhere can be read
    with pytest.raises(SettingError, match=r"scenario: engine picky needs picky: pip install 'nas\[picky\]'"):
        profile_space(small_space(), scenario, seconds=0)


def test_onnx_runtime_gives_what_the_model_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    layer = Layer(sequence_mixer=Attention(num_heads=1, num_kv_heads=1, head_dim=8))
    model = build(Decoder(vocab=16, d_model=8, layers=(layer,)))
    scenario = replace(SCENARIO, engine="onnxruntime")
    tokens = random_tokens(model, scenario, 0)
    for _ in range(2):
        with torch.no_grad():
            calls = runtime_of(scenario).prepare(model, scenario)
            _, state = model.prefill(tokens[:, :5], capacity=scenario.context)
            expected, _ = model.step(tokens[:, -1], state)
        torch.testing.assert_close(logits_of(calls.decode(5)()), expected, rtol=1e-4, atol=1e-5)
    files = [path.suffix for path in (tmp_path / "exports").iterdir()]
    assert sorted(files) == [".onnx", ".onnx"]  # converted once


def test_graphs_refuse_layers_that_choose_tokens() -> None:
    layer = Layer(sequence_mixer=Sum(), exit=EarlyExit())
    model = build(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()), layer)))
    with pytest.raises(ProfileError, match=r"engine graph: layers.1 decides for every token"):
        runtime_of(CUDA).prepare(model, CUDA)


@dataclass
class FakeCuda:
    """What happened to CUDA graphs on a machine without a GPU."""

    pools: list[object] = field(default_factory=list)
    live: Counter[object] = field(default_factory=Counter)
    free: int = 90
    emptied: int = 0
    capturing: bool = False
    replayed: bool = False


def fake_graph(cuda: FakeCuda) -> type:
    """A CUDA graph whose capture runs the call; its pool ends with the last graph, as in torch."""

    class CUDAGraph:
        kept: object = None

        def capture_begin(self, pool: object = None) -> None:
            if pool is not None and not cuda.live[pool]:
                raise RuntimeError("use_count > 0 INTERNAL ASSERT FAILED")
            self.kept = pool or object()
            cuda.live[self.kept] += 1
            cuda.pools.append(pool)
            cuda.capturing = True

        def capture_end(self) -> None:
            cuda.capturing = False

        def replay(self) -> None:
            cuda.replayed = True

        def pool(self) -> object:
            return self.kept

        def __del__(self) -> None:
            cuda.live[self.kept] -= 1

    return CUDAGraph


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Torch's CUDA as far as graphs use it, on the CPU."""
    fake = FakeCuda()
    stream = SimpleNamespace(wait_stream=lambda other: None)

    @contextmanager
    def nothing(*args: object) -> Iterator[None]:
        yield

    def empty_cache() -> None:
        fake.emptied += 1

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    for name, value in {
        "device": nothing,
        "stream": nothing,
        "CUDAGraph": fake_graph(fake),
        "Stream": lambda device: stream,
        "current_stream": lambda: stream,
        "synchronize": lambda device: None,
        "mem_get_info": lambda device: (fake.free, 100),
        "empty_cache": empty_cache,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for kept in ("_anchors", "_streams"):
        monkeypatch.setattr(graph, kept, {})
    return fake


def test_a_graph_is_warmed_up_captured_and_replayed(cuda: FakeCuda) -> None:
    calls: list[bool] = []
    replay = captured(lambda: calls.append(cuda.capturing), CUDA)
    assert calls == [False] * graph.WARM_UPS + [True]
    replay()
    assert cuda.replayed
    assert len(calls) == graph.WARM_UPS + 1


def test_a_graph_keeps_alive_what_it_reads(cuda: FakeCuda) -> None:
    class Tokens:
        """What a call refers to and nothing else does."""

    def capture() -> tuple[Callable[[], object], weakref.ref[Tokens]]:
        tokens = Tokens()
        return captured(lambda: tokens, CUDA), weakref.ref(tokens)

    replay, tokens = capture()
    gc.collect()
    assert tokens() is not None
    del replay
    gc.collect()
    assert tokens() is None


def test_the_pool_outlives_the_graphs_of_a_batch(cuda: FakeCuda) -> None:
    for _ in range(3):
        replay = captured(lambda: None, CUDA)
        del replay
        gc.collect()
    assert cuda.pools.count(None) == 1  # the one that stays, and opened it
    assert len(set(cuda.pools)) == 2


def test_memory_is_returned_to_the_driver_only_where_it_is_scarce(cuda: FakeCuda) -> None:
    captured(lambda: None, CUDA)
    assert cuda.emptied == 0
    cuda.free = 20
    captured(lambda: None, CUDA)
    assert cuda.emptied == 1


def test_what_cannot_be_captured_is_named(cuda: FakeCuda) -> None:
    def call() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nsecond line")

    with pytest.raises(ProfileError, match=r"cannot capture this model: operation not .* capturing; use"):
        captured(call, CUDA)
    assert not cuda.capturing


def test_weights_are_packed_only_where_the_scenario_says_so() -> None:
    layer = Layer(sequence_mixer=MIXERS[0], bits=Bits(weight=8))
    model = build(Decoder(vocab=16, d_model=16, layers=(layer,)))
    assert runtime_of(SCENARIO).kernels(SCENARIO) == frozenset()
    assert placed(model, SCENARIO) is model
    packed = replace(SCENARIO, weights="packed")
    kernels = runtime_of(packed).kernels(packed)
    assert (8, 16, "int") in kernels
    assert all(bits != 2 for bits, *_ in kernels)
    assert "torch._weight_int8pack_mm" in kernels_of(placed(model, packed)).values()
    with torch.no_grad():
        logits = logits_of(runtime_of(packed).prepare(model, packed).prefill())
    assert logits.dtype == torch.float32


def test_a_model_of_another_dtype_is_copied() -> None:
    model = hybrid()
    timed = placed(model, SCENARIO)
    assert timed.embedding.dtype == torch.float32
    assert model.embedding.dtype == torch.float64
