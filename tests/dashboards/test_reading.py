"""A study that is followed, change by change, comes to the same front as one that is read afresh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from dashboards.app.live_store import LiveStore
from dashboards.facts import reading as module
from dashboards.facts.progress import SILENT_SECONDS, progress_facts, state_of
from dashboards.facts.reading import Reading
from nas.pareto import nondominated
from nas.store import Measurement, Store
from nas.study.facts import OUTCOME, add_fact
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from tests.dashboards.made import make_study


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "studies.db") as opened:
        make_study(opened, "s", trials=10, complete=False)
        yield opened


def variant(store: Store, number: int, dice: Random) -> Trial:
    """A trial of some architecture of the study, with values drawn at random."""
    known = store.trials(store.study("s"))[number % 10]
    values = {n: replace(v, value=v.value * dice.uniform(0.5, 1.5)) for n, v in known.values.items()}
    return replace(known, number=number, values=values, reused=None, state=TrialState.COMPLETE)


def front_numbers(live: Reading) -> set[int]:
    return {trial.number for trial in live.members}


@pytest.mark.parametrize("seed", range(3))
def test_following_equals_reading_afresh(store: Store, seed: int) -> None:
    dice, record = Random(seed), store.study("s")
    live = Reading(Study(store, record))
    for batch in range(6):
        numbers = range(100 + 5 * batch, 105 + 5 * batch)
        store.save(record, [variant(store, number, dice) for number in numbers])
        live.refresh()
        afresh = Reading(Study(store, record))
        afresh.refresh()
        assert front_numbers(live) == front_numbers(afresh)
        assert live.distinct == afresh.distinct
        assert live.counts() == afresh.counts()
        assert live.scored.numbers.tolist() == afresh.scored.numbers.tolist()


def test_members_are_nondominated_and_sorted(store: Store) -> None:
    live = Reading(Study(store, store.study("s")))
    live.refresh()
    points = live.study.points(live.members)
    assert all(nondominated(points))
    assert points == sorted(points)


def test_an_unread_study_says_so(store: Store) -> None:
    summary = progress_facts(Reading(Study(store, store.study("s"))))
    assert (summary.state, summary.front, summary.best, summary.planned) == ("being read", None, {}, 10)


def test_a_trial_that_changes_is_counted_once(store: Store) -> None:
    record = store.study("s")
    trial = variant(store, 200, Random(0))
    live = Reading(Study(store, record))
    for state in (TrialState.RUNNING, TrialState.FAILED, TrialState.COMPLETE):
        store.save(record, [replace(trial, state=state)])
        live.refresh()
        assert sum(live.counts().values()) == 11
    assert live.trial(200) is not None


@pytest.mark.parametrize(
    ("silent", "state"), [(SILENT_SECONDS / 2, "running"), (2 * SILENT_SECONDS, "interrupted")]
)
def test_a_running_study_is_interrupted_after_a_silence(store: Store, silent: float, state: str) -> None:
    record = store.study("s")
    running = replace(
        variant(store, 300, Random(0)), state=TrialState.RUNNING, values={}, finished=None, started=2e9
    )
    store.save(record, [running])
    live = Reading(Study(store, record))
    live.refresh()
    assert state_of(live, 2e9 + silent)[0] == state


def test_a_study_with_fewer_trials_than_planned_is_stopped(store: Store) -> None:
    make_study(store, "none", trials=0, complete=False)
    none = LiveStore(store).study("none")
    assert state_of(none)[0] == "not started"
    live = LiveStore(store).study("s")
    live.study.plan = replace(live.study.plan, trials=99)
    assert state_of(live)[0] == "stopped"


def test_finalists_are_known_by_their_rungs(store: Store) -> None:
    record = store.study("s")
    trial = replace(
        variant(store, 0, Random(0)),
        stage="final",
        fidelity=Fidelity(evaluator="scratch", steps=100),
        values={"bits_per_byte": Value(2.0, 0.1, "scratch")},
    )
    store.save(record, [trial, replace(trial, number=1, state=TrialState.FAILED, values={}, reason="lost")])
    live = Reading(Study(store, record))
    live.refresh()
    assert {steps: value.value for steps, value in live.finalists[trial.digest].items()} == {100: 2.0}
    assert sum(live.counts().values()) == 10  # finalists are no trials of the search


def test_pieces_of_any_size_come_to_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dice, record = Random(9), store.study("s")
    store.save(record, [variant(store, number, dice) for number in range(400, 440)])
    whole = Reading(Study(store, record))
    whole.refresh()
    monkeypatch.setattr(module, "AT_ONCE", 3)
    pieces = Reading(Study(store, record))
    pieces.refresh()
    assert front_numbers(pieces) == front_numbers(whole)
    assert pieces.revision == whole.revision


def test_an_architecture_counts_once_with_its_last_trial(store: Store) -> None:
    record = store.study("s")
    known = store.trials(record)[0]
    live = Reading(Study(store, record))
    live.refresh()
    before = live.distinct
    worse = {name: replace(value, value=value.value * 9) for name, value in known.values.items()}
    store.save(record, [replace(known, number=500, values=worse)])
    live.refresh()
    assert live.distinct == before
    assert known.number not in live.scored.numbers
    assert {t.number for t in live.members} == {t.number for t in live.study.predicted_front()}


def test_a_study_that_crashed_before_its_first_trial_has_failed(store: Store) -> None:
    make_study(store, "crashed", trials=0, complete=False)
    study = Study(store, store.study("crashed"))
    add_fact(study, OUTCOME, {})
    live = Reading(Study(store, store.study("crashed")))
    live.refresh()
    assert state_of(live) == ("stopped", "it ended before its first trial")
    add_fact(study, OUTCOME, {"error": "MemoryError: no room"})
    assert state_of(live) == ("failed", "MemoryError: no room")
    shown = progress_facts(live)
    assert (shown.state, shown.error) == ("failed", "MemoryError: no room")


def test_a_running_study_tells_its_speed_and_what_is_left(store: Store) -> None:
    record = store.study("s")
    running = replace(variant(store, 600, Random(0)), state=TrialState.RUNNING, values={}, finished=None)
    store.save(record, [replace(running, started=2e9, worker="worker 3")])
    live = Reading(Study(store, record))
    live.study.plan = replace(live.study.plan, trials=20)
    live.refresh()
    told = progress_facts(live, 2e9)
    assert told.rate == pytest.approx(1 / 4.1, rel=1e-6)  # trials of the study end every 4.1 s
    assert told.seconds_left == pytest.approx(10 * 4.1, rel=1e-6)
    assert [(each.worker, each.number) for each in told.working] == [("worker 3", 600)]


def test_whole_trials_are_read_when_they_are_asked_for(store: Store) -> None:
    live = LiveStore(store).study("s")
    number = int(live.scored.numbers[-1])
    trial = live.trial(number)
    assert trial is not None
    assert trial.values["bits_per_byte"].samples
    assert live.trial(10**6) is None
    assert live.trial(-(2**70)) is None
    assert live.numbered(trial.digest[:8]) == number
    assert live.numbered("") is None


def test_what_is_made_of_a_study_is_made_anew_only_after_news(store: Store) -> None:
    record = store.study("s")
    live, made = Reading(Study(store, record)), list[int]()
    live.refresh()

    def make() -> int:
        made.append(live.distinct)
        return made[-1]

    assert [live.kept("some", make), live.kept("some", make)] == [made[0], made[0]]
    live.refresh()
    assert live.kept("some", make) == made[0]
    assert len(made) == 1
    store.save(record, [variant(store, 500, Random(0))])
    live.refresh()
    live.kept("some", make)
    assert len(made) == 2
    store.add_measurements(
        record, [Measurement("0" * 12, "decode_ms_measured", {}, Value(1.0, None, "measured"), 1.0)]
    )
    live.refresh()
    live.kept("some", make)
    assert len(made) == 3


def test_measurements_are_known_after_the_next_refresh(store: Store) -> None:
    record = store.study("s")
    live = Reading(Study(store, record))
    live.refresh()
    assert not live.measured
    digest = str(live.scored.digests[0])
    measured = Value(7.5, None, "measured")
    store.add_measurements(record, [Measurement(digest, "decode_ms_measured", {}, measured, 1.0)])
    live.refresh()
    known = live.known
    assert live.measured[digest]["decode_ms"].value == 7.5
    assert known.numbers == {digest: int(live.scored.numbers[0])}
    assert known.corrected.values("decode_ms")[0] == 7.5
    assert known.scored.values("decode_ms")[0] != 7.5


def test_some_networks_have_the_numbers_and_names_of_just_these(store: Store) -> None:
    live = Reading(Study(store, store.study("s")))
    live.refresh()
    every = live.scored
    some = every.where(np.arange(len(every)) % 2 == 0)
    last = some.where(np.arange(len(some)) == len(some) - 1)
    assert list(some.columns) == list(every.columns)
    assert some.digests.tolist() == every.digests[::2].tolist()
    assert last.digests.tolist() == [every.digests[::2][-1]]
    for name in every.columns:
        np.testing.assert_array_equal(some.values(name), every.values(name)[::2])
        assert last.values(name)[0] == every.values(name)[::2][-1]
    assert every.where(np.ones(len(every), dtype=bool)) is every
