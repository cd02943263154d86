"""Regions recorded as graphs: gradients as without, in any order of networks; what goes wrong is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.training import SupernetTraining
from evaluators.training import recorded
from evaluators.training.capture import Replay
from evaluators.training.execution import Execution
from evaluators.training.recipe import Recipe
from evaluators.training.recorded import WARM_UP, Recorder, Region
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from tests.evaluators.test_fit import TASK


class OnProcessor(Recorder):
    """Records without a GPU: a graph is the function once more, in the precision that it was recorded in."""

    replays = 0

    def _replay_of(self, function: Callable[[], None]) -> Replay:
        low = torch.is_autocast_enabled("cpu")

        def replay() -> None:
            self.replays += 1
            with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, low, cache_enabled=False):
                function()

        return replay

    def _pays(self, region: Region, graphs: recorded.Graphs, inputs: object) -> bool:
        return True


def space(**options: object) -> Space:
    """Regions that stand at several places of one network, with a loss of their own in some."""
    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=1, head_dim=4), ShortConv()),
        channel_mixer=one_of(SwiGLU(expansion=2), MoE(num_experts=4, top_k=2, expansion=1)),
        bits=Bits(weight=one_of(4, 16)),
    )
    layer = replace(layer, **options)  # type: ignore[arg-type]
    return Space(Decoder(vocab=12, d_model=one_of(4, 8), layers=repeat(layer, (2, 4))), name="s")


def trained(
    recorder: Recorder | None, space: Space, precision: str = "float32", device: str = "cpu"
) -> tuple[Tensor, list[float]]:
    """All weights after 8 steps, and the losses."""
    recipe = Recipe(precision=precision, supernet=SupernetRecipe(networks=3))
    how = Execution(device=device)
    training = SupernetTraining(space, TASK, steps=8, seed=0, batch=2, recipe=recipe, execution=how)
    training.regions.recorder = recorder
    losses = [training.learn()[0] for _ in range(8)]
    return torch.cat([weight.detach().flatten() for weight in training.supernet.parameters()]), losses


@pytest.mark.parametrize("options", [{}, {"parallel": True}, {"reads_embedding": True}], ids=str)
def test_a_supernet_of_recorded_regions_learns_the_same(options: dict[str, object]) -> None:
    recorder = OnProcessor()
    plain, recorded_ones = trained(None, space(**options)), trained(recorder, space(**options))
    torch.testing.assert_close(recorded_ones[0], plain[0], rtol=1e-5, atol=1e-6)
    assert recorded_ones[1] == pytest.approx(plain[1], rel=1e-6)
    assert recorder.replays > 100
    assert recorder.works


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_a_supernet_of_graphs_learns_the_same(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "_pays", lambda *given: True)
    recorder = Recorder()
    plain = trained(None, space(), precision, "cuda:0")
    graphs = trained(recorder, space(), precision, "cuda:0")
    assert graphs[1] == pytest.approx(plain[1], rel=1e-3 if precision == "float32" else 2e-2)
    assert recorder.count >= 6  # a loop over experts reads how many tokens each of them got
    assert recorder.failed == 0


def test_places_are_shared_by_regions_of_one_form() -> None:
    recorder = OnProcessor()
    trained(recorder, space())
    inputs = [key for key in recorder._places if key[0] == "input" and key[1] == 0]  # type: ignore[index]
    assert len([run for run in recorder._runs.values() if run is not None]) > 6
    assert len(inputs) == 2  # one for each width


def test_bfloat16_is_that_of_the_region() -> None:
    recorder = OnProcessor()
    plain, recorded_ones = trained(None, space(), "bfloat16"), trained(recorder, space(), "bfloat16")
    assert recorded_ones[1] == pytest.approx(plain[1], rel=1e-3)
    assert recorder.replays > 100


def test_a_region_is_recorded_when_it_was_met_a_few_times() -> None:
    recorder = OnProcessor()
    assert [recorder.due("a") for _ in range(WARM_UP + 1)] == [False] * WARM_UP + [True]
    weight = torch.ones(3, requires_grad=True)
    assert recorder.record("a", lambda x: (2 * x, None), [weight], "a region") is not None
    assert not recorder.due("a")
    run = recorder.known("a")
    assert run is not None
    y, loss = run(weight)
    assert loss is None
    assert y is not None
    y.sum().backward()
    torch.testing.assert_close(weight.grad, torch.full((3,), 2.0))


def test_what_learns_nothing_is_not_recorded() -> None:
    assert OnProcessor().record("a", lambda x: (2 * x, None), [torch.ones(3)], "a region") is None


class Wrong(OnProcessor):
    """Whose graphs of a backward pass compute nothing."""

    def _replay_of(self, function: Callable[[], None]) -> Replay:
        return super()._replay_of(function) if function.__name__ == "forward" else lambda: None


def test_a_recording_that_is_not_the_same_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    recorder, weight = Wrong(), torch.ones(3, requires_grad=True)
    with caplog.at_level(logging.WARNING):
        assert recorder.record("a", lambda x: (2 * x, None), [weight], "a region") is None
    assert "a region is not the same as a CUDA graph, and runs as it is" in caplog.text
    assert recorder.works


class Refusing(OnProcessor):
    def _replay_of(self, function: Callable[[], None]) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")


def test_after_some_that_fail_no_more_are_recorded(caplog: pytest.LogCaptureFixture) -> None:
    recorder, weight = Refusing(), torch.ones(3, requires_grad=True)
    with caplog.at_level(logging.WARNING):
        for number in range(recorded.FAILURES):
            assert recorder.works
            assert recorder.record(number, lambda x: (2 * x, None), [weight], f"region {number}") is None
    assert "region 0 cannot be a CUDA graph, and runs as it is: operation not permitted" in caplog.text
    assert "region 2 cannot be a CUDA graph, as nothing more can: operation not permitted" in caplog.text
    assert not recorder.due("b")


def test_memory_that_is_missing_is_for_the_training_to_tell() -> None:
    class Full(OnProcessor):
        def _replay_of(self, function: Callable[[], None]) -> Replay:
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Full().record("a", lambda x: (2 * x, None), [torch.ones(3, requires_grad=True)], "a region")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a GPU")
def test_on_a_gpu_what_waits_stays_as_it_is_and_what_fails_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Recorder, "_pays", lambda *given: True)
    recorder, weight = Recorder(), torch.ones(3, device="cuda:0", requires_grad=True)
    assert recorder.record("a", lambda x: (x * x.sum().item(), None), [weight], "reads") is None
    assert recorder.failed == 0

    calls = []

    def reads_later(x: Tensor) -> tuple[Tensor, None]:
        calls.append(x)
        return (x * torch.rand_like(x) if len(calls) < 2 else x * x.sum().item()), None

    assert recorder.record("b", reads_later, [weight], "fails while it is recorded") is None
    assert recorder.failed == 1
    torch.rand(3, device="cuda:0")  # raised, with the generator left in a recording
    assert recorder.record("c", lambda x: (x.exp(), None), [weight], "after it") is not None


def test_graphs_that_take_longer_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timed(OnProcessor):
        _pays = Recorder._pays

    weight = torch.ones(3, requires_grad=True)
    for graphs, plain in ((1.0, 2.0), (2.0, 1.0)):
        times = {recorded.Graphs: graphs}
        monkeypatch.setattr(recorded, "_seconds", lambda form, leaves, t=times, p=plain: t.get(type(form), p))
        used = Timed().record("a", lambda x: (2 * x, None), [weight], "a region")
        assert (used is not None) == (graphs < plain)


def test_graphs_share_a_pool_and_are_recorded_beside_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[object] = []

    class Graph:
        def capture_begin(self, pool: object, capture_error_mode: str) -> None:
            happened.append(("begins", pool))

        def capture_end(self) -> None:
            happened.append("ends")

        def pool(self) -> object:
            return "pool"

        def replay(self) -> None:
            happened.append("replayed")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "CUDAGraph": Graph,
        "Stream": lambda: stream,
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda: stream,
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    recorder = Recorder()
    replays = [recorder._replay_of(lambda number=number: happened.append(number)) for number in range(2)]
    replays[1]()
    assert happened == [("begins", None), 0, "ends", ("begins", "pool"), 1, "ends", "replayed"]
