"""Every proposal of a search can be derived again, whatever the order in which its workers finished."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

import nas
from foundation.errors import EvaluationFailed, SettingError
from nas.driver import run as drive
from nas.executors.base import Executor, FunctionScorer, Outcome, Scorer, WorkItem, score_item
from nas.steps.search import search_of
from nas.store import Store
from nas.study.creation import create_study
from nas.study.plan import Plan
from nas.study.study import Study
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from tests.nas.every_strategy import EVERY
from tests.nas.toys import Toy, rich, small, toy_space


class Shuffled(Executor):
    """Workers that finish in any order, one or two at a time."""

    capacity = 5

    def __init__(self, scorers: Mapping[str, Scorer], chance: Random) -> None:
        self.scorers, self.chance = scorers, chance
        self.waiting: list[WorkItem] = []

    def submit(self, items: Sequence[WorkItem]) -> None:
        self.waiting += items

    def collect(self, within: float = math.inf) -> list[Outcome]:
        self.chance.shuffle(self.waiting)
        ready = [self.waiting.pop() for _ in range(min(len(self.waiting), self.chance.choice((1, 2))))]
        return [score_item(self.scorers, item) for item in ready]


def often_failing(spec: Toy) -> float:
    """As `rich`; one in some cannot be scored."""
    if rich(spec) % 7 == 3:
        raise EvaluationFailed("it is one of those")
    return rich(spec)


def searched(folder: Path, strategy: str, *, seed: int = 0, trials: int = 45) -> Study:
    """A study whose workers finished in an order of their own; it is stopped, and taken up, halfway."""
    plan = Plan(
        objectives=("small", "often_failing"), trials=trials, strategy=strategy, finalists=0, seed=seed
    )
    functions = {"small": small, "often_failing": often_failing}
    study = create_study(toy_space(), plan, name="s", store=folder / "s.db", functions=functions)
    chance = Random(seed)
    for until in (trials // 2, trials):
        scorers = {name: FunctionScorer(function) for name, function in functions.items()}
        drive(search_of(study, Shuffled(scorers, chance)), until)
    return study


@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize("seed", range(2))
def test_every_strategy_is_replayed(strategy: str, seed: int, tmp_path: Path) -> None:
    study = searched(tmp_path, strategy, seed=seed)
    trials = study.trials()
    heard = [trial.told for trial in trials]
    assert sorted(heard) == list(range(len(trials)))
    assert heard != sorted(heard), "workers finished in the order in which they began"
    with Store(tmp_path / "s.db") as store:
        before = store.trials(study.record.id)
    replayed = nas.open("s", tmp_path / "s.db").replay(progress=False)
    assert (replayed.equal, replayed.differs) == (len(trials), "")
    with Store(tmp_path / "s.db") as store:
        assert store.trials(study.record.id) == before


@pytest.mark.parametrize("strategy", ["random", "nsga2", "auto"])
def test_constraints_move_the_same_candidates(strategy: str, tmp_path: Path) -> None:
    layer = Layer(
        sequence_mixer=ShortConv(kernel=one_of(*range(2, 10))),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3, 4)),
    )
    space = Space(Decoder(d_model=one_of(*range(8, 128, 8)), layers=repeat(layer, (1, 2, 3, 4))), name="s")
    plan = Plan(
        objectives=("params", "decode_flops"),
        trials=30,
        constraints=("params<9000",),
        strategy=strategy,
        finalists=0,
    )
    study = create_study(space, plan, name="s", store=tmp_path / "s.db")
    drive(search_of(study, Shuffled({}, Random(0))), 30)
    if strategy == "random":  # others may compute constraints, and keep them by themselves
        assert {trial.state.value for trial in study.trials()} == {"complete", "infeasible"}
    assert not nas.open("s", tmp_path / "s.db").replay(progress=False).differs


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE trials SET told = NULL WHERE number = 3", "is not on record"),
        ("UPDATE trials SET told = 5", "several processes"),
        ("DELETE FROM trials WHERE number = 4", "several processes"),
        ("UPDATE trials SET genotype_json = '[' WHERE number = 4", "1 trial of study s cannot be read"),
        ("DELETE FROM trials", "no trials yet"),
    ],
)
def test_a_record_without_an_order_is_refused(statement: str, says: str, tmp_path: Path) -> None:
    searched(tmp_path, "random", trials=12)
    changed(tmp_path / "s.db", statement)
    with pytest.raises(SettingError, match=says):
        nas.open("s", tmp_path / "s.db").replay(progress=False)


def test_the_first_proposal_that_differs_is_named(tmp_path: Path) -> None:
    study = searched(tmp_path, "nsga2")
    third = study.trials()[3]
    other = study.trials()[9].genotype.to_json()
    changed(tmp_path / "s.db", f"UPDATE trials SET genotype_json = '{other}' WHERE number = 3")
    replayed = nas.open("s", tmp_path / "s.db").replay(progress=False)
    assert replayed.equal == 3
    assert third.digest in replayed.differs
    assert "trial 3" in str(replayed)
