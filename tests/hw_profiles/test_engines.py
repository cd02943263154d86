import gc
import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from foundation.errors import ProfileError, SettingError
from hw_profiles.runtimes import engines
from hw_profiles.runtimes.engines import (
    ENGINES,
    StaticStep,
    at_home,
    captured,
    compiled,
    engine_of,
    real_widths,
)
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.adaptive_depth import EarlyExit
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import kernels_of
from search_spaces.scenario import ENGINES as NAMES
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Sum

MIXERS = (
    Attention(num_heads=2, num_kv_heads=1, head_dim=8),
    Attention(num_heads=2, num_kv_heads=2, head_dim=8, window=5),
    GatedLinearAttention(num_heads=2, head_dim=8, state_dim=8),
    Mamba2(num_heads=2, head_dim=8, state_dim=8),
    RGLRU(num_heads=2, head_dim=8),
    ShortConv(kernel=3),
)
CUDA = Scenario(device="cuda:0", engine="graph", prompt=8, new_tokens=4)


def hybrid(state=16, mixers=MIXERS):
    layers = tuple(
        Layer(sequence_mixer=mixer, channel_mixer=channel, bits=Bits(state=state))
        for mixer, channel in zip(mixers, (SwiGLU(), MoE(num_experts=2, top_k=1)) * 3, strict=False)
    )
    return build(Decoder(vocab=16, d_model=16, layers=layers)).double()


def test_every_engine_has_its_name():
    assert set(ENGINES) == set(NAMES)
    assert {name: engine.name for name, engine in ENGINES.items()} == {name: name for name in NAMES}
    assert engine_of(Scenario(engine="compile")).name == "compile"


@pytest.mark.parametrize("state", [16, 8])
def test_a_static_step_decodes_like_a_step(state):
    model, scenario = hybrid(state), Scenario(prompt=7, new_tokens=9, batch=3)
    tokens = torch.randint(16, (3, 16), generator=torch.Generator().manual_seed(1))
    static = StaticStep(model, scenario)
    with torch.no_grad():
        static.begin(tokens[:, :7], tokens[:, 7])
        buffers = [t for layer in static.states for half in layer.values() for t in half.values()]
        _, state = model.prefill(tokens[:, :7], capacity=scenario.context)
        for i in range(7, 16):
            static()
            logits, state = model.step(tokens[:, i], state)
            torch.testing.assert_close(static.logits, logits, rtol=1e-9, atol=1e-9)
            if i < 15:
                static.advance(tokens[:, i + 1])
        after = [t for layer in static.states for half in layer.values() for t in half.values()]
        assert all(one is other for one, other in zip(buffers, after, strict=True))


def test_a_static_step_stands_still_until_it_advances():
    model = hybrid(mixers=MIXERS[:1])
    static = StaticStep(model, SCENARIO)
    with torch.no_grad():
        static.begin(torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, dtype=torch.long))
        static()
        first = static.logits.clone()
        static()
    assert torch.equal(first, static.logits)
    assert int(static.position) == 5


def test_eager_decode_stands_where_it_is_told():
    model, positions = hybrid(), []
    calls = engine_of(SCENARIO).prepare(model, SCENARIO)
    with torch.no_grad():
        logits, state = calls.prefill()
        assert logits.shape == (1, 8, 16)
        assert (state.position, state.capacity) == (8, 12)
        model.step = lambda token, state: positions.append((state.position, state.capacity))
        for position in (3, 10):
            calls.decode(position)()
    assert positions == [(3, 12), (10, 12)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Dynamo detected")  # the compiler's own
def test_compiled_calls_give_what_eager_ones_give():
    scenario = Scenario(engine="compile", prompt=8, new_tokens=4, dtype="float64")
    model = build(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()),))).double()
    with torch.no_grad():
        calls = engine_of(scenario).prepare(model, scenario)
        eager = ENGINES["eager"].prepare(model, scenario)
        torch.testing.assert_close(calls.prefill()[0], eager.prefill()[0])
        torch.testing.assert_close(calls.decode(10)(), eager.decode(10)()[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_compiled_function_is_compiled_however_many_there_are():
    def of(number):
        return lambda x: x * number

    functions = [compiled(of(number)) for number in range(4)]
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=2):
        for number, function in enumerate(functions):
            assert function(torch.ones(2)).tolist() == [number, number]


def test_graphs_need_cuda():
    with pytest.raises(SettingError, match="engine graph replays CUDA graphs; 'cpu' has none"):
        Scenario(engine="graph")


def test_graphs_refuse_what_decides_by_token():
    layer = Layer(sequence_mixer=Sum(), exit=EarlyExit())
    model = build(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()), layer)))
    with pytest.raises(ProfileError, match=r"engine graph: layers.1 decides for every token"):
        engine_of(CUDA).prepare(model, CUDA)


@pytest.fixture
def graphs(monkeypatch):
    """CUDA graphs on the CPU: capturing runs the call. A pool is gone with its last graph, as in torch."""
    seen = SimpleNamespace(pools=[], live=Counter(), free=90, emptied=0, capturing=False)
    stream = SimpleNamespace(wait_stream=lambda other: None)

    @contextmanager
    def nothing(*args):
        yield

    class CUDAGraph:
        kept = None

        def capture_begin(self, pool=None):
            if pool is not None and not seen.live[pool]:
                raise RuntimeError("use_count > 0 INTERNAL ASSERT FAILED")
            self.kept = pool or object()
            seen.live[self.kept] += 1
            seen.pools.append(pool)
            seen.capturing = True

        def capture_end(self):
            seen.capturing = False

        def replay(self):
            seen.replayed = True

        def pool(self):
            return self.kept

        def __del__(self):
            seen.live[self.kept] -= 1

    def empty_cache():
        seen.emptied += 1

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    for name, value in {
        "device": nothing,
        "stream": nothing,
        "CUDAGraph": CUDAGraph,
        "Stream": lambda device: stream,
        "current_stream": lambda: stream,
        "synchronize": lambda device: None,
        "mem_get_info": lambda device: (seen.free, 100),
        "empty_cache": empty_cache,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for kept in ("_anchors", "_asides"):
        monkeypatch.setattr(engines, kept, {})
    return seen


def test_a_graph_is_warmed_up_captured_and_replayed(graphs):
    calls = []
    replay = captured(lambda: calls.append(graphs.capturing), CUDA)
    assert calls == [False] * engines.GRAPH_WARM_UPS + [True]
    replay()
    assert graphs.replayed
    assert len(calls) == engines.GRAPH_WARM_UPS + 1


def test_a_graph_keeps_alive_what_it_reads(graphs):
    class Tokens:
        """What a call holds and nobody else does."""

    def capture():
        tokens = Tokens()
        return captured(lambda: tokens, CUDA), weakref.ref(tokens)

    replay, tokens = capture()
    gc.collect()
    assert tokens() is not None
    del replay
    gc.collect()
    assert tokens() is None


def test_the_pool_outlives_the_graphs_of_a_batch(graphs):
    for _ in range(3):
        replay = captured(lambda: None, CUDA)
        del replay
        gc.collect()
    assert graphs.pools.count(None) == 1  # the one that stays, and opened it
    assert len(set(graphs.pools)) == 2


def test_memory_is_handed_back_only_where_it_is_scarce(graphs):
    captured(lambda: None, CUDA)
    assert graphs.emptied == 0
    graphs.free = 20
    captured(lambda: None, CUDA)
    assert graphs.emptied == 1


def test_what_cannot_be_captured_is_named(graphs):
    def call():
        raise RuntimeError("operation not permitted when stream is capturing\nsecond line")

    with pytest.raises(ProfileError, match=r"cannot capture this model: operation not .* capturing; use"):
        captured(call, CUDA)
    assert not graphs.capturing


def test_weights_are_packed_only_where_the_scenario_says_so():
    layer = Layer(sequence_mixer=MIXERS[0], bits=Bits(weight=8))
    model = build(Decoder(vocab=16, d_model=16, layers=(layer,)))
    assert real_widths(SCENARIO) == frozenset()
    assert at_home(model, SCENARIO) is model
    packed = replace(SCENARIO, weights="packed")
    assert (8, 16, "int") in real_widths(packed)
    assert all(bits != 2 for bits, *_ in real_widths(packed))
    timed = at_home(model, packed)
    assert "torch._weight_int8pack_mm" in kernels_of(timed).values()
    with torch.no_grad():
        logits, _ = engine_of(packed).prepare(timed, packed).prefill()
    assert logits.dtype == torch.float32


def test_a_model_of_another_dtype_is_copied():
    model = hybrid()
    timed = at_home(model, SCENARIO)
    assert timed.embedding.dtype == torch.float32
    assert model.embedding.dtype == torch.float64
