"""What is told beside a network or a front: broken constraints, finalists' scores, other searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import SettingError
from nas import cli
from nas.commands.show import print_front
from nas.progress import Progress
from nas.steps.base import Context, run_steps
from nas.store import Store
from nas.store.folders import working_in
from nas.study.creation import create_study
from nas.study.finalist_table import finalist_lines, finalist_table
from nas.study.plan import Plan
from nas.study.standing import standing
from nas.study.state import others_at_work
from nas.study.study import Study
from nas.study.trial import Fidelity, TrialState, Value
from tests.nas.test_questions import measure, study_of
from tests.nas.toys import rich, small, toy_space


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


def train(study: Study, scores: Sequence[tuple[int, int, float]]) -> None:
    """Record finalists: the number in the search, the steps and the bits per byte of each."""
    for number, (of, steps, bits) in enumerate(scores):
        searched = study.trial(of)
        values = {**searched.values, "bits_per_byte": Value(bits, 0.01, "scratch")}
        fidelity = Fidelity(evaluator="scratch", steps=steps)
        final = replace(searched, number=number, stage="final", fidelity=fidelity, values=values)
        study.store.save(study.record, [final])


def test_a_network_of_the_front_needs_no_word(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    assert [standing(study, trial) for trial in study.trials()] == ["", ""]


def test_what_is_not_on_the_front_is_said(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (2.1, 1.3)])
    (told,) = filter(None, (standing(study, trial) for trial in study.trials()))
    assert told.startswith(f"trial 2 ({study.trial(2).digest}) is not on the front: 'best' in its place")


def test_what_breaks_a_constraint_is_said_with_how_much(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2)], constraints=("params<500", "decode_ms<1.3"))
    assert "breaks params<500 (1 k, 100.0 % too much)" in standing(study, study.trial(0))
    measure(study, {1: 26.0})
    told = standing(study, study.trial(1))
    assert (
        "breaks params<500 (1 k, 100.2 % too much) and decode_ms<1.3 (26 ± 0.01, 20.0 times the bound)"
        in told
    )


def test_an_infeasible_trial_is_told_of_though_its_numbers_are_unknown(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    reason = "params is 1001, not params<500"
    rejected = replace(study.trial(1), state=TrialState.INFEASIBLE, reason=reason, values={})
    store.save(study.record, [rejected])
    told = standing(study, study.trial(1))
    assert f"was rejected ({reason}) and is not on the front" in told


def test_the_best_is_the_best_finalist_of_the_front(store: Store) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4), (2.5, 1.5)])
    assert study.trial("best").number == 2
    train(study, [(0, 100, 1.4), (2, 100, 1.75), (1, 300, 1.6), (2, 300, 1.65), (3, 300, 1.5)])
    best = study.trial("best")
    assert best.digest == study.trial(1).digest, "3 is not on the front, 0 was trained for less"
    assert standing(study, best) == ""


def test_nothing_is_the_best_of_nothing(store: Store) -> None:
    with pytest.raises(SettingError, match="study s has no network yet: `nas resume s`"):
        study_of(store, []).trial("best")


def test_the_last_table_has_the_scores_of_the_finalists(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (1.8, 1.4)])
    assert not finalist_table(study)
    assert finalist_lines(finalist_table(study)) == []
    train(study, [(0, 100, 1.7), (2, 100, 1.75), (1, 100, 1.74), (1, 300, 1.6543), (2, 300, 1.6212)])
    measure(study, {1: 1.25})
    store.save(study.record, [replace(study.trial(2), number=7, stage="search", reused=2)])
    print_front(study)
    front, _, table = capsys.readouterr().out.partition(
        "3 finalists trained from scratch, with the scores of their longest trainings:\n"
    )
    rows = [line.split() for line in table.splitlines()[1:4]]
    assert [row[0] for row in rows] == ["2", "1", "0"], "numbers that `nas export` takes"
    assert [row[2] for row in rows] == ["1.621", "1.654", "1.7"]
    assert [" steps: " in line for line in table.splitlines()] == [False, True, True, True, False]
    assert "100 steps: " in table.splitlines()[3]
    assert "1.25 ± 0.01" in table
    assert "1.621" not in front


def test_a_search_that_others_go_on_with_is_not_told_as_done(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2)])
    assert others_at_work(study, searched=True) == ""
    store.save(study.record, [replace(study.trial(1), state=TrialState.RUNNING, values={})])
    assert others_at_work(study) == "", "a killed process left it"
    assert "with 1 trial running" in others_at_work(study, searched=True), "one of another machine"
    with working_in(study.folder):
        print_front(study)
        assert "another process still works on study s, with 1 trial running" in capsys.readouterr().out
        print_front(study, searched=True)
        assert "another process" not in capsys.readouterr().out, "told when the search ended"


def test_the_end_of_a_search_tells_of_others(tmp_path: Path) -> None:
    told: list[str] = []

    class Heard(Progress):
        def say(self, text: str) -> None:
            told.append(text)

    plan = Plan(objectives=("small", "rich"), trials=3, finalists=0, strategy="random")
    functions = {"small": small, "rich": rich}
    study = create_study(toy_space(), plan, name="s", store=tmp_path / "s.db", functions=functions)
    context = Context(study=study, functions=functions, progress=Heard())
    run_steps(context)
    assert not any("another process" in text for text in told)
    with working_in(study.folder):
        run_steps(context)
    assert "another process still works on study s: this is not its end" in told[-1]
    study.store.close()


def test_commands_take_the_best_and_tell_of_others(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(store, [(2.0, 1.0), (1.9, 1.2), (2.1, 1.3)])
    place = ("--store", str(tmp_path / "s.db"))
    assert cli.run(["show", "s", "best", *place]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"s trial 1 (search), {study.trial(1).digest}")
    assert "not on the front" not in shown
    assert cli.run(["show", "s", "2", *place]) == 0
    assert "is not on the front: 'best' in its place names the best of the front" in capsys.readouterr().out
