import gc
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from foundation.errors import ProfileError
from hw_profiles.timing.rounds import rounds_of
from hw_profiles.timing.timers import (
    Timing,
    check_device,
    clock_of,
    disturbances,
    gpu_clock,
    quiet,
    stopwatch,
)
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import Clock


def test_stopwatch_reads_both_clocks_exactly():
    clock, wall = Clock(), Clock()

    def call():
        clock.taking(2.5)()
        wall.taking(4.0)()

    assert stopwatch(clock, wall)(call, 4) == Timing(2.5, 4.0)


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


@pytest.mark.parametrize(
    ("device", "message"), [("tpu", "unsupported device"), ("cuda", "and this process may use no GPU")]
)
def test_a_device_that_cannot_be_timed_is_named(device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ProfileError, match=message):
        rounds_of({}, Scenario(device=device))


def test_the_clock_is_told():
    assert clock_of(Scenario()) == "CPU time of one pinned thread"
    assert clock_of(Scenario(threads=2)) == "wall clock"


def timings(*times, wall=1.0):
    return [Timing(time, time * wall) for time in times]


def test_a_calm_machine_has_no_disturbances():
    assert disturbances(timings(*[1.0, 1.02] * 20), (0.5, 2.0), [1980, 1965]) == ""
    assert disturbances([], (0.0, 2.0)) == ""


@pytest.mark.parametrize(
    ("calibration", "loads", "clocks", "message"),
    [
        (timings(*[1.0] * 10, *[1.05] * 10, *[1.2] * 10), (0, 2), (), "went from 1 to 1.2 ms"),
        (timings(*[1.0, 1.0, 1.4] * 12), (0, 2), (), "spread over 1 to 1.4 ms"),
        (timings(*[1.0] * 9, wall=2.0), (0, 2), (), "got 50 % of its core"),
        (timings(*[1.0] * 9), (7.25, 2), (), "load of 7.2 on 2 cores"),
        (timings(*[1.0] * 9), (0, 2), (1980, 1500), "between 1500 and 1980 MHz"),
    ],
)
def test_disturbances_are_named(calibration, loads, clocks, message):
    assert disturbances(calibration, loads, clocks).endswith(message)


def test_a_clock_that_the_driver_keeps_to_itself_is_none(monkeypatch):
    class NVMLError(Exception):
        pass

    def fail(device):
        raise NVMLError("Not Supported")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=NVMLError))
    monkeypatch.setattr(torch.cuda, "clock_rate", fail)
    assert gpu_clock("cuda:0") is None


def test_a_clock_that_cannot_be_read_is_none(monkeypatch):
    def fail(device):
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "clock_rate", fail)
    assert gpu_clock("cuda:0") is None
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda device: 1980)
    assert gpu_clock("cuda:0") == 1980


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (Scenario(device="tpu"), "unsupported device"),
        (Scenario(device="cpu:1"), "one device, cpu"),
        (Scenario(threads=3), "3 threads, and this process may use 2 of 4 CPUs"),
        (Scenario(device="cuda:4"), "cuda:4, and this process may use 1 GPU"),
        (Scenario(device="cuda:x"), "cuda:x, and this process may use 1 GPU"),
    ],
)
def test_what_cannot_be_timed_here_is_refused_at_once(scenario, message, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr("search_spaces.devices.usable_cpus", lambda: 2)  # under an affinity mask
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ProfileError, match=message):
        check_device(scenario)
    for good in (Scenario(threads=2), Scenario(device="cuda"), Scenario(device="cuda:0", threads=9)):
        check_device(good)
