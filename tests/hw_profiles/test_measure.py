import logging
from contextlib import nullcontext

import pytest
import torch

from foundation.errors import ProfileError
from hw_profiles.runtimes.placement import placed
from hw_profiles.timing import rounds as rounds_module
from hw_profiles.timing.measure import measure_model, measure_networks, network_calls
from hw_profiles.timing.rounds import Rounds, TimedCall, rounds_of, warmed
from hw_profiles.timing.timers import Calibration, Timing, clock_of
from hw_profiles.timing.timers import stopwatch as real_stopwatch
from hw_profiles.timing.timings import Latency
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Clock, Scale, Sum


def stopwatch(clock):
    return real_stopwatch(clock, clock)


def spec(depth=1):
    return Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(), channel_mixer=Scale()),) * depth)


def test_medians_are_exact_with_a_fake_clock():
    clock = Clock()
    calls = {
        "slow": TimedCall(clock.taking(6.0)),
        "fast": TimedCall(clock.taking(0.5), primed=True, repeats=3),
    }
    rounds = Rounds(calls, stopwatch(clock), calibrate=clock.taking(2.0))
    for _ in range(5):
        rounds.take_round()
    assert rounds.ratios == {"slow": [3.0] * 5, "fast": [0.25] * 5}
    assert rounds.reference_ms == 2.0
    assert (rounds.latency("slow").median_ms, rounds.latency("fast").median_ms) == (6.0, 0.5)
    assert rounds.latency("slow", reference_ms=4.0).median_ms == 12.0  # by the clock of another session


def test_a_slow_moment_cancels():
    clock = Clock()
    rounds = Rounds({"call": TimedCall(clock.taking(6.0))}, stopwatch(clock), calibrate=clock.taking(2.0))
    for slowness in (1.0, 1.0, 1.0, 3.0, 2.0):
        clock.slowness = slowness
        rounds.take_round()
    assert rounds.latency("call") == Latency((6.0,) * 5)


def test_the_wall_clock_is_kept_beside():
    clock, wall = Clock(), Clock()

    def call():
        clock.taking(6.0)()
        wall.taking(9.0)()

    def calibrate():
        clock.taking(2.0)()
        wall.taking(4.0)()

    rounds = Rounds({"call": TimedCall(call)}, real_stopwatch(clock, wall), calibrate=calibrate)
    rounds.take_round()
    found = rounds.latency("call")
    assert (found.samples_ms, found.wall_ms) == ((6.0,), (9.0,))
    assert rounds.walls == {"call": [2.25]}


def stealing(ms, clock, wall, stolen):
    """A call of so many ms that the wall clock sees last longer, by what `stolen` says for each call."""
    waits = iter(stolen)

    def call():
        clock.taking(ms)()
        wall.taking(ms + next(waits, 0.0))()

    return call


def test_a_short_sample_that_lost_the_core_is_taken_again():
    clock, wall = Clock(), Clock()
    calls = {"call": TimedCall(stealing(1.0, clock, wall, [5.0, 0.05, 9.0]))}
    calibrate = stealing(1.0, clock, wall, [])
    rounds = Rounds(calls, real_stopwatch(clock, wall), calibrate=calibrate)
    rounds.take_round()
    assert rounds.walls == {"call": [pytest.approx(1.05)]}
    # the kernel before it lost the core: so what stands between it and the next one is not believed
    lost = Rounds(
        {"call": TimedCall(stealing(1.0, clock, wall, []))},
        real_stopwatch(clock, wall),
        calibrate=stealing(1.0, clock, wall, [0.0, 7.0]),  # each is timed warm, at its second run
    )
    lost.take_round()
    assert lost.walls == {"call": [1.0]}


def test_a_sample_that_never_has_the_core_is_kept_after_some_tries_and_a_long_one_at_once():
    clock, wall = Clock(), Clock()
    for ms, tries in ((1.0, 1 + rounds_module.RETRIES), (10.0, 1)):
        taken = []
        crowded = stealing(ms, clock, wall, [ms] * 99)

        def call(crowded=crowded, taken=taken):
            taken.append(1)
            crowded()

        timer, calibrate = real_stopwatch(clock, wall), stealing(1.0, clock, wall, [])
        rounds = Rounds({"call": TimedCall(call)}, timer, calibrate=calibrate)
        rounds.take_round()
        assert len(taken) == tries
        assert rounds.walls == {"call": [2 * ms]}


def test_the_reference_is_a_quiet_moment():
    rounds = Rounds({}, stopwatch(Clock()), calibrate=Clock().taking(1.0))
    times = [5.0, 2.0, 1.0, 9.0] + [3.0] * 16
    rounds.calibration = [Timing(time, 2 * time) for time in times]
    assert rounds.reference_ms == 3.0
    rounds.calibration = [Timing(time, time) for time in [2.0] * 3 + [3.0] * 17]
    assert rounds.reference_ms == 2.0


def test_a_calibration_that_only_watches_does_not_divide():
    clock = Clock()
    rounds = Rounds(
        {"call": TimedCall(clock.taking(6.0))}, stopwatch(clock), calibrate=clock.taking(2.0), divide=False
    )
    for _ in range(2):
        rounds.take_round()
    assert rounds.latency("call") == Latency((6.0, 6.0))
    assert rounds.latency("call", reference_ms=7.0) == Latency((6.0, 6.0))
    assert rounds.calibration == [Timing(2.0, 2.0)] * 2  # once a round


def test_without_calibration_times_are_plain():
    clock = Clock()
    rounds = Rounds({"call": TimedCall(clock.taking(6.0))}, stopwatch(clock))
    rounds.take_round()
    assert rounds.latency("call") == Latency((6.0,))


def test_short_calls_are_repeated_within_a_sample():
    clock = Clock()
    calls = {"short": TimedCall(clock.taking(0.5)), "long": TimedCall(clock.taking(50.0), repeats=3)}
    rounds = Rounds(calls, stopwatch(clock))
    rounds.stretch(2.0, 200)
    assert {key: call.repeats for key, call in rounds.calls.items()} == {"short": 4, "long": 3}
    rounds.stretch(2.0, 3)
    assert rounds.calls["short"].repeats == 3


def test_a_decode_step_is_the_middle_one_of_a_run():
    """Cold steps at its beginning and behind a preemption do not count."""
    clock, wall = Clock(), Clock()
    steps = iter([0.4, 0.4, 0.2, 0.2, 0.2, 0.4, 0.2, 0.2])  # the first one primes

    def step():
        ms = next(steps)
        clock.taking(ms)()
        wall.taking(ms + (3.0 if ms > 0.2 else 0.0))()  # it lost the core, and its caches

    calls = {"decode": TimedCall(step, primed=True, repeats=7)}
    rounds = Rounds(calls, real_stopwatch(clock, wall), calibrate=stealing(1.0, clock, wall, []))
    rounds.take_round()
    assert rounds.ratios == {"decode": [pytest.approx(0.2)]}
    assert rounds.walls == {"decode": [pytest.approx(0.2)]}


def test_short_steps_are_repeated_on_a_cpu_and_prompts_are_not():
    clock = Clock()
    calls = {"prefill": TimedCall(clock.taking(0.5)), "step": TimedCall(clock.taking(0.125), primed=True)}
    rounds = warmed(Rounds(calls, stopwatch(clock), calibrate=clock.taking(2.0)), SCENARIO)
    assert {key: call.repeats for key, call in rounds.calls.items()} == {"prefill": 1, "step": 16}


def test_rounds_go_on_until_the_intervals_are_narrow():
    times = iter([1.0, 2.0, 1.0, 3.0, 1.0, 2.0] + [1.0] * 100)
    rounds = Rounds({"call": TimedCall(lambda: None)}, lambda call, repeats: Timing(t := next(times), t))
    rounds.take_until(3, 50, 0.05)
    assert 6 < rounds.done < 50
    assert rounds.latency("call").uncertainty <= 0.05
    assert rounds.marked(rounds.latency("call")).unsettled is None


def test_what_does_not_settle_is_marked_with_what_disturbed_it():
    times = iter([1.0, 2.0, 3.0, 5.0] * 100)
    rounds = Rounds(
        {"call": TimedCall(lambda: None)},
        lambda call, repeats: Timing(t := next(times), t),
        load=lambda: (9.0, 2.0),
    )
    rounds.take_until(2, 5, 0.05)
    assert rounds.done == 5
    told = rounds.marked(rounds.latency("call")).unsettled
    assert told.startswith("did not converge after 5 samples (90 % interval: ")
    assert told.endswith("load of 9.0 on 2 cores")


def test_rounds_visit_everything_once_in_changing_but_repeatable_order():
    def visits(seed):
        seen = []
        calls = {str(i): TimedCall(lambda i=i: seen.append(i)) for i in range(6)}
        rounds = Rounds(calls, stopwatch(Clock()), seed=seed)
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

    rounds = Rounds({"a": TimedCall(clock.taking(1.0)), "b": TimedCall(fail)}, stopwatch(clock))
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

    Rounds({"call": TimedCall(call)}, stopwatch(clock)).warm_up()
    assert not times


def test_a_real_network_is_measured_and_left_as_it_was():
    model = build(spec())
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    measured = measure_model(model, SCENARIO, rounds=3)
    assert set(measured) == {"prefill_ms", "decode_ms"}
    assert all(3 <= found.n <= 9 and len(found.wall_ms) == found.n for found in measured.values())
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
    return lambda call, repeats: Timing(1.0, 1.0) if isinstance(call, Calibration) else timer(call, repeats)


def uneven(call, repeats):
    """A timer that reads something else every time."""
    call()
    uneven.last = (7 * uneven.last + 3) % 11 + 1
    return Timing(1.0, 1.0) if isinstance(call, Calibration) else Timing(uneven.last, 1.0)


uneven.last = 1


def test_what_has_not_settled_is_said_or_refused(caplog):
    model = build(spec())
    with caplog.at_level(logging.WARNING):
        found = measure_networks([model], SCENARIO, rounds=2, timer=uneven)[0]
    assert found["prefill_ms"].n == 6
    assert all(latency.unsettled for latency in found.values())
    assert "network 0, prefill_ms: did not converge after 6 samples" in caplog.text
    with pytest.raises(ProfileError, match="network 0, prefill_ms: did not converge after 6 samples"):
        measure_networks([model], SCENARIO, rounds=2, timer=uneven, strict=True)


def test_settling_ends_with_the_time_that_is_allowed():
    found = measure_networks([build(spec())], SCENARIO, rounds=2, timer=uneven, seconds=0.0)[0]
    assert found["prefill_ms"].n == 2
    assert found["prefill_ms"].unsettled


def test_decode_is_timed_at_the_middle_of_the_new_tokens():
    model, positions = build(spec()), []
    model.step = lambda token, state: positions.append((state.position, state.capacity))
    calls = network_calls(model, SCENARIO)
    for _ in range(2):
        calls["decode_ms"].call()
    assert positions == [(10, 12)] * 2


def test_a_model_of_another_dtype_is_copied():
    model = build(spec())
    seen = []
    scenario = Scenario(prompt=8, new_tokens=4, dtype="float64")
    with torch.no_grad():
        seen.append(network_calls(model, scenario)["prefill_ms"].call()[0].dtype)
    assert seen == [torch.float64]
    assert model.embedding.dtype == torch.float32


class Event:
    """A CUDA event on the CPU: notes the clock."""

    clock = Clock()

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = self.clock()

    def elapsed_time(self, end):
        return (end.at - self.at) / 1e6


def test_a_gpu_is_timed_by_its_events_and_only_watched_by_calibration(monkeypatch):
    settled = []
    for name, value in {
        "is_available": lambda: True,
        "Event": Event,
        "device": nullcontext,
        "synchronize": settled.append,
        "clock_rate": lambda device: 1980,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(rounds_module, "GpuCalibration", lambda device: Event.clock.taking(0.25))
    scenario = Scenario(device="cuda:1")
    rounds = warmed(rounds_of({"step": TimedCall(Event.clock.taking(0.5))}, scenario), scenario)
    assert rounds.calls["step"].repeats == 4
    rounds.take_round()
    assert rounds.latency("step") == Latency((0.5,))
    assert rounds.clocks == [1980]
    assert set(settled) == {torch.device("cuda:1")}
    assert clock_of(scenario) == "CUDA events"


def test_emulated_activations_are_not_timed():
    layer = Layer(sequence_mixer=Sum(), bits=Bits(activation=8))
    model = build(Decoder(vocab=16, d_model=8, layers=(layer,)))
    rounding = model.decoder_layers[0].sublayers["sequence_mixer"].activations
    timed = placed(model, SCENARIO)
    assert timed is not model
    assert timed.decoder_layers[0].sublayers["sequence_mixer"].activations is nullcontext
    assert model.decoder_layers[0].sublayers["sequence_mixer"].activations is rounding is not nullcontext
