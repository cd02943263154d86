"""The loop: what is written when, what is answered from the store, and what ends a search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.searching import create_study
from nas.store import Store
from nas.study import Study, open_study
from nas.trial import TrialState
from search_spaces.choices import one_of
from search_spaces.errors import (
    EvaluationFailed,
    IllegalArchitecture,
    SettingError,
    SpaceError,
    StoreError,
    UnknownName,
)
from search_spaces.space import Space
from tests.nas.toys import Toy, Wide, rich, small, toy_space

Function = Callable[[Any], float]


def run(folder: Path, *objectives: Function, space: Space | None = None, **settings: Any) -> Study:
    plan = {"trials": 40, "strategy": "random", "finalists": 0, **settings}
    return nas.search(
        space or toy_space(), name="s", objectives=objectives or [small], store=folder / "s.db", **plan
    )


def named(name: str, function: Function) -> Function:
    function.__name__ = name
    return function


def states(study: Study) -> Counter[TrialState]:
    return Counter(trial.state for trial in study.trials())


def test_a_trial_is_written_before_its_work_starts(tmp_path: Path) -> None:
    seen: list[Counter[TrialState]] = []

    def watching(spec: Toy) -> float:
        with Store(str(tmp_path / "s.db"), read_only=True) as store:
            seen.append(Counter(t.state for t in store.trials(store.study("s").id)))
        return small(spec)

    run(tmp_path, watching, trials=6)
    assert [counts[TrialState.RUNNING] for counts in seen] == [1] * len(seen)
    assert seen[0] == {TrialState.RUNNING: 1}


def test_a_repeated_architecture_is_answered_from_the_store(tmp_path: Path) -> None:
    calls: Counter[Toy] = Counter()

    def counting(spec: Toy) -> float:
        calls[spec] += 1
        return small(spec)

    space = Space(Toy((Wide(one_of(1, 2), one_of(0, 1)),)))
    study = run(tmp_path, counting, space=space, trials=30)
    trials = study.trials()
    assert len(trials) == 30
    assert set(calls.values()) == {1}
    assert len(calls) == 4
    assert sum(trial.reused is None for trial in trials) == 4
    for trial in trials:
        if trial.reused is not None:
            assert trials[trial.reused].digest == trial.digest
            assert trials[trial.reused].values == trial.values
    run(tmp_path, counting, space=space, trials=40)
    assert len(calls) == 4


def test_more_trials_continue_and_other_settings_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path, trials=10).trials()
    more = run(tmp_path, trials=25).trials()
    assert more[:10] == first
    assert [trial.number for trial in more] == list(range(25))
    with pytest.raises(SettingError, match="seed=0, not 1"):
        run(tmp_path, trials=25, seed=1)
    with pytest.raises(StoreError, match=f"{toy_space().digest}.*{Space(Wide(one_of(1, 2))).digest}"):
        run(tmp_path, space=Space(Wide(one_of(1, 2))))


def test_failures_are_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def fragile(spec: Toy) -> float:
        if len(spec.stack) == 2:
            raise EvaluationFailed("the loss is nan at step 7")
        if len(spec.stack) == 3 and spec.shared == 0:
            raise IllegalArchitecture("three and nothing")
        if len(spec.stack) == 3 and spec.shared == 1:
            raise MemoryError("too large")
        return small(spec)

    study = run(tmp_path, fragile)
    assert states(study)[TrialState.FAILED] > 5
    assert states(study)[TrialState.COMPLETE] > 5
    reasons = {trial.reason for trial in study.trials() if trial.state is TrialState.FAILED}
    assert {"the loss is nan at step 7", "three and nothing", "out of memory: too large"} <= reasons


def test_one_bug_is_recorded_and_five_in_a_row_stop_the_search(tmp_path: Path) -> None:
    def once(spec: Toy) -> float:
        if len(spec.stack) == 2 and spec.shared == 2:
            raise ZeroDivisionError("seldom")
        return small(spec)

    assert "ZeroDivisionError: seldom" in {t.reason for t in run(tmp_path / "a", once).trials()}
    with pytest.raises(EvaluationFailed, match=r"5 candidates in a row.*ZeroDivisionError: always"):
        run(tmp_path / "b", _always)
    assert states(open_study("s", tmp_path / "b" / "s.db"))[TrialState.FAILED] == 5


def _always(spec: Toy) -> float:
    raise ZeroDivisionError("always")


def test_an_interrupted_search_keeps_its_books(tmp_path: Path) -> None:
    calls: list[Toy] = []

    def tired(spec: Toy) -> float:
        calls.append(spec)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return small(spec)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tired)
    stopped = open_study("s", tmp_path / "s.db")
    assert states(stopped) == {TrialState.COMPLETE: len(stopped.trials()) - 1, TrialState.RUNNING: 1}
    finished = run(tmp_path, tired).trials()
    assert [t.number for t in finished] == list(range(40))
    fresh = run(tmp_path / "fresh", named("tired", lambda spec: small(spec))).trials()
    assert [(t.number, t.genotype, t.values) for t in finished] == [
        (t.number, t.genotype, t.values) for t in fresh
    ]


def test_illegal_answers_of_the_space_never_reach_the_evaluator(tmp_path: Path) -> None:
    space = Space(
        Toy((Wide(one_of(1, 2, 3, 4)),)), constraints=[lambda spec: spec.stack[0].size != 3], name="three"
    )
    study = run(tmp_path, small, rich, space=space)
    assert {study.spec(trial).stack[0].size for trial in study.trials()} == {1, 2, 4}


def test_an_unsatisfiable_space_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="none of 1000 candidates is allowed"):
        run(tmp_path, space=Space(Toy((Wide(one_of(1, 2)),)), constraints=[lambda spec: False]))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"strategy": "ranndom"}, "did you mean 'random'"),
        ({"evaluator": "scrach"}, "did you mean 'scratch'"),
        ({"trails": 3}, "did you mean 'trials'"),
    ],
)
def test_misspelt_settings_suggest_the_nearest(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UnknownName, match=text):
        run(tmp_path, **settings)
    assert not (tmp_path / "s.db").exists()


def test_fronts_are_nondominated_and_sorted(tmp_path: Path) -> None:
    study = run(tmp_path, small, rich, trials=120, strategy="nsga2")
    front = study.points(study.front())
    assert front == sorted(front)
    everything = study.points(study.complete())
    for point in front:
        assert not any(a[0] <= point[0] and a[1] <= point[1] and a != point for a in everything)
    frame = study.frame()
    assert len(frame) == 120
    assert {"number", "digest", "state", "small", "rich", "stack", "@shared"} <= set(frame.columns)


def test_a_study_of_functions_is_not_resumed_without_them(tmp_path: Path) -> None:
    study = run(tmp_path)
    assert open_study("s", tmp_path / "s.db").objectives[0].name == "small"
    with pytest.raises(UnknownName, match="unknown objective 'small'"):
        create_study(toy_space(), study.plan, name="s", store=tmp_path / "s.db")
