"""A live study follows its store, change by change, to the same front as reading afresh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dashboards.app.live import SILENT_SECONDS, LiveStudy
from dashboards.app.live_store import LiveStore
from nas.pareto import nondominated
from nas.store import Store
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


def front_numbers(live: LiveStudy) -> set[int]:
    return {trial.number for trial in live.members}


@pytest.mark.parametrize("seed", range(3))
def test_following_equals_reading_afresh(store: Store, seed: int) -> None:
    dice, record = Random(seed), store.study("s")
    live = LiveStudy(store, record)
    for batch in range(6):
        numbers = range(100 + 5 * batch, 105 + 5 * batch)
        store.save(record, [variant(store, number, dice) for number in numbers])
        live.refresh()
        afresh = LiveStudy(store, record)
        afresh.refresh()
        assert front_numbers(live) == front_numbers(afresh)
        assert live.scored == afresh.scored
        assert live.counts() == afresh.counts()


def test_members_are_nondominated_and_sorted(store: Store) -> None:
    live = LiveStudy(store, store.study("s"))
    live.refresh()
    points = live.study.points(live.members)
    assert all(nondominated(points))
    assert points == sorted(points)


def test_an_unread_study_says_so(store: Store) -> None:
    summary = LiveStudy(store, store.study("s")).summary()
    assert (summary.state, summary.front, summary.best, summary.planned) == ("being read", None, {}, 10)


def test_a_trial_that_changes_is_counted_once(store: Store) -> None:
    record = store.study("s")
    trial = variant(store, 200, Random(0))
    live = LiveStudy(store, record)
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
    live = LiveStudy(store, record)
    live.refresh()
    assert live.state(now=2e9 + silent) == state


def test_a_study_with_fewer_trials_than_planned_is_stopped(store: Store) -> None:
    make_study(store, "none", trials=0, complete=False)
    none = LiveStore(store).study("none")
    assert none.state() == "not started"
    live = LiveStore(store).study("s")
    live.study.plan = replace(live.study.plan, trials=99)
    assert live.state() == "stopped"


def test_finalists_are_known_by_their_rungs(store: Store) -> None:
    record = store.study("s")
    trial = replace(
        variant(store, 0, Random(0)),
        stage="final",
        fidelity=Fidelity(evaluator="scratch", steps=100),
        values={"bits_per_byte": Value(2.0, 0.1, "scratch")},
    )
    store.save(record, [trial, replace(trial, number=1, state=TrialState.FAILED, values={}, reason="lost")])
    live = LiveStudy(store, record)
    live.refresh()
    assert {steps: value.value for steps, value in live.finalists[trial.digest].items()} == {100: 2.0}
    assert sum(live.counts().values()) == 10  # finalists are no trials of the search
