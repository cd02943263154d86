"""Questions one asks of a study: what was measured comes first, and each number says how it is known."""

from __future__ import annotations

import fcntl
import io
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import nas
from foundation.errors import SettingError, StoreError, UnknownName
from nas import cli
from nas.progress import Terminal
from nas.store import Measurement, Store
from nas.store.folders import LOCK, in_use, working_in
from nas.study.best import best_of
from nas.study.difference import NumberPair, difference_of, side_by_side
from nas.study.facts import OUTCOME, add_fact
from nas.study.front import html_table
from nas.study.lineage import lineage_of, parents_of
from nas.study.plan import Plan
from nas.study.state import state_of
from nas.study.study import Study
from nas.study.trial import PARENTS, Fidelity, Trial, TrialState, Value
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.serialization import to_json
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario
from tests.nas.toys import rich, small, toy_space

OBJECTIVES = ("bits_per_byte", "decode_ms")
SPACE = toy_space()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


def build_spec(depth: int) -> Decoder:
    layer = Layer(sequence_mixer=Attention(num_heads=2, head_dim=16), channel_mixer=SwiGLU(expansion=2))
    return Decoder(d_model=32, layers=(layer,) * depth)


def genotypes(count: int) -> list:
    return [genotype for genotype, _ in zip(SPACE.enumerate(), range(count), strict=False)]


def study_of(store: Store, values: list[tuple[float, float]], name: str = "s", **plan: object) -> Study:
    """A study whose trials have these bits per byte and predicted milliseconds."""
    settings = Plan(**{"objectives": OBJECTIVES, **plan})  # type: ignore[arg-type]
    record = store.create_study(
        name,
        space_digest=SPACE.digest,
        space_json=to_json(SPACE.root),
        config={"plan": settings.to_plain(), "space": {"name": "toy"}},
    )
    decode = next(name for name in settings.objectives if name != "bits_per_byte")
    trials = [
        Trial(
            number=number,
            genotype=genotype,
            fidelity=Fidelity(evaluator="supernet", steps=250),
            seed=0,
            state=TrialState.COMPLETE,
            values={
                "bits_per_byte": Value(bits, 0.01, "supernet", tuple(bits + d for d in (-0.1, 0.0, 0.1))),
                decode: Value(ms, 0.05, "predicted"),
                "params": Value(1000.0 + number),
            },
            started=100.0,
            finished=102.5,
        )
        for number, (genotype, (bits, ms)) in enumerate(zip(genotypes(len(values)), values, strict=True))
    ]
    store.save(record, trials)
    return Study(store, record, SPACE)


def measure(study: Study, found: Mapping[int, float], name: str = "decode_ms") -> None:
    rows = [
        Measurement(study.trial(number).digest, f"{name}_measured", None, Value(ms, 0.01, "measured"), 1.0)
        for number, ms in found.items()
    ]
    study.store.add_measurements(study.record, rows)


def numbers_of(trials: object) -> list[int]:
    return [trial.number for trial in trials]  # type: ignore[attr-defined]


def test_numbers_are_measured_where_they_were_measured(store: Store) -> None:
    study = study_of(store, [(2.0, 1.41), (1.9, 1.6)])
    measure(study, {0: 1.9})
    measure(study, {0: 1.955})  # the newest counts
    known = study.numbers(study.trial(0))
    assert (known["decode_ms"].value, known["decode_ms"].source) == (1.955, "measured")
    assert known["bits_per_byte"].source == "supernet"
    assert study.numbers(study.trial(1))["decode_ms"].source == "predicted"
    assert [str(study.numbers(study.trial(n))["decode_ms"]) for n in (0, 1)] == [
        "1.955 ± 0.010",
        "~1.600 ± 0.050",
    ]


@pytest.mark.parametrize("source", ["predicted", "estimate", "traced", "predicted by a rough table"])
def test_what_nobody_measured_is_marked(source: str) -> None:
    assert str(Value(1.41, None, source)) == "~1.410"
    for certain in ("counted", "measured", "supernet", "scratch"):
        assert str(Value(1.41, None, certain)) == "1.410"


def test_a_measured_front_drops_what_is_dominated_as_measured(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4), (2.5, 3.0)])
    assert numbers_of(study.predicted_front()) == numbers_of(study.front()) == [2, 1, 0]
    measure(study, {0: 1.0, 1: 1.7, 2: 1.5})
    assert numbers_of(study.predicted_front()) == [2, 1, 0]  # as before: what is measured next begins with it
    front = study.front()
    assert numbers_of(front) == [2, 0]
    assert front.dropped == 1
    assert front.numbers[front[0].digest]["decode_ms"].value == 1.5


def test_what_was_measured_is_not_compared_with_what_was_predicted(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4)])
    measure(study, {1: 1.9})  # 2 is predicted to dominate that; it was not measured
    assert numbers_of(study.front()) == [2, 1, 0]


def test_the_front_is_in_the_order_of_measured_values(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.8, 1.4)])
    turned = study_of(store, [(2.0, 1.0), (1.8, 1.4)], name="t", objectives=OBJECTIVES[::-1])
    assert numbers_of(turned.front()) == [0, 1]
    measure(turned, {0: 1.5, 1: 1.45})
    assert numbers_of(turned.front()) == [1]  # and 0 is dominated
    measure(study, {0: 1.3, 1: 1.5})
    assert numbers_of(study.front()) == [1, 0]


def test_measured_values_belong_to_their_scenario(store: Store) -> None:
    chat, bulk = Scenario(name="chat"), Scenario(name="bulk", prompt=16)
    study = study_of(
        store, [(2.0, 1.0)], scenarios=(chat, bulk), objectives=("bits_per_byte", "decode_ms@chat")
    )
    measure(study, {0: 1.5}, "decode_ms@bulk")
    known = study.numbers(study.trial(0))
    assert known["decode_ms@chat"].source == "predicted"
    assert known["decode_ms@bulk"].source == "measured"


def test_a_front_prints_as_a_table_with_marks_and_their_meaning(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.8, 1.4)])
    measure(study, {0: 1.1})
    front = study.front()
    first, *rows, legend = str(front).splitlines()
    assert first.split() == ["trial", "digest", "bits_per_byte", "decode_ms", "params", "architecture"]
    assert "~1.4 ± 0.05" in rows[0]
    assert "1.1 ± 0.01" in rows[1]
    assert "~" not in rows[1]
    assert legend == "~ is predicted, not measured"
    assert repr(front) == "<Front of 's', 2 members: trials 1, 0>"
    assert "<td>~1.4 ± 0.05</td>" in front._repr_html_()
    assert front[:1] == (front[0],)
    measure(study, {1: 1.5})
    assert study.front().legend == ""


def test_numbers_besides_the_objectives_make_room_for_the_layers(store: Store) -> None:
    front = study_of(store, [(2.0, 1.0), (1.8, 1.4)]).front()
    assert front.fitting(200) == front
    assert front.fitting(1).head == ["trial", "digest", "bits_per_byte", "decode_ms", "architecture"]
    assert front.fitting(1).columns == list(OBJECTIVES)


def test_an_older_record_of_own_classes_is_shown_by_its_genes(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0)])
    text = '{"type": "Gone", "size": {"one_of": [1, 2]}}'  # its options were named by defaults not on record
    older, trial = Study(store, replace(study.record, space_json=text)), study.trial(0)
    assert older.layers(trial) == ", ".join(f"{p}={v}" for p, v in sorted(trial.genotype.genes.items()))
    damaged = Study(store, replace(study.record, space_json="{"))
    assert "cannot be read" in damaged.layers(trial)


def test_words_of_a_study_cannot_be_markup_in_a_notebook() -> None:
    assert "<td>&lt;script&gt;</td>" in html_table(["a"], [["<script>"]], caption="<b>")


@pytest.mark.parametrize("ask", ["trials", "readings", "complete", "frame"])
def test_an_unknown_stage_is_answered_with_the_nearest(ask: str, store: Store) -> None:
    study = study_of(store, [(2.0, 1.0)])
    with pytest.raises(UnknownName, match="unknown stage 'finl' of trials; did you mean 'final'"):
        getattr(study, ask)("finl")
    known = "known: baseline, final, modified, repeat, scaled, search, validate"
    with pytest.raises(UnknownName, match=known):
        getattr(study, ask)("no")


def test_reprs_are_short(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0)])
    trial = study.trial(0)
    assert repr(study).startswith("<Study 's' in ")
    assert repr(trial) == (
        f"<Trial 0 {trial.digest} complete: bits_per_byte 2.000 ± 0.010, decode_ms ~1.000 ± 0.050,"
        " params 1,000>"
    )
    assert repr(trial.values["decode_ms"]) == "<Value ~1.000 ± 0.050, predicted>"


def test_a_frame_has_predicted_and_measured_columns_with_units(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.1)])
    measure(study, {0: 1.3, 2: 1.7})
    frame = study.frame()
    assert list(frame["on_front"]) == [True, False, True]
    assert list(frame["decode_ms"]) == [1.0, 1.2, 1.1]
    assert list(frame["decode_ms_measured"])[::2] == [1.3, 1.7]
    assert frame["decode_ms_measured"].isna()[1]
    assert list(frame["seconds"]) == [2.5] * 3
    assert {"bits_per_byte_error", "decode_ms_error", "decode_ms_measured_error", "reason"} < set(frame)
    assert frame.attrs["units"] == {
        "seconds": "s",
        "bits_per_byte": "bits per byte",
        "bits_per_byte_error": "bits per byte",
        "decode_ms": "ms",
        "decode_ms_error": "ms",
        "decode_ms_measured": "ms",
        "decode_ms_measured_error": "ms",
    }
    front = study.frame(front=True)
    assert list(front["number"]) == [2, 0]
    assert all(front["on_front"])


def test_a_study_without_trials_has_an_empty_front_and_frame(store: Store) -> None:
    study = study_of(store, [])
    assert not study.front()
    assert study.frame(front=True).empty
    assert "trial" in str(study.front())


def test_the_best_network_keeps_the_bounds(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4)])
    assert best_of(study, "bits_per_byte").number == 2
    assert best_of(study, "bits_per_byte", ["decode_ms<1.3"]).number == 1
    assert best_of(study, "bits_per_byte", ["decode_ms<=1.2", "params<1001"]).number == 0
    assert best_of(study, "decode_ms", ["bits_per_byte < 1.95"]).number == 1  # also known after training only
    assert best_of(study, "params", ["decode_ms>1.1"]).number == 1


def test_what_was_measured_is_shown_under_the_plain_name_above_the_prediction(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(store, [(2.0, 1.41), (1.9, 1.6)])
    measure(study, {0: 1.955})
    place = ("--store", str(tmp_path / "s.db"))
    assert cli.run(["show", "s", "0", *place]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    first = next(i for i, row in enumerate(rows) if row and row[0] == "decode_ms")
    assert rows[first][1:4:2] == ["1.955", "measured"]
    assert rows[first + 1][:3] == ["decode_ms,", "predicted", "~1.41"]
    assert cli.run(["show", "s", "1", *place]) == 0
    text = capsys.readouterr().out
    assert "decode_ms, predicted" not in text
    assert "~1.6" in text


def test_best_says_by_which_score(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    ask = ["best", "s", "-o", "bits_per_byte", "--store", str(tmp_path / "s.db")]
    assert cli.run(ask) == 0
    assert "bits_per_byte: the score of the search (supernet, 250 steps)\n" in capsys.readouterr().out
    as_finalists(study, {0: 1.5}, steps=300)
    assert cli.run(ask) == 0
    told = capsys.readouterr().out
    assert "bits_per_byte: as trained alone, 300 steps; finalists trained so long: 1" in told
    assert "1.5 ± 0.01" in told
    assert cli.run([*ask, "-c", "decode_ms>1.1"]) == 0
    assert "(supernet, 250 steps), since no finalist keeps the bounds" in capsys.readouterr().out


def as_finalists(study: Study, scores: Mapping[int, float], steps: int) -> None:
    """Let these networks have trainings of their own."""
    store, record = study.store, study.record
    taken = len(study.trials("final"))
    finals = [
        replace(
            study.trial(number),
            number=taken + i,
            stage="final",
            fidelity=Fidelity(evaluator="scratch", steps=steps),
            values={**study.trial(number).values, "bits_per_byte": Value(score, 0.01, "scratch")},
        )
        for i, (number, score) in enumerate(scores.items())
    ]
    store.save(record, finals)


def test_the_best_in_a_score_is_a_finalist_where_one_keeps_the_bounds(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4), (1.7, 1.6)])
    as_finalists(study, {1: 1.52, 2: 1.45, 3: 1.48}, steps=100)
    as_finalists(study, {1: 1.31, 3: 1.33}, steps=300)  # the longest trainings count
    found = best_of(study, "bits_per_byte")
    assert (found.number, found.stage) == (1, "search")
    assert found.values["bits_per_byte"].value == 1.31
    assert found.fidelity == Fidelity(evaluator="scratch", steps=300)
    assert found.digest == study.winner().digest
    assert best_of(study, "bits_per_byte", ["decode_ms>1.3"]).number == 3
    without = best_of(study, "bits_per_byte", ["decode_ms<1.1"])  # no finalist
    assert (without.number, without.fidelity.evaluator) == (0, "supernet")
    assert best_of(study, "decode_ms").number == 0


def test_a_prediction_that_is_too_good_does_not_win_over_what_was_measured(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4), (1.85, 1.45)])
    measure(study, {0: 1.3, 1: 1.55, 2: 1.9})
    assert best_of(study, "bits_per_byte", ["decode_ms<1.5"]).number == 0  # 3 is predicted to be better
    assert best_of(study, "bits_per_byte").number == 2
    with pytest.raises(
        SettingError, match=r"none of 3 measured networks .* nearest is trial 0 .* 30\.0 % too mu"
    ):
        best_of(study, "bits_per_byte", ["decode_ms<1.0"])
    with pytest.raises(SettingError, match="1 network not measured would, as predicted"):
        best_of(study, "params", ["decode_ms<1.5", "params>=1003"])


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        (["decode_ms<0.8"], r"nearest is trial 0 .*decode_ms ~1 ± 0.05, 25.0 % too much"),
        (["params>2000"], r"nearest is trial 2 .*params 1 k, 49.9 % too little"),
        (["decode_ms<0.0125"], r"nearest is trial 0 .*decode_ms ~1 ± 0.05, 80.0 times the bound$"),
        (["decode_ms<0"], r"nearest is trial 0 .*decode_ms ~1 ± 0.05, 1 too much$"),
        (["decode_ms>-0", "decode_ms<-0.01"], r".*decode_ms ~1 ± 0.05, 1.01 too much$"),
        (["decode_ms<1"], r"nearest is trial 0 .*decode_ms ~1 ± 0.05, less than 0.1 % too much$"),
        (
            ["decode_ms<1.1", "bits_per_byte<1.9"],
            r"keeps decode_ms<1.1 and bits_per_byte<1.9: the nearest is",
        ),
        (["decode_ms<1e999"], "finite"),
        (["decode_ms"], "write it like decode_ms<5"),
        (["decode_m<5"], "did you mean 'decode_ms'"),
        (["speed<5"], "no network of study s has a number 'speed'; known: bits_per_byte, decode_ms, params"),
    ],
)
def test_what_nothing_keeps_is_said_with_the_nearest(store: Store, bounds: list[str], says: str) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4)])
    with pytest.raises(SettingError, match=says):
        best_of(study, "bits_per_byte", bounds)


def test_a_bound_without_a_scenario_holds_in_each(store: Store) -> None:
    scenarios = (Scenario(name="chat"), Scenario(name="bulk", prompt=16))
    study = study_of(
        store,
        [(2.0, 1.0), (1.9, 1.2)],
        scenarios=scenarios,
        objectives=("bits_per_byte", "decode_ms@chat"),
    )
    measure(study, {0: 1.5, 1: 2.5}, "decode_ms@bulk")
    assert best_of(study, "bits_per_byte", ["decode_ms<2"]).number == 0
    assert best_of(study, "bits_per_byte", ["decode_ms@chat<2"]).number == 1
    with pytest.raises(SettingError, match="ask for one of decode_ms@bulk, decode_ms@chat"):
        best_of(study, "decode_ms")


def test_two_networks_side_by_side(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.9, 1.2)])
    measure(study, {0: 1.3, 1: 1.31})
    first, second, third = (study.trial(number) for number in range(3))
    found = difference_of(study, first, second)
    pairs = {pair.name: pair for pair in found.numbers}
    assert list(pairs) == ["bits_per_byte, supernet 250 steps", "decode_ms", "decode_ms_measured", "params"]
    assert pairs["decode_ms"].verdict == "significant (2.8 s.e.)"
    assert pairs["decode_ms_measured"].verdict == "within noise (0.7 s.e.)"
    assert pairs["decode_ms"].difference == pytest.approx(0.2)
    assert pairs["params"].verdict == "exact"
    # the windows of both differ by the same everywhere: the error of one of them says nothing
    assert pairs["bits_per_byte, supernet 250 steps"].verdict.startswith("significant")
    assert any(a != b for _, a, b in found.layers)
    assert "≠" in str(found)
    assert "<table>" in found._repr_html_()
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["trials"] == [0, 1]
    lacking = {pair.name: pair for pair in difference_of(study, first, third).numbers}["decode_ms_measured"]
    assert (lacking.second, lacking.difference, lacking.verdict) == (None, None, "")
    assert {pair.verdict for pair in difference_of(study, first, first).numbers} == {"the same"}


def test_differences_have_the_unit_of_their_numbers_and_a_legend(store: Store) -> None:
    known = [
        NumberPair("weight_bytes", Value(132_000), Value(114_000)),
        NumberPair("params", Value(1.1e6), Value(3.4e6)),
        NumberPair("decode_ms", Value(1.2, 0.1, "predicted"), Value(0.9, 0.1, "predicted")),
        NumberPair("depth", Value(2.0, source="function"), Value(1.0, source="function")),
    ]
    assert [pair.cells[3] for pair in known] == ["-18 kB", "+2.3 M", "-0.3", "-1"]
    assert known[3].verdict == known[0].verdict == "exact"
    found = difference_of(study_of(store, [(2.0, 1.0), (1.9, 1.2)]), *store_trials(store))
    assert "difference: trial 1 less trial 0; s.e.: standard errors" in str(found)
    assert "~ is predicted, not measured" in str(found)
    assert "less trial 0" in found._repr_html_()


def store_trials(store: Store) -> list[Trial]:
    return Study(store, store.study("s")).trials()[:2]


def test_layers_of_decoders_side_by_side() -> None:
    spec = build_spec(2)
    longer = build_spec(3)
    assert [place for place, *_ in side_by_side(spec, longer)] == ["width", "0", "1", "2"]
    assert side_by_side(spec, longer)[3][1] == ""
    assert repr(spec) == "<Decoder 32 wide: 2 \N{MULTIPLICATION SIGN} Attention + SwiGLU>"
    assert "<pre>" in spec._repr_html_()


def test_parents_are_recorded_with_what_changed(tmp_path: Path) -> None:
    study = nas.search(
        toy_space(),
        name="p",
        objectives=[small, rich],
        strategy="nsga2",
        settings={"population": 8},
        trials=60,
        finalists=0,
        store=tmp_path / "s.db",
    )
    trials = study.trials()
    assert all(study.parents(trial) == () for trial in trials[:8])
    children = [trial for trial in trials if trial.memo["generation"] > 0]
    assert {len(study.parents(child)) for child in children} <= {1, 2}
    for child in children:
        parents = study.parents(child)
        assert all(parent.trial.number < child.number for parent in parents)
        kept = [set(child.genotype.genes) - set(parent.changed) for parent in parents]
        assert set.union(*kept)  # each has something of a parent
    lineage = study.lineage(trials[-1])
    assert lineage[0].trial.number == trials[-1].number
    assert lineage[-1].parents == ()
    assert len({each.trial.number for each in lineage}) == len(lineage)


def test_random_draws_have_no_parents_and_old_studies_none_on_record(store: Store, tmp_path: Path) -> None:
    drawn = nas.search(
        toy_space(),
        name="r",
        objectives=[small],
        strategy="random",
        trials=3,
        finalists=0,
        store=tmp_path / "r.db",
    )
    assert drawn.parents(0) == ()
    assert [each.origin for each in drawn.lineage(0)] == ["drawn at random"]
    study = study_of(store, [(2.0, 1.0)])
    with pytest.raises(SettingError, match="nothing was recorded about the parents of trial 0"):
        parents_of(study, study.trial(0))
    trial = study.trial(0)
    for wrong in ("x", [7], [None], {"a": 1}, 3):
        store.save(study.record, [replace(trial, memo={PARENTS: wrong})])
        with pytest.raises(StoreError, match="the parents of trial 0 of study s cannot be read"):
            parents_of(study, study.trial(0))


def test_a_parent_that_is_its_own_descendant_ends_the_lineage(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    first, second = study.trials()
    store.save(study.record, [replace(first, memo={PARENTS: [1]}), replace(second, memo={PARENTS: [0]})])
    assert [each.trial.number for each in lineage_of(study, study.trial(0))] == [1, 0]


def test_what_the_package_offers_is_listed() -> None:
    assert {"open", "search", "load", "export", "Study", "Store"} <= set(dir(nas))
    assert all(getattr(nas, name) is not None for name in nas.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serach'; it has "):
        nas.serach  # noqa: B018


def test_a_study_is_opened_by_its_name_and_shown_in_notebooks(store: Store) -> None:
    study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    opened = nas.open("s", store=store.url)
    assert isinstance(opened, nas.Study)
    opened._space = SPACE
    assert opened.best("bits_per_byte").number == 1
    assert opened.compare(0, opened.trial(1)).first.number == 0
    assert "2 architectures scored" in opened._repr_html_()
    opened.store.close()


def test_the_report_is_written_from_python(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    opened = nas.open("s", store=store.url)
    opened._space = SPACE
    assert opened.report(tmp_path / "r.html").read_text().startswith("<!")
    monkeypatch.setattr("nas.study.open_study.report_writer", lambda: None)
    with pytest.raises(SettingError, match="no package that writes reports"):
        opened.report()
    opened.store.close()


def test_a_search_that_is_watched_ends_with_its_report(tmp_path: Path) -> None:
    text = io.StringIO()
    shown = Terminal(Console(file=text, width=200, highlight=False))
    settings = {"objectives": [small, rich], "trials": 4, "finalists": 0}
    study = nas.search(toy_space(), name="w", store=tmp_path / "s.db", progress=shown, **settings)  # type: ignore[arg-type]
    assert text.getvalue().splitlines()[-1] == f"report: {study.folder / 'report.html'}"
    assert (study.folder / "report.html").exists()
    silent = nas.search(toy_space(), name="q", store=tmp_path / "s.db", progress=False, **settings)  # type: ignore[arg-type]
    assert not (silent.folder / "report.html").exists()


def failing(*args: object) -> None:
    raise StoreError("the disk is full")


def interrupted(*args: object) -> None:
    raise KeyboardInterrupt


def state(study: Study) -> tuple[str, str]:
    return state_of(study, study.store.counts(study.record))


def test_the_state_of_a_study(store: Store, tmp_path: Path) -> None:
    assert state(study_of(store, [], name="new", trials=3)) == ("not started", "")
    assert state(study_of(store, [(2.0, 1.0)], name="part", trials=3)) == ("stopped", "")
    early = study_of(store, [], name="early", trials=3)
    add_fact(early, OUTCOME, {})  # killed while its supernet trained
    assert state(early) == ("stopped", "")
    old = study_of(store, [(2.0, 1.0)], name="old", trials=1)  # of before outcomes were on record
    assert state(old) == ("complete", "")
    with working_in(old.folder):
        assert state(old) == ("running", "")
    assert state(old) == ("complete", "")
    add_fact(old, OUTCOME, {})  # all trials, and killed among the finalists
    assert state(old) == ("stopped", "")


def test_the_outcome_of_a_run_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"objectives": [small, rich], "finalists": 0, "store": tmp_path / "s.db", "name": "o"}
    study = nas.search(toy_space(), trials=3, **settings)  # type: ignore[arg-type]
    assert state(study) == ("complete", "")
    with monkeypatch.context() as patch:
        patch.setattr("nas.steps.search.run", failing)
        with pytest.raises(StoreError, match="the disk is full"):
            nas.search(toy_space(), trials=6, **settings)  # type: ignore[arg-type]
    assert state(nas.open("o", store=tmp_path / "s.db")) == ("failed", "the disk is full")
    with monkeypatch.context() as patch:
        patch.setattr("nas.steps.search.run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nas.search(toy_space(), trials=6, **settings)  # type: ignore[arg-type]
    assert state(nas.open("o", store=tmp_path / "s.db")) == ("stopped", "")
    assert state(nas.search(toy_space(), trials=6, **settings)) == ("complete", "")  # type: ignore[arg-type]


def test_a_study_whose_candidates_all_failed_says_why(tmp_path: Path) -> None:
    def odd(spec: object) -> float:
        raise ValueError("odd")

    study = nas.search(
        toy_space(), name="o", objectives=[odd, small], finalists=0, trials=3, store=tmp_path / "s.db"
    )
    assert state(study) == ("failed", "all 3 candidates failed: 3 \N{MULTIPLICATION SIGN} ValueError: odd")


def test_asking_whether_a_study_is_in_use_disturbs_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    assert not in_use(folder)
    assert not folder.exists()
    with working_in(folder):
        assert in_use(folder)
        with working_in(folder):
            pass
    assert not in_use(folder)


def test_who_asks_for_a_moment_does_not_keep_a_worker_out(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with working_in(folder):
        pass
    descriptor = os.open(folder / LOCK, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    release = threading.Timer(0.02, os.close, [descriptor])
    release.start()
    with working_in(folder):
        release.join()


def test_an_old_store_is_brought_up_to_date_by_a_validation(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((Path(__file__).parents[1] / "store" / "databases" / "0001.sql").read_text())
        (name,) = database.execute("SELECT name FROM studies").fetchone()
    assert cli.run(["validate", name, "--store", str(path)]) == cli.REFUSED  # there is nothing to compare
    Store(path, read_only=True).close()
