"""Counters of energy: real where there are any, absent otherwise, and read correctly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hw_profiles.energy import ENERGY_READINGS, Energy, measure_energy
from hw_profiles.energy_counters import Counter, Rapl, counter_of
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import Sum

# a prompt so long that reading it costs more than a token also beside other work
SCENARIO = Scenario(prompt=4096, new_tokens=8)
SPEC = Decoder(vocab=32, d_model=32, layers=(Layer(sequence_mixer=Sum(copies=2)),))


class Steady(Counter):
    """A device that takes so many watts, whatever it does."""

    name = "steady"
    window_s = 0.1

    def __init__(self, watts: float) -> None:
        self.watts, self.last = watts, time.perf_counter()

    def joules(self) -> float:
        then, self.last = self.last, time.perf_counter()
        return self.watts * (self.last - then)


def zone(folder: Path, name: str, joules: float, limit: int = 10**9) -> Path:
    """A RAPL zone as the kernel shows it."""
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path


def test_without_a_counter_there_is_no_energy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hw_profiles.energy_counters.POWERCAP", tmp_path)
    assert Rapl.find(tmp_path) is None
    monkeypatch.setattr("hw_profiles.energy_counters.Rapl.find", lambda: None)
    assert counter_of("cpu") is None
    assert counter_of("mps") is None
    assert measure_energy(build(SPEC), SCENARIO) is None


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 10)
    zone(tmp_path, "intel-rapl:1", 20)
    zone(tmp_path, "intel-rapl:0:0", 5)  # the cores of package 0, which counts them already
    counter = Rapl.find(tmp_path)
    assert counter is not None
    zone(tmp_path, "intel-rapl:0", 13)
    zone(tmp_path, "intel-rapl:1", 24.5)
    zone(tmp_path, "intel-rapl:0:0", 500)
    assert counter.joules() == pytest.approx(7.5)
    assert counter.joules() == 0


def test_a_counter_that_starts_anew_goes_on(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 90, limit=100_000_000)
    counter = Rapl.find(tmp_path)
    assert counter is not None
    zone(tmp_path, "intel-rapl:0", 5, limit=100_000_000)
    assert counter.joules() == pytest.approx(15)


def test_a_counter_that_may_not_be_read_is_none(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 1)
    (folder / "energy_uj").unlink()
    assert Rapl.find(tmp_path) is None


def test_energy_is_power_times_time_over_the_calls() -> None:
    found = measure_energy(build(SPEC), SCENARIO, counter=Steady(10.0))
    assert found is not None
    assert tuple(found) == ENERGY_READINGS
    for energy in found.values():
        assert energy.idle_watts == pytest.approx(10.0, rel=0.01)
        assert len(energy.samples_j) == 3
        assert 0 < energy.median_j < 1.0  # some microseconds to milliseconds of 10 W
        assert energy.standard_error is not None
        assert energy.to_plain()["scenario"] == SCENARIO.to_json()
    assert found["decode_joules"].median_j < found["prefill_joules"].median_j


def test_a_hundred_times_the_power_is_a_hundred_times_the_energy() -> None:
    one, two = (measure_energy(build(SPEC), SCENARIO, counter=Steady(watts)) for watts in (10.0, 1000.0))
    assert one is not None
    assert two is not None
    ratio = two["prefill_joules"].median_j / one["prefill_joules"].median_j
    assert 30 < ratio < 300


def test_the_spread_is_that_of_the_windows() -> None:
    energy = Energy(samples_j=(1.0, 2.0, 3.0), idle_watts=1.0, counter="made", scenario=SCENARIO)
    assert energy.median_j == 2.0
    assert energy.spread == pytest.approx(0.5)
    assert energy.standard_error == pytest.approx(1 / 3**0.5)
    single = Energy(samples_j=(1.0,), idle_watts=1.0, counter="made", scenario=SCENARIO)
    assert single.standard_error is None
