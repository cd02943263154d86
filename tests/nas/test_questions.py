"""Questions one asks of a study: what was measured comes first, and each number says how it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from nas.store import Measurement, Store
from nas.study.front import html_table
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.serialization import to_json
from search_spaces.scenario import Scenario
from tests.nas.toys import toy_space

OBJECTIVES = ("bits_per_byte", "decode_ms")
SPACE = toy_space()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


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
    assert first.split() == ["trial", "digest", "bits_per_byte", "decode_ms", "params"]
    assert "~1.4 ± 0.05" in rows[0]
    assert "1.1 ± 0.01" in rows[1]
    assert "~" not in rows[1]
    assert legend == "~ is predicted, not measured"
    assert repr(front) == "<Front of 's', 2 members: trials 1, 0>"
    assert "<td>~1.4 ± 0.05</td>" in front._repr_html_()
    assert front[:1] == (front[0],)
    measure(study, {1: 1.5})
    assert study.front().legend == ""


def test_words_of_a_study_cannot_be_markup_in_a_notebook() -> None:
    assert "<td>&lt;script&gt;</td>" in html_table(["a"], [["<script>"]], caption="<b>")


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
