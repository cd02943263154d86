"""Serving as a scenario: a load is simulated as the engine answers it, and its figures are objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, pairwise, repeat
from math import sin
from random import Random

import pytest

from benchmarks.life.loads import fitted
from foundation.errors import ProfileError, SettingError
from hw_profiles.latency.table import LatencyTable
from nas.objectives.base import CostModel, objectives
from nas.serving import load
from nas.serving.engine import Engine
from nas.serving.figures import FIGURES
from nas.serving.load import arrivals, figures, serve
from nas.serving.simulation import Costs, Ratios, measured_costs, measured_ratios, simulate
from nas.study.creation import create_study
from nas.study.plan import Plan
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces
from tests.hw_profiles.tiny import registered, round_table
from tests.nas.serving.networks import network

SCENARIO = Scenario.parse("chat=cpu,batch=3,arrivals=20/s,prompt=12,new=6")
COSTS = Costs(token_ms=0.5, chunk_ms=2.0, rows=(1, 2, 3), steps_ms=(4.0, 6.0, 7.0))


class Wound:
    """A clock that the engine winds by what the simulation says of its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pace: Sequence[float] = ()) -> None:
        self.now, self.slow, paces = 0.0, 1.0, chain(pace, repeat(1.0))
        iterating = Engine.iterate

        def iterate(engine: Engine) -> bool:
            self.slow = next(paces)
            return iterating(engine)

        monkeypatch.setattr(Engine, "iterate", iterate)
        monkeypatch.setattr(load, "clock_of", lambda scenario: lambda: self.now)
        monkeypatch.setattr(Engine, "_step", self.wrapped(Engine._step, self.stepped))
        reading = Engine._read

        def read(engine: Engine) -> None:
            prefill = engine.model.prefill

            def timed(tokens: object, *rest: object, **more: object) -> object:
                self.now += 1e-3 * self.slow * (COSTS.chunk_ms + COSTS.token_ms * tokens.shape[1])  # type: ignore[attr-defined]
                return prefill(tokens, *rest, **more)  # type: ignore[arg-type]

            engine.model.prefill = timed  # type: ignore[method-assign, assignment]
            reading(engine)
            engine.model.prefill = prefill  # type: ignore[method-assign]

        monkeypatch.setattr(Engine, "_read", read)

    def stepped(self, rows: int) -> None:
        self.now += 1e-3 * self.slow * COSTS.step_ms(rows)

    def wrapped(self, step: Callable[..., None], before: Callable[[int], None]) -> Callable[..., None]:
        def timed(engine: Engine, rows: list[object]) -> None:
            before(len(rows))
            step(engine, rows)

        return timed


@pytest.mark.parametrize("rate", [5.0, 40.0, 200.0])
@pytest.mark.parametrize("chunk", [5, 12, 30])
@pytest.mark.parametrize("new_tokens", [6, 12])
@pytest.mark.parametrize("pace", [(), (1.5, 0.5, 3.0) * 20], ids=["steady", "changing"])
def test_the_simulation_schedules_as_the_engine_does(
    monkeypatch: pytest.MonkeyPatch, rate: float, chunk: int, new_tokens: int, pace: tuple[float, ...]
) -> None:
    """Rows have all their pages before their answers end, and then others join without a page in reserve."""
    monkeypatch.setattr(load, "CHUNK", chunk)
    whole = load.engine_for
    monkeypatch.setattr(load, "engine_for", lambda model, scenario: whole(model, scenario, chunk=chunk))
    Wound(monkeypatch, pace)
    scenario = replace(SCENARIO, arrivals=rate, dtype="float64", new_tokens=new_tokens)
    measured = serve(network("caches"), scenario, requests=25, seed=3)
    simulated = simulate(COSTS, scenario, requests=25, seed=3, chunk=chunk, pace=pace)
    assert simulated == pytest.approx(measured)


def test_arrivals_are_those_of_a_poisson_process() -> None:
    times = arrivals(SCENARIO, requests=4001, seed=1)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 20, rel=0.06), "four standard errors: 6e-5 false alarms"
    assert sum(gap**2 for gap in gaps) / len(gaps) == pytest.approx(2 * mean**2, rel=0.15)
    assert times == arrivals(SCENARIO, requests=4001, seed=1) != arrivals(SCENARIO, 4001, 2)


def test_a_single_request_takes_what_its_parts_take() -> None:
    found = simulate(COSTS, SCENARIO, requests=1)
    first, each = 2.0 + 12 * 0.5, 4.0
    expected = (1e3 * 6 / (first + 5 * each), first, first, each, each)
    assert list(found.values()) == pytest.approx(expected)
    assert list(found) == list(FIGURES)
    assert figures([load.Answered(0.0, 1.0, 1.0)], replace(SCENARIO, new_tokens=1))["tpot_p50_ms"] == 0


def test_more_load_is_never_faster() -> None:
    found = [simulate(COSTS, replace(SCENARIO, arrivals=rate)) for rate in (1.0, 30.0, 300.0)]
    for name in FIGURES:
        values = [each[name] for each in found]
        assert values == sorted(values), name


def test_ratios_of_a_network_give_its_own_times_back() -> None:
    scenario = replace(SCENARIO, dtype="float64")
    ratios = measured_ratios([(network("recurrent"), 10.0, 2.0)], scenario)
    assert Ratios.from_plain(ratios.to_plain()) == ratios
    costs = ratios.costs(10.0, 2.0, scenario)
    assert costs.rows == (1, 2, 3)
    assert costs.step_ms(2) > 0
    assert costs.token_ms > 0
    doubled = ratios.costs(20.0, 4.0, scenario)
    assert doubled.step_ms(3) == pytest.approx(2 * costs.step_ms(3))


def test_few_rows_are_timed_one_by_one() -> None:
    scenario = replace(SCENARIO, dtype="float64", batch=20)
    assert measured_costs(network("recurrent"), scenario).rows == (1, 2, 3, 4, 5, 6, 7, 8, 10, 20)


def test_the_benchmark_tells_the_pace_of_the_machine_from_the_times_of_the_network() -> None:
    scenario, dice, told = replace(SCENARIO, batch=3), Random(0), []
    paces = [1.0 + 0.2 * sin(turn / 60) for turn in range(3000)]
    for pace in paces:
        tokens, rows = dice.choice((0, 0, 12)), dice.choice((1, 2, 3))
        told.append((tokens, rows, 1e-3 * pace * (COSTS.token_ms * tokens + COSTS.step_ms(rows))))
    costs, found = fitted(told, scenario)
    expected = [COSTS.token_ms, *COSTS.steps_ms]
    mean = sum(paces) / len(paces)
    assert [costs.token_ms / mean, *(ms / mean for ms in costs.steps_ms)] == pytest.approx(expected, rel=0.02)
    assert found[100:-100] * mean == pytest.approx(paces[100:-100], rel=0.05)


def test_objectives_need_arrivals_and_a_table() -> None:
    little_table = round_table()
    spec = little_table.networks[0].spec
    for name in FIGURES:
        ask = objectives[name].cheap
        assert ask is not None
        with pytest.raises(SettingError, match="need a scenario with arrivals"):
            ask(spec, CostModel(little_table.scenario, little_table))
        with pytest.raises(ProfileError, match="needs a latency table"):
            ask(spec, CostModel(SCENARIO))
        served = replace(little_table, scenario=replace(little_table.scenario, arrivals=4.0))
        with pytest.raises(ProfileError, match="knows nothing of serving"):
            ask(spec, CostModel(served.scenario, served))
        known = Ratios(1.0, 0.1, (1,), (1.0,)).to_plain()
        kept = replace(served, provenance=replace(served.provenance, serving=known))
        with registered():
            assert LatencyTable.from_plain(kept.to_plain()).provenance == kept.provenance
        value = ask(spec, CostModel(kept.scenario, kept))
        assert value.value > 0
        assert value.source.startswith("predicted")


@pytest.mark.parametrize(
    ("scenario", "more", "reason"),
    [
        ("cpu,batch=8", {}, "need a scenario with arrivals, such as cpu,batch=8,arrivals=4/s"),
        ("cpu,batch=8,arrivals=4,weights=packed", {}, "runs engine=eager with weights=plain"),
        ("cpu,arrivals=4", {"roofline": "h200"}, "measured on this machine"),
    ],
)
def test_studies_are_refused_at_once(
    scenario: str, more: dict[str, str], reason: str, tmp_path: object
) -> None:
    plan = Plan(objectives=("ttft_p95_ms",), scenarios=(Scenario.parse(scenario),), **more)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=reason):
        create_study(spaces["laptop"](), plan, name="s", store=f"sqlite:///{tmp_path}/s.db")
