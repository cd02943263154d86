"""What a reader asks of a front: bounds, the best network under them, the knee, colour, a third axis."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.app.controls import slider_of
from dashboards.app.live_store import LiveStore
from dashboards.facts import front as front_module
from dashboards.facts import rescoring
from dashboards.facts.baselines import baseline_facts
from dashboards.facts.density import Density, density_of
from dashboards.facts.explore import ExploreFacts, View, explore, keeping, knee_of
from dashboards.facts.front import FrontFacts, Point, front_facts
from dashboards.facts.growth import growth, growths, improvements
from dashboards.facts.networks import quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.scored import Scored
from dashboards.figures.explorer import explorer_figure
from nas.pareto import hypervolume_trace, reference_point
from nas.store import Store
from nas.study.best import best_of
from nas.study.trial import Value
from tests.dashboards.random_records import made_trial

X, Y = quantity("decode_ms"), quantity("bits_per_byte")


def named(reading: Reading, name: str) -> Quantity:
    return next(of for of in reading.quantities() if of.name == name)


def test_the_best_under_bounds_is_that_of_nas_best(reading: Reading) -> None:
    values = sorted(
        known["decode_ms"].value for known in reading.study.measured().values() if "decode_ms" in known
    )
    for bound in (values[3], values[len(values) // 2], values[-1]):
        facts = explore(reading, View(x=X, y=Y, bounds={"decode_ms": bound}))
        assert facts.best is not None
        best = best_of(reading.study, "bits_per_byte", [f"decode_ms<={bound!r}"])
        assert facts.best.digest == best.digest
        assert all(point.x.value <= bound for point in facts.plane.members)
        assert 0 < facts.inside <= facts.known


def test_bounds_that_nothing_keeps_leave_nothing(reading: Reading) -> None:
    facts = explore(reading, View(x=X, y=Y, bounds={"decode_ms": 1e-9}))
    assert (facts.inside, facts.best, facts.plane.members) == (0, None, ())
    assert len(facts.outside) == facts.known
    assert "no network keeps all of these bounds" in explorer_figure(facts).to_json()


def test_the_front_is_that_of_nas_front(reading: Reading) -> None:
    front, former = reading.study.front(), reading.predicted_members
    assert [trial.digest for trial in reading.members] == [trial.digest for trial in front]
    assert len(former) - len(front) == front.dropped > 0
    facts = explore(reading, View(x=X, y=Y))
    assert facts.on_front == len(front)
    drawn = {point.number for point in (*facts.plane.front, *facts.plane.other_members)}
    assert drawn >= {trial.number for trial in reading.members}
    assert {point.number for point in facts.plane.outdone} == {trial.number for trial in former} - drawn


def test_a_network_is_drawn_where_bounds_compare_it(reading: Reading) -> None:
    known, searched = reading.study.measured(), set(reading.scored.digests.tolist())
    values = [v["decode_ms"].value for digest, v in known.items() if digest in searched]
    bound = 1.01 * min(values)
    facts = explore(reading, View(x=X, y=Y, bounds={"decode_ms": bound}))
    assert facts.inside + len(facts.outside) == facts.known
    assert min(x for x, _ in facts.outside) > bound
    slider = slider_of(X, reading.known.corrected)
    assert slider is not None
    assert slider.low <= min(values)
    assert slider.high >= max(values)


def test_a_quantity_that_is_maximised_is_bounded_from_below() -> None:
    more = Quantity("accuracy", maximise=True)
    trials = [made_trial(i, {"accuracy": Value(i / 10), "decode_ms": Value(1.0 + i)}) for i in range(5)]
    assert keeping(Scored.of(trials), {"accuracy": 0.25}, [more]).tolist() == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_the_knee_is_where_the_front_bends_most() -> None:
    def plane(*corners: tuple[float, float]) -> FrontFacts:
        points = tuple(
            Point(digest=str(i), number=i, one_line="", x=Value(x), y=Value(y))
            for i, (x, y) in enumerate(corners)
        )
        return FrontFacts(x=X, y=Y, front=points)

    assert knee_of(plane((0, 10), (1, 2), (2, 1.9), (9, 0))) == 1
    assert knee_of(plane((0, 10), (9, 0))) is None
    assert knee_of(plane((0, 10), (5, 9), (10, 0))) is None  # it bulges the other way


def test_a_picked_network_is_marked_wherever_it_lies(reading: Reading) -> None:
    beaten = int(explore(reading, View(x=X, y=Y)).plane.dominated.numbers[0])
    facts = explore(reading, View(x=X, y=Y, picked=beaten))
    assert facts.picked is not None
    assert facts.picked.number == beaten
    assert [t.name for t in explorer_figure(facts).data].count("picked") == 1


def test_colour_and_size_show_the_rest_of_the_front(reading: Reading) -> None:
    weights, params = named(reading, "weight_bytes"), named(reading, "params")
    figure = explorer_figure(explore(reading, View(x=X, y=Y, colour=weights, size=params)))
    front = next(trace for trace in figure.data if trace.name == "front")
    assert len(set(front.marker.color)) > 1
    assert min(front.marker.size) >= 7
    assert front.marker.colorbar.title.text == "weights (kB)"


def test_a_third_axis_draws_the_front_in_space(reading: Reading) -> None:
    facts = explore(reading, View(x=X, y=Y, z=named(reading, "weight_bytes")))
    assert {point.number for point in facts.space} >= {point.number for point in facts.plane.front} - {
        point.number for point in facts.plane.outdone
    }
    figure = explorer_figure(facts)
    assert {trace.type for trace in figure.data} == {"scatter3d"}
    assert figure.layout.scene.zaxis.title.text == "weights (kB)"


def test_other_studies_are_laid_over_with_their_names(made_store: Path, reading: Reading) -> None:
    with Store(made_store, read_only=True) as store:
        other = LiveStore(store).study("two")
        facts = explore(reading, View(x=X, y=Y), overlays=[other])
        assert "two" in [trace.name for trace in explorer_figure(facts).data]


def test_baselines_from_scratch_are_not_held_against_shared_weights(reading: Reading) -> None:
    found = baseline_facts(reading.study)
    weights = named(reading, "weight_bytes")
    assert explore(reading, View(x=X, y=Y), baselines=found).baselines == ()
    assert explore(reading, View(x=X, y=weights), baselines=found).baselines


def test_very_many_points_are_their_density_and_the_front_stays_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dice = np.random.default_rng(3)
    trials = [
        made_trial(i, {"decode_ms": Value(float(x)), "bits_per_byte": Value(float(y))})
        for i, (x, y) in enumerate(dice.uniform(1, 9, (400, 2)))
    ]
    exact = front_facts(trials, X, Y, describe=lambda trial: "")
    monkeypatch.setattr(front_module, "DENSE", 100)
    dense = front_facts(trials, X, Y, describe=lambda trial: "")
    assert dense.front == exact.front
    assert dense.dominated.numbers == ()
    assert isinstance(dense.density, Density)
    assert dense.density.counts.sum() == dense.density.points == len(exact.dominated.numbers)
    figure = explorer_figure(explored(dense))
    assert "heatmap" in {trace.type for trace in figure.data}


def explored(plane: FrontFacts) -> ExploreFacts:
    return ExploreFacts(view=View(x=X, y=Y), plane=plane, inside=400, known=400, best_of=Y)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=60), st.sampled_from([None, True, False]))
@settings(max_examples=40)
def test_a_density_counts_every_point_once(values: list[float], logarithmic: bool | None) -> None:
    points = np.array(values)
    found = density_of(points, points[::-1].copy(), (logarithmic, logarithmic))
    assert found.counts.sum() == len(values)


@given(st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 3), min_size=2, max_size=80))
@settings(max_examples=60)
def test_growth_is_the_trace_of_the_hypervolume(points: list[tuple[float, ...]]) -> None:
    trials = [
        made_trial(i, {n: Value(v) for n, v in zip("abc", point, strict=True)})
        for i, point in enumerate(points)
    ]
    objectives = [Quantity(name) for name in "abc"]
    found = growth(Scored.of(trials), objectives)
    assert found is not None
    trace = hypervolume_trace(points, reference_point(points))
    final = trace[-1] or 1.0
    for number, share in zip(found.numbers, found.shares, strict=True):
        assert share == pytest.approx(trace[number] / final, abs=1e-12)
    assert found.numbers[-1] == len(points) - 1
    assert improvements(np.array(points))[0] == 0


def test_growths_of_several_studies_are_shares_of_one_volume(reading: Reading) -> None:
    half = reading.scored.where(np.arange(len(reading.scored)) < 20)
    found = growths({"whole": reading.scored, "half": half}, reading.objectives)
    assert found["whole"].shares[-1] == pytest.approx(1.0)
    assert 0 < found["half"].shares[-1] <= 1.0
    assert growths({"none": reading.scored.where(np.zeros(len(reading.scored), dtype=bool))}, [X]) == {}


def test_numbers_that_are_missing_are_not_compared() -> None:
    trials = [
        made_trial(0, {"decode_ms": Value(1.0), "bits_per_byte": Value(2.0)}),
        made_trial(1, {"decode_ms": Value(0.5)}),
    ]
    scored = Scored.of(trials)
    assert math.isnan(scored.values("bits_per_byte")[1])
    facts = front_facts(scored, X, Y, describe=lambda trial: "")
    assert [point.number for point in facts.front] == [0]
    assert replace(facts, front=()).members == ()


def test_a_study_is_priced_by_another_table(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in which everything takes twice as long as it was predicted to."""

    class Twice:
        scenario = reading.study.plan.scenarios[0]
        fingerprint: ClassVar[dict[str, str]] = {"cpu_model": "a slow one", "cores": "2", "torch": "2"}

        def predict(self, spec: object) -> dict[str, tuple[float, float]]:
            return {name: (2 * values[spec][name], 0.1) for name in ("prefill_ms", "decode_ms")}

    trials = reading.whole(reading.scored.numbers.tolist()).values()
    values = {reading.study.spec(t): {n: v.value for n, v in t.values.items()} for t in trials}
    monkeypatch.setattr(rescoring, "table_named", lambda *_: Twice())
    priced = rescoring.rescored(reading, "own:")
    assert priced is not None
    assert (len(priced.scored), priced.left_out, priced.unknown) == (len(reading.scored), 0, 0)
    assert "a slow one" in priced.title
    facts = explore(reading, View(x=X, y=Y), priced=priced)
    for point in facts.plane.front:
        trial = reading.whole([point.number])[point.number]
        assert point.x.value == 2 * trial.values["decode_ms"].value
        assert point.x.is_predicted
    monkeypatch.setattr(rescoring, "MOST", 10)
    few = rescoring.rescored(reading, "own:")
    assert few is not None
    assert few.left_out == len(reading.scored) - len(few.scored) > 0
    assert {t.number for t in reading.members} <= set(few.scored.numbers.tolist())
    assert rescoring.tables_for(reading) == {}
