"""Schedulers: who is trained how long, at what cost, and the same again after any stop."""

from __future__ import annotations

import math
import shutil
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from foundation.errors import EvaluationFailed, SettingError, UnknownName
from nas.driver import run
from nas.executors.base import Executor, Outcome, Scorer, WorkItem, score_item
from nas.executors.local import InProcess
from nas.replay import Replayed, replay
from nas.schedulers.base import (
    Ladder,
    Promotion,
    Scheduler,
    check_scheduler,
    ladder_of,
    make_scheduler,
    schedulers,
    training_steps,
)
from nas.schedulers.hyperband import Hyperband
from nas.schedulers.next_rung import gene_counts, predicted
from nas.search_setup import Search
from nas.store import Store
from nas.strategies.base import make_strategy
from nas.study.plan import Plan
from nas.study.trial import CANDIDATE, Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype
from tests.nas.every_strategy import EVERY
from tests.nas.toys import Toy, rich, small, toy_space

LADDER = Ladder((10, 30, 90, 270))
GOALS = [("loss", False), ("size", False)]


def loss(trial: Trial) -> tuple[float, ...]:
    return (trial.values["loss"].value,)


def made(name: str = "halving", trials: int = 27, ladder: Ladder = LADDER) -> Scheduler:
    return schedulers[name](ladder, trials=trials, point_of=loss, scores=["loss"])


class Alone:
    """A scheduler with one worker: `losses` by candidate; what was trained, in order."""

    def __init__(
        self,
        scheduler: Scheduler,
        losses: Sequence[float],
        failing: frozenset[int] = frozenset(),
        *,
        late: Sequence[float] = (),
    ) -> None:
        self.scheduler, self.losses, self.failing = scheduler, losses, failing
        self.late = late or losses  # what they are after the first rung
        self.trained: list[tuple[int, int]] = []
        self.numbers: list[int] = []

    def run(self, candidates: int) -> Alone:
        begun = 0
        while True:
            promotion = self.scheduler.promotion()
            if promotion is not None:
                self.go_on(promotion)
            elif begun < candidates:
                beginning = self.scheduler.begin()
                self.train(begun, beginning.steps, dict(beginning.memo))
                begun += 1
            else:
                return self

    def go_on(self, promotion: Promotion) -> None:
        memo = {**promotion.trial.memo, CANDIDATE: promotion.trial.candidate}
        self.train(self.numbers.index(promotion.trial.candidate), promotion.steps, memo)

    def train(self, candidate: int, steps: int, memo: Mapping[str, Any]) -> None:
        number = len(self.trained)
        if CANDIDATE not in memo:
            self.numbers.append(number)
        trial = Trial(
            number=number,
            genotype=Genotype({"x": candidate, "fast": candidate % 2 == 0}),
            fidelity=Fidelity(evaluator="scratch", steps=steps),
            seed=0,
            memo=memo,
        )
        self.scheduler.tell(trial)
        self.trained.append((candidate, steps))
        failed = candidate in self.failing
        first = steps == self.scheduler.ladder.steps[0]
        loss = (self.losses if first else self.late)[candidate] + 1 / steps
        values = {} if failed else {"loss": Value(loss)}
        self.scheduler.tell(
            replace(trial, state=TrialState.FAILED if failed else TrialState.COMPLETE, values=values)
        )

    def steps(self) -> int:
        """What was trained in all, going on from what was trained before."""
        reached = Counter[int]()
        for candidate, steps in self.trained:
            assert steps > reached[candidate], "trained again for what it was trained for"
            reached[candidate] = steps
        return sum(reached.values())


def shuffled(count: int, seed: int = 0) -> list[float]:
    losses = list(map(float, range(count)))
    Random(seed).shuffle(losses)
    return losses


@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_each_rung_goes_on_and_the_cost_is_known_before(seed: int) -> None:
    alone = Alone(made(), shuffled(27, seed)).run(27)
    assert Counter(steps for _, steps in alone.trained) == {10: 27, 30: 9, 90: 3, 270: 1}
    assert alone.steps() == LADDER.cost({0: 27}) == schedulers["halving"].cost(LADDER, 27) == 810


def test_the_best_goes_on_at_once_and_nobody_waits_for_a_full_rung() -> None:
    alone = Alone(made(), [5, 3, 4, 9, 8, 2, *range(100, 121)]).run(27)
    assert alone.trained[:8] == [(0, 10), (1, 10), (2, 10), (1, 30), (3, 10), (4, 10), (5, 10), (5, 30)]


def test_with_few_candidates_in_order_of_quality_the_best_reaches_the_end() -> None:
    alone = Alone(made(), list(map(float, range(27)))).run(27)
    assert [c for c, steps in alone.trained if steps == 270] == [0]


def test_those_who_fail_take_no_place_and_give_none() -> None:
    failing = frozenset(range(0, 27, 2))
    alone = Alone(made(), shuffled(27), failing).run(27)
    assert not failing & {candidate for candidate, steps in alone.trained if steps > 10}
    assert Counter(steps for _, steps in alone.trained) == {10: 27, 30: 4, 90: 1}


def test_of_several_objectives_the_undominated_go_on_first() -> None:
    points = {0: (0.0, 9.0), 1: (9.0, 0.0), 2: (5.0, 5.0), 3: (9.0, 9.0), 4: (6.0, 6.0), 5: (9.5, 9.5)}
    scheduler = schedulers["halving"](
        Ladder((1, 2), 0.5), trials=6, point_of=lambda trial: points[trial.genotype.genes["x"]]
    )
    alone = Alone(scheduler, [0.0] * 6).run(6)
    assert {candidate for candidate, steps in alone.trained if steps == 2} == {0, 1, 2}


def test_a_rung_compares_predictions_with_predictions_also_of_those_who_went_on() -> None:
    def promoted(name: str) -> list[int]:
        scheduler = schedulers[name](
            Ladder((1, 100), 0.3),
            trials=20,
            point_of=lambda trial: (trial.values["loss"].value, -losses[trial.genotype.genes["x"]]),
            scores=["loss"],
        )
        alone = Alone(scheduler, losses).run(20)
        return [candidate for candidate, steps in alone.trained if steps == 100]

    # all on one front, and all fall by 0.99; no two gaps are alike, or rounding would decide between them
    losses = [place**1.3 / 10 for place in shuffled(20)]
    assert promoted("halving_by_curve") == promoted("halving")


def fast_and_slow(scheduler: str, failing: frozenset[int] = frozenset()) -> Alone:
    """A search of 60 candidates of one front, of which those that begin fast end badly."""
    sizes = shuffled(60)

    def point(trial: Trial) -> tuple[float, ...]:
        return trial.values["loss"].value, sizes[trial.genotype.genes["x"]]

    made = schedulers[scheduler](Ladder((10, 90), 0.3), trials=60, point_of=point, scores=["loss"])
    ends = [(60 - size) / 10 for size in sizes]
    early = [end - 4 * (candidate % 2 == 0) for candidate, end in enumerate(ends)]
    late = [end + 4 * (candidate % 2 == 0) for candidate, end in enumerate(ends)]
    return Alone(made, early, failing, late=late).run(60)


def test_by_gain_learns_whose_early_scores_mislead() -> None:
    def slow(scheduler: str) -> float:
        last = [candidate for candidate, steps in fast_and_slow(scheduler).trained if steps == 90]
        assert len(last) == 18
        return sum(candidate % 2 for candidate in last) / len(last)

    assert slow("halving") < 0.1
    assert slow("halving_by_gain") > 0.6


def test_by_gain_keeps_half_of_its_places_until_all_have_begun() -> None:
    failing = frozenset(range(0, 60, 7))
    trained = fast_and_slow("halving_by_gain", failing).trained
    last_begun = max(i for i, (_, steps) in enumerate(trained) if steps == 10)
    early = [steps for _, steps in trained[:last_begun]].count(90)
    assert early == int((60 - len(failing)) * 0.15)
    assert not failing & {candidate for candidate, steps in trained if steps == 90}
    assert [steps for _, steps in trained].count(90) == int((60 - len(failing)) * 0.3)


def test_by_gain_decides_the_same_once_more_candidates_are_to_come(tmp_path: Path) -> None:
    first = searched(tmp_path / "s.db", "halving_by_gain", "random", Learned(), trials=18)
    more = searched(tmp_path / "s.db", "halving_by_gain", "random", Learned(), trials=30)
    assert plain(more[: len(first)]) == plain(first)
    with Store(tmp_path / "s.db") as store:
        study = store.study("s").id
        replayed = replay(search_in(store, study, "halving_by_gain", "random", trials=30), more)
    assert replayed == Replayed(len(more))


def test_the_next_rung_is_predicted_with_an_error_that_holds_the_truth() -> None:
    chance = np.random.default_rng(0)
    genes = [{f"layers.{i}.width": int(2 ** chance.integers(1, 5)) for i in range(3)} for _ in range(80)]
    costs = np.array([sum(each.values()) for each in genes], dtype=float)
    early = chance.standard_normal(80)
    late = early + np.log(costs) + 0.1 * chance.standard_normal(80)
    known = np.arange(80) < 25
    counts = [gene_counts(Genotype(each)) for each in genes]
    here, there = np.stack([early, costs], 1), np.stack([np.where(known, late, np.nan), costs], 1)
    means, errors = predicted(here, counts, there, known)
    assert (means[:, 1] == costs).all()
    assert (means[known, 0] == late[known]).all()
    assert not errors[known].any()
    assert not errors[:, 1].any()
    off = np.abs(means[~known, 0] - late[~known])
    assert off.mean() < 0.3 * np.abs(early - late)[~known].std()
    assert 0.85 < (off < 1.96 * errors[~known, 0]).mean() <= 1


def test_whoever_has_no_prospects_is_dropped_once_and_never_promoted() -> None:
    scheduler = schedulers["halving"](LADDER, trials=27, point_of=loss)
    dropped: list[tuple[int, int]] = []
    alone = Alone(scheduler, shuffled(27, 3))
    tell = scheduler.tell

    def telling(trial: Trial) -> None:
        tell(trial)
        dropped.extend((t.genotype.genes["x"], t.fidelity.steps) for t in scheduler.without_prospects())

    scheduler.tell = telling  # type: ignore[method-assign]
    alone.run(27)
    assert len(dropped) == len(set(dropped))
    for candidate, steps in dropped:
        assert max(s for c, s in alone.trained if c == candidate) == steps
    for steps, places in ((10, 9), (30, 3), (90, 1)):
        here = [candidate for candidate, trained in alone.trained if trained == steps]
        best = set(sorted(here, key=alone.losses.__getitem__)[:places])
        kept = {candidate for candidate in here if (candidate, steps) not in dropped}
        promoted = {candidate for candidate, trained in alone.trained if trained == 3 * steps}
        assert kept == best | promoted


def test_hyperband_gives_every_bracket_the_same_work() -> None:
    shares = Hyperband.shares(LADDER, 400)
    assert sum(shares.values()) == 400
    costs = [LADDER.cost({first: count}) for first, count in shares.items()]
    assert max(costs) < 1.15 * min(costs)
    alone = Alone(made("hyperband", 60), shuffled(60)).run(60)
    assert Counter(steps for _, steps in alone.trained)[270] == Hyperband.whole_trainings(LADDER, 60) > 1
    firsts = dict(reversed(alone.trained))
    assert set(firsts.values()) == {10, 30, 90, 270}
    assert alone.steps() == Hyperband.cost(LADDER, 60)


@pytest.mark.parametrize("name", schedulers)
def test_a_scheduler_told_again_decides_what_it_decided(name: str) -> None:
    alone = Alone(made(name, 40), shuffled(40)).run(31)
    again = made(name, 40)
    firsts = {alone.trained[n][0]: n for n in alone.numbers}
    for number, (candidate, steps) in enumerate(alone.trained):
        first = firsts[candidate]
        memo: dict[str, Any] = {} if first == number else {CANDIDATE: first}
        again.tell(
            Trial(
                number=number,
                genotype=Genotype({"x": candidate}),
                state=TrialState.COMPLETE,
                seed=0,
                memo=memo,
                fidelity=Fidelity(evaluator="scratch", steps=steps),
                values={"loss": Value(alone.losses[candidate] + 1 / steps)},
            )
        )
    assert (again.promotion() is None) == (alone.scheduler.promotion() is None)
    assert again.begin() == alone.scheduler.begin()


def plan(**settings: Any) -> Plan:
    return Plan(**{"evaluator": "scratch", "scheduler": "halving", "train_steps": 900, **settings})


def test_a_plan_without_rungs_has_three_and_others_as_it_says() -> None:
    assert ladder_of(plan()).steps == (100, 300, 900)
    assert ladder_of(plan(scheduler="halving_by_gain", keep=0.25)).steps == (56, 900)
    assert ladder_of(plan(rungs=(50, 200))).steps == (50, 200, 900)
    assert ladder_of(plan(rungs=(50, 900), keep=0.5)) == Ladder((50, 900), 0.5)
    assert training_steps(plan(), 27) == 27 * 100 + 9 * 200 + 3 * 600
    assert training_steps(plan(scheduler="full"), 27) == 27 * 900


def test_a_search_has_no_more_candidates_than_its_space() -> None:
    assert make_scheduler(plan(trials=100), loss, size=40).trials == 40
    assert make_scheduler(plan(trials=100), loss).trials == 100


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rungs": (300, 100)}, "rungs must increase and end below train_steps=900, got 300,100"),
        ({"rungs": (300, 1200)}, "rungs must increase and end below train_steps=900"),
        ({"train_steps": 1}, "scheduler halving needs a rung before train_steps=1"),
        (
            {"scheduler": "full", "rungs": (100,)},
            "rungs=.* are for a scheduler that uses them: add scheduler=",
        ),
        ({"evaluator": "supernet"}, "scheduler halving trains each candidate .*: add evaluator='scratch'"),
        ({"trials": 8}, "of trials=8 none would be trained to the end .*100,300,900: give at least 9 trials"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        check_scheduler(plan(**settings))


def test_a_scheduler_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'halving'"):
        check_scheduler(plan(scheduler="halvin"))


class Learned:
    """A loss that falls with the steps; what was scored. One in ten candidates fails."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, spec: Toy, steps: int, seed: int) -> Value:
        self.asked.append((repr(spec), steps))
        if rich(spec) % 10 == 1:
            raise EvaluationFailed("unlucky")
        return Value(rich(spec) / 100 + 10 / steps, 0.01, "scratch")


class Size:
    def __call__(self, spec: Toy, steps: int, seed: int) -> Value:
        return Value(small(spec))


class Pool(Executor):
    """Four items at a time, which end in an order of chance."""

    capacity = 4

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self.scorers, self.waiting, self.dice = scorers, deque[WorkItem](), Random(0)

    def submit(self, items: Sequence[WorkItem]) -> None:
        self.waiting.extend(items)

    def collect(self, within: float = math.inf) -> list[Outcome]:
        index = self.dice.randrange(len(self.waiting))
        item = self.waiting[index]
        del self.waiting[index]
        return [score_item(self.scorers, item, "pool")]


def search_in(
    store: Store,
    study: int,
    scheduler: str,
    strategy: str,
    *,
    trials: int,
    executor: Executor | None = None,
) -> Search:
    space = toy_space()

    def point(trial: Trial) -> tuple[float, ...]:
        return tuple(trial.values[name].value for name, _ in GOALS)

    return Search(
        store=store,
        study_id=study,
        space=space,
        strategy=make_strategy(strategy, space, GOALS, seed=0, settings={}),
        executor=executor or InProcess({}),
        fidelity=Fidelity(evaluator="scratch", steps=90),
        seed=0,
        scheduler=schedulers[scheduler](Ladder((10, 30, 90)), trials=trials, point_of=point, scores=["loss"]),
    )


def searched(
    store: Path,
    scheduler: str,
    strategy: str,
    learned: Learned,
    pool: type[Executor] = InProcess,
    trials: int = 36,
) -> list[Trial]:
    with Store(store) as opened:
        study = opened.create_study("s", space_digest=toy_space().digest, space_json="{}", config={}).id
        executor = pool({"loss": learned, "size": Size()})  # type: ignore[call-arg]
        run(search_in(opened, study, scheduler, strategy, trials=trials, executor=executor), trials)
        return opened.trials(study)


def plain(trials: Sequence[Trial]) -> list[Trial]:
    return [replace(trial, started=0.0, finished=None) for trial in trials]


@pytest.mark.parametrize("pool", [InProcess, Pool])
@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize("scheduler", schedulers)
def test_any_strategy_goes_with_any_scheduler(
    scheduler: str, strategy: str, pool: type[Executor], tmp_path: Path
) -> None:
    learned = Learned()
    trials = searched(tmp_path / "s.db", scheduler, strategy, learned, pool)
    counted = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.FAILED)]
    assert sum(trial.counts for trial in trials) == 36
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.reused is None]
    assert len({(t.digest, t.fidelity.steps) for t in complete}) == len(complete)
    assert len(learned.asked) == len([t for t in counted if t.reused is None])
    for trial in trials:
        if trial.goes_on:
            began = trials[trial.candidate]
            assert began.digest == trial.digest
            assert began.fidelity.steps < trial.fidelity.steps
        if trial.reused is not None:
            assert trial.fidelity == trials[trial.reused].fidelity
    assert any(trial.fidelity.steps == 90 for trial in complete)


@pytest.mark.parametrize(("scheduler", "strategy"), [("halving", "nsga2"), ("hyperband", "auto")])
def test_a_search_killed_at_any_point_ends_as_if_it_had_not_been(
    scheduler: str, strategy: str, tmp_path: Path
) -> None:
    whole = plain(searched(tmp_path / "whole.db", scheduler, strategy, Learned()))
    copies: list[Path] = []
    original = Learned()

    class Copying(Learned):
        def __call__(self, spec: Toy, steps: int, seed: int) -> Value:
            value = super().__call__(spec, steps, seed)
            copies.append(tmp_path / f"{len(copies)}.db")
            for suffix in ("", "-wal", "-shm"):  # what a kill leaves behind
                if (tmp_path / f"s.db{suffix}").exists():
                    shutil.copy(tmp_path / f"s.db{suffix}", f"{copies[-1]}{suffix}")
            return value

    assert plain(searched(tmp_path / "s.db", scheduler, strategy, Copying())) == whole
    for killed in copies[:: max(1, len(copies) // 3)]:
        left = [t for t in _trials(killed) if t.state is TrialState.RUNNING]
        assert len(left) == 1
        resumed = plain(searched(killed, scheduler, strategy, original))
        died = "the process died while it was scored, 1 time"
        assert [replace(t, reason=None if t.reason == died else t.reason) for t in resumed] == whole


def _trials(store: Path) -> list[Trial]:
    with Store(store) as opened:
        return opened.trials(opened.study("s"))


def test_an_extended_search_goes_on_with_the_rungs_that_are_there(tmp_path: Path) -> None:
    learned = Learned()
    first = searched(tmp_path / "s.db", "halving", "random", learned, trials=18)
    more = searched(tmp_path / "s.db", "halving", "random", learned, trials=54)
    assert plain(more[: len(first)]) == plain(first)
    at = Counter(t.fidelity.steps for t in more if t.reused is None and t.state is TrialState.COMPLETE)
    assert at[30] == at[10] // 3
    assert at[90] == at[30] // 3
