"""Outcomes are held back where proposals after news are slow, and never for long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

import nas
from nas.driver import run as drive
from nas.executors.base import Executor, FunctionScorer, Outcome, WorkItem, score_item
from nas.pace import SHARE, Pace
from nas.steps.search import search_of
from nas.study.creation import create_study
from nas.study.plan import Plan
from tests.nas.toys import rich, small, toy_space


class Quick(Executor):
    """Workers that are done whenever they are asked, as many at a time as `chance` says."""

    capacity = 8

    def __init__(self, chance: Random, at_once: Sequence[int] = (1, 2)) -> None:
        self.scorers = {"small": FunctionScorer(small), "rich": FunctionScorer(rich)}
        self.chance, self.at_once = chance, at_once
        self.waiting, self.waited = list[WorkItem](), list[float]()

    def submit(self, items: Sequence[WorkItem]) -> None:
        self.waiting += items

    def collect(self, within: float = math.inf) -> list[Outcome]:
        self.waited.append(within)
        self.chance.shuffle(self.waiting)
        ready = [self.waiting.pop() for _ in range(min(len(self.waiting), self.chance.choice(self.at_once)))]
        return [score_item(self.scorers, item) for item in ready]


def items(*numbers: int) -> list[WorkItem]:
    return [
        WorkItem(number, toy_space().propose_with_spec(lambda _, labels: labels[0])[1], 0, 0)
        for number in numbers
    ]


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def busy(slow: bool) -> tuple[Pace, Quick, Clock]:
    executor, clock = Quick(Random(0), at_once=(1,)), Clock()
    pace = Pace(executor, slow=slow, clock=clock)
    pace.submit(items(1, 2, 3))
    with pace.proposing():
        clock.now += 0.03
    return pace, executor, clock


def test_outcomes_are_held_while_proposing_took_more_than_its_share() -> None:
    pace, executor, clock = busy(slow=True)
    assert (list(pace.collect()), pace.held) == ([], 1)
    clock.now = 0.9 * 0.03 / SHARE
    assert (list(pace.collect()), pace.held) == ([], 2)
    assert executor.waited == [math.inf, pytest.approx(0.1 * 0.03 / SHARE)]
    pace.submit(items(4))
    clock.now = 1.01 * 0.03 / SHARE
    left = {item.number for item in executor.waiting}
    heard = [ended.outcome.number for ended in pace.collect()]
    assert len(heard) == 3
    assert {*heard[:2]} == {1, 2, 3, 4} - left
    assert pace.held == 0


def test_the_last_outcome_is_heard_at_once() -> None:
    pace, _, _ = busy(slow=True)
    numbers = [[ended.outcome.number for ended in pace.collect()] for _ in range(3)]
    assert [len(each) for each in numbers] == [0, 0, 3]


def test_a_quick_strategy_hears_at_once() -> None:
    pace, _, _ = busy(slow=False)
    assert [len(list(pace.collect())) for _ in range(3)] == [1, 1, 1]


def test_what_is_held_is_recorded_when_the_search_is_stopped(tmp_path: Path) -> None:
    class Stopped(Quick):
        def collect(self, within: float = math.inf) -> list[Outcome]:
            if within < math.inf:
                raise KeyboardInterrupt
            return super().collect(within)

    study = create_study(
        toy_space(),
        Plan(objectives=("small", "rich"), trials=40, strategy="auto", finalists=0),
        name="s",
        store=tmp_path / "s.db",
        functions={"small": small, "rich": rich},
    )
    executor = Stopped(Random(0))
    with pytest.raises(KeyboardInterrupt):
        drive(search_of(study, executor), 40)
    trials = study.trials()
    running = [trial.number for trial in trials if trial.state.value == "running"]
    assert sorted(running) == sorted(item.number for item in executor.waiting)
    drive(search_of(study, Quick(Random(1))), 40)
    assert not nas.open("s", tmp_path / "s.db").replay(progress=False).differs
    assert len({trial.number for trial in study.trials()}) == 40


def test_a_search_by_a_slow_strategy_hears_of_several_at_once_and_is_replayed(tmp_path: Path) -> None:
    study = create_study(
        toy_space(),
        Plan(objectives=("small", "rich"), trials=80, strategy="auto", finalists=0),
        name="s",
        store=tmp_path / "s.db",
        functions={"small": small, "rich": rich},
    )
    for until in (30, 55, 80):
        drive(search_of(study, Quick(Random(until))), until)
    heard = [trial.heard or 0 for trial in study.trials()]
    assert heard == sorted(heard)
    assert len(set(heard[30:])) < 20, "a proposal of the model for each outcome"
    replayed = nas.open("s", tmp_path / "s.db").replay(progress=False)
    assert (replayed.equal, replayed.differs) == (80, "")
