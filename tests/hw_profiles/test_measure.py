import gc
import math
import os
from contextlib import nullcontext

import pytest
import torch

from hw_profiles.measure import (
    Calibration,
    Latency,
    Rounds,
    Task,
    clock_of,
    measure_model,
    measure_networks,
    network_tasks,
    quiet,
    rounds_of,
    stopwatch,
)
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import ProfileError
from search_spaces.model import build
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Clock, Scale, Sum


def spec(depth=1):
    return Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(), channel_mixer=Scale()),) * depth)


def test_latency_summaries():
    latency = Latency((1.0, 2.0, 3.0, 4.0, 5.0))
    assert (latency.median_ms, latency.n) == (3.0, 5)
    assert latency.spread == pytest.approx(2 / 3)
    assert latency.standard_error == pytest.approx(2.0)  # ranks 0 and 4


def test_standard_error_of_the_median_shrinks_with_the_samples():
    few, many = (Latency(tuple(i / n for i in range(n))) for n in (11, 101))
    # the median of n uniform samples has a standard deviation of about 1 / (2 sqrt(n))
    assert many.standard_error == pytest.approx(0.05, rel=0.3)
    assert few.standard_error > 2 * many.standard_error


def test_one_sample_has_no_error():
    latency = Latency((2.0,))
    assert (latency.spread, latency.standard_error) == (0.0, math.inf)
    assert latency.summary()["standard_error_ms"] is None


def test_rounding_keeps_significant_digits():
    assert Latency((0.00123456789, 123456.0)).rounded().samples_ms == (0.0012346, 123460.0)


def test_stopwatch_reads_exactly_and_waits_for_the_device():
    clock, settled = Clock(), []
    timer = stopwatch(clock, lambda: settled.append(clock()))
    assert timer(clock.taking(2.5), 4) == 2.5
    assert settled == [0, 10_000_000]


def test_medians_are_exact_with_a_fake_clock():
    clock = Clock()
    tasks = {"slow": Task(clock.taking(6.0)), "fast": Task(clock.taking(0.5), primed=True, repeats=3)}
    rounds = Rounds(tasks, stopwatch(clock), calibrate=clock.taking(2.0))
    for _ in range(5):
        rounds.take_round()
    assert rounds.ratios == {"slow": [3.0] * 5, "fast": [0.25] * 5}
    assert rounds.reference_ms == 2.0
    assert (rounds.latency("slow").median_ms, rounds.latency("fast").median_ms) == (6.0, 0.5)
    assert rounds.latency("slow", reference_ms=4.0).median_ms == 12.0  # by the clock of another session


def test_a_slow_moment_cancels():
    clock = Clock()
    rounds = Rounds({"call": Task(clock.taking(6.0))}, stopwatch(clock), calibrate=clock.taking(2.0))
    for slowness in (1.0, 1.0, 1.0, 3.0, 2.0):
        clock.slowness = slowness
        rounds.take_round()
    assert rounds.latency("call") == Latency((6.0,) * 5)


def test_the_reference_is_a_quiet_moment():
    rounds = Rounds({}, stopwatch())
    rounds.calibration = [5.0, 2.0, 1.0, 9.0] + [3.0] * 16
    assert rounds.reference_ms == 3.0
    rounds.calibration = [2.0] * 3 + [3.0] * 17
    assert rounds.reference_ms == 2.0


def test_without_calibration_times_are_plain():
    clock = Clock()
    rounds = Rounds({"call": Task(clock.taking(6.0))}, stopwatch(clock))
    rounds.take_round()
    assert rounds.latency("call") == Latency((6.0,))


def test_rounds_visit_everything_once_in_changing_but_repeatable_order():
    def visits(seed):
        seen = []
        tasks = {str(i): Task(lambda i=i: seen.append(i)) for i in range(6)}
        rounds = Rounds(tasks, stopwatch(), seed=seed)
        for _ in range(3):
            rounds.take_round()
        return [seen[i : i + 6] for i in (0, 6, 12)]

    assert visits(0) == visits(0) != visits(1)
    assert all(sorted(visit) == list(range(6)) for visit in visits(0))
    assert visits(0)[0] != visits(0)[1]


def test_a_round_that_is_cut_off_does_not_count():
    clock, failing = Clock(), {"b": False}

    def fail():
        if failing["b"]:
            raise KeyboardInterrupt

    rounds = Rounds({"a": Task(clock.taking(1.0)), "b": Task(fail)}, stopwatch(clock))
    rounds.take_round()
    failing["b"] = True
    with pytest.raises(KeyboardInterrupt):
        rounds.take_round()
    assert rounds.done == 1
    assert {len(ratios) for ratios in rounds.ratios.values()} == {1}


def test_warm_up_goes_on_while_calls_get_faster():
    clock, times = Clock(), [9.0, 5.0, 3.0, 2.0, 2.0]

    def call():
        clock.now += int(1e6 * (times.pop(0) if times else 2.0))

    Rounds({"call": Task(call)}, stopwatch(clock)).warm_up()
    assert not times


@pytest.mark.parametrize("raises", [False, True])
def test_quiet_puts_everything_back(raises):
    before = (os.sched_getaffinity(0), torch.get_num_threads(), gc.isenabled())
    try:
        with quiet(1):
            assert len(os.sched_getaffinity(0)) == 1
            assert torch.get_num_threads() == 1
            assert not gc.isenabled()
            if raises:
                raise RuntimeError("the measured call failed")
    except RuntimeError:
        assert raises
    assert (os.sched_getaffinity(0), torch.get_num_threads(), gc.isenabled()) == before


def test_quiet_leaves_several_threads_unpinned():
    before = os.sched_getaffinity(0)
    with quiet(2):
        assert os.sched_getaffinity(0) == before
        assert torch.get_num_threads() == 2


def test_quiet_leaves_a_stopped_collector_stopped():
    gc.disable()
    try:
        with quiet(1):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_real_network_is_measured_and_left_as_it_was():
    model = build(spec())
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    measured = measure_model(model, SCENARIO, rounds=3)
    assert {name: found.n for name, found in measured.items()} == {"prefill_ms": 3, "decode_ms": 3}
    assert all(found.median_ms > 0 for found in measured.values())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_networks_are_measured_in_order_in_one_session():
    clock = Clock()
    models = [build(spec(depth)) for depth in (1, 2)]
    for depth, model in enumerate(models, start=1):
        wind = clock.taking(depth)
        model.step = lambda *_, wind=wind: wind()
    measured = measure_networks(
        models, Scenario(prompt=8, new_tokens=4, threads=2), rounds=2, timer=counting(clock)
    )
    assert [found["decode_ms"].median_ms for found in measured] == [1.0, 2.0]
    slower = measure_networks(models, SCENARIO, rounds=2, reference_ms=3.0, timer=counting(clock))
    assert [found["decode_ms"].median_ms for found in slower] == [3.0, 6.0]


def counting(clock):
    """A timer for which only wound calls take time, and calibration takes one."""
    timer = stopwatch(clock)
    return lambda call, repeats: 1.0 if isinstance(call, Calibration) else timer(call, repeats)


def test_decode_is_timed_at_the_middle_of_the_new_tokens():
    model, positions = build(spec()), []
    model.step = lambda token, state: positions.append((state.position, state.capacity))
    tasks = network_tasks(model, SCENARIO)
    for _ in range(2):
        tasks["decode_ms"].call()
    assert positions == [(10, 12)] * 2


def test_a_model_of_another_dtype_is_copied():
    model = build(spec())
    seen = []
    scenario = Scenario(prompt=8, new_tokens=4, dtype="float64")
    with torch.no_grad():
        seen.append(network_tasks(model, scenario)["prefill_ms"].call()[0].dtype)
    assert seen == [torch.float64]
    assert model.embedding.dtype == torch.float32


@pytest.mark.parametrize(("device", "message"), [("tpu", "no way to time"), ("cuda", "no usable GPU")])
def test_a_device_that_cannot_be_timed_is_named(device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ProfileError, match=message):
        rounds_of({}, Scenario(device=device))


def test_the_clock_is_told():
    assert clock_of(Scenario()) == "CPU time of one pinned thread"
    assert clock_of(Scenario(threads=2)) == "wall clock"


class Event:
    """A CUDA event on the CPU: notes the clock."""

    clock = Clock()

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = self.clock()

    def elapsed_time(self, end):
        return (end.at - self.at) / 1e6


def test_a_gpu_is_timed_by_its_events_without_calibration(monkeypatch):
    settled = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "synchronize", settled.append)
    rounds = rounds_of({"step": Task(Event.clock.taking(2.5), repeats=4)}, Scenario(device="cuda:1"))
    rounds.take_round()
    assert rounds.latency("step") == Latency((2.5,))
    assert settled == [torch.device("cuda:1")] * 2
    assert clock_of(Scenario(device="cuda:1")) == "CUDA events"
