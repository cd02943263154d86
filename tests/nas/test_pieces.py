"""The small parts: fronts, constraints, plans, finalists, agreement, sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from foundation.errors import SettingError, SpaceError, UnknownName
from nas.executors.base import Executor, Outcome, WorkItem
from nas.pareto import (
    by_rank_and_spread,
    hypervolume,
    hypervolume_trace,
    nondominated,
    reference_point,
    spread,
)
from nas.steps.finalists import halve, runs_of
from nas.study.constraints import Constraint
from nas.study.creation import create_study
from nas.study.plan import Plan
from nas.study.space_files import load_space
from nas.study.study import Study
from nas.study.trial import TrialState, Value
from nas.validation.agreement import agreement
from search_spaces.language.genotype import Genotype
from search_spaces.scenario import Scenario
from tests.nas.toys import toy_space

numbers = st.integers(0, 12).map(float)
clouds = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.tuples(*[numbers] * n), min_size=1, max_size=30, unique=True)
)


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@given(clouds)
def test_fronts_are_what_nothing_dominates(points: list[tuple[float, ...]]) -> None:
    plain = [not any(dominates(other, point) for other in points) for point in points]
    assert nondominated(points) == plain


@given(clouds)
def test_the_trace_grows_to_the_hypervolume_of_all(points: list[tuple[float, ...]]) -> None:
    reference = reference_point(points)
    trace = hypervolume_trace(points, reference)
    assert trace == sorted(trace)
    assert trace[-1] == pytest.approx(hypervolume(points, reference))


@given(clouds, st.integers(1, 12))
def test_finalists_are_spread_and_hold_the_best(points: list[tuple[float, ...]], count: int) -> None:
    chosen = by_rank_and_spread(points, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(points))
    front = [i for i, keep in enumerate(nondominated(points)) if keep]
    assert set(chosen[: len(front)]) <= set(front)
    assert points[chosen[0]][0] == min(point[0] for point in points)


def test_spread_takes_the_ends_first() -> None:
    assert spread([(0.0, 9.0), (1.0, 8.0), (5.0, 4.0), (9.0, 0.0)], 3) == [0, 3, 2]
    assert spread([], 3) == []


def test_halving_counts_its_trials() -> None:
    assert runs_of(9, (100, 300, 800), 1 / 3) == 13
    assert runs_of(1, (100, 300), 1 / 3) == 2


class Counting(Executor):
    """Says that a deeper network is better, and counts what it is asked."""

    capacity = 1

    def __init__(self, dies_at: int = -1) -> None:
        self.asked: list[tuple[int, int]] = []
        self.waiting: list[WorkItem] = []
        self.dies_at = dies_at

    def submit(self, tasks: Sequence[WorkItem]) -> None:
        self.waiting += tasks

    def collect(self, within: float = math.inf) -> list[Outcome]:
        task = self.waiting.pop(0)
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append((task.number, task.steps))
        return [Outcome(task.number, {"quality": Value(1 / len(task.spec.stack) + 1 / task.steps)})]


def quality(spec: Any) -> float:
    return 1.0


def halving_study(folder: Path) -> Study:
    plan = Plan(objectives=("quality",), finalist_steps=(10, 20, 40), keep=1 / 3, strategy="random")
    return create_study(toy_space(), plan, name="s", store=folder / "s.db", functions={"quality": quality})


def candidates(count: int) -> list[Genotype]:
    dice, found = Random(0), dict[Genotype, None]()
    while len(found) < count:
        found[toy_space().sample(dice)] = None
    return list(found)


def depth(genotype: Genotype) -> int:
    return int(genotype.genes["stack"])


def test_halving_keeps_a_third_and_the_picks(tmp_path: Path) -> None:
    study, executor, finalists = halving_study(tmp_path), Counting(), candidates(7)
    worst = min(finalists, key=depth)
    last = halve(study, finalists, executor, picks=[worst])
    steps = [steps for _, steps in executor.asked]
    assert (steps.count(10), steps.count(20), steps.count(40)) == (
        7,
        4,
        3,
    )  # rounded up, and the pick
    assert {t.fidelity.steps for t in last} == {40}
    assert worst in {t.genotype for t in last}
    assert max(map(depth, finalists)) in {depth(t.genotype) for t in last}
    study.store.close()


@pytest.mark.parametrize("dies_at", [0, 4, 8])
def test_halving_goes_on_where_it_died(tmp_path: Path, dies_at: int) -> None:
    study, broken, finalists = halving_study(tmp_path), Counting(dies_at), candidates(7)
    with pytest.raises(KeyboardInterrupt):
        halve(study, finalists, broken)
    second = Counting()
    last = halve(study, finalists, second)
    assert len(broken.asked) == dies_at
    asked = broken.asked + second.asked
    assert len(asked) == len(set(asked)) == runs_of(7, (10, 20, 40), 1 / 3)
    assert [t.number for t in study.trials("final")] == list(range(len(asked)))
    assert {t.state for t in study.trials("final")} == {TrialState.COMPLETE}
    third = Counting()
    assert [t.digest for t in last] == [t.digest for t in halve(study, finalists, third)]
    assert not third.asked
    study.store.close()


@pytest.mark.parametrize(
    ("text", "value", "kept"),
    [
        ("decode_ms<5", 4.9, True),
        ("decode_ms<5", 5.0, False),
        (" params <= 2e6", 2e6, True),
        ("params>1", 1, False),
        ("params<2M", 1.9e6, True),
        ("params<2M", 2.1e6, False),
        ("params<1.5 k", 1600, False),
        ("weight_bytes<=110kB", 110_000, True),
        ("weight_bytes<110 kB", 110_001, False),
        ("state_bytes<4MB", 4e6, False),
        ("weight_bytes>1GB", 1.1e9, True),
        ("weight_bytes<768B", 767, True),
    ],
)
def test_constraints_compare(text: str, value: float, kept: bool) -> None:
    constraint = Constraint.parse(text)
    assert (constraint.violation({constraint.name: Value(value)}) is None) is kept


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("decode_ms", SettingError, "write it like"),
        ("decode_ms<<5", SettingError, "write it like"),
        ("decode_ms<five", SettingError, "write it like"),
        ("weight_bytes<110KiB", SettingError, "write it like decode_ms<5, params<=2M or weight_bytes<110kB"),
        ("params<2MB", SettingError, "params is no number of bytes; write it like"),
        ("decod_ms<5", UnknownName, "did you mean 'decode_ms'"),
        ("bits_per_bite<2", UnknownName, "did you mean 'bits_per_byte'"),
    ],
)
def test_malformed_constraints_say_what_is_right(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Constraint.parse(text)


def test_plans_come_back_from_json_and_only_trials_may_grow() -> None:
    plan = Plan(
        constraints=("params<1e6",), scenarios=(Scenario(batch=2),), finalist_steps=(1, 2), data="here"
    )
    assert Plan.from_plain(plan.to_plain()) == plan
    plan.require_same(replace(plan, trials=999))
    with pytest.raises(SettingError, match="seed=0, not seed=5"):
        Plan().require_same(Plan(seed=5))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"trials": -1}, "trials"),
        ({"train_steps": 0}, "steps"),
        ({"objectives": ()}, "at least one objective"),
        ({"objectives": ("params", "params")}, "twice"),
        ({"finalist_steps": (300, 100)}, "finalist_steps must be strictly increasing"),
        ({"keep": 0.0}, "keep"),
    ],
)
def test_senseless_plans_are_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(SettingError, match=text):
        Plan(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu=1", "did you mean|known"),
        ("batch=x", "batch must be a whole number"),
        ("batch=0", "batch must be at least 1"),
        ("cpu,dtype=int8", "dtype"),
    ],
)
def test_scenarios_are_read_or_refused(text: str, said: str) -> None:
    assert Scenario.parse("cuda:0,batch=4,new_tokens=9") == Scenario(device="cuda:0", batch=4, new_tokens=9)
    with pytest.raises(SettingError, match=said):
        Scenario.parse(text)


def test_agreement_is_kendalls_tau_with_an_interval_around_it() -> None:
    dice = np.random.default_rng(0)
    truth = dice.normal(size=20)
    pairs = [(float(t + 0.3 * dice.normal()), float(t), str(i)) for i, t in enumerate(truth)]
    found = agreement(pairs)
    tau = found.tau
    assert tau.value == pytest.approx(kendalltau([p[0] for p in pairs], [p[1] for p in pairs]).statistic)
    assert tau.low < tau.value < tau.high
    assert agreement(pairs) == found
    with pytest.raises(SettingError, match="at least 3"):
        agreement(pairs[:2])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8))
def test_agreement_is_a_number_or_says_why_there_is_none(points: list[tuple[float, float]]) -> None:
    pairs = [(one, other, "") for one, other in points]
    if 1 in map(len, map(set, zip(*points, strict=True))):
        with pytest.raises(SettingError, match="all the same"):
            agreement(pairs)
        return
    tau = agreement(pairs).tau
    assert -1.001 <= tau.low <= tau.high <= 1.001


def test_perfect_agreement_is_one() -> None:
    tau = agreement([(float(i), float(i), "") for i in range(5)]).tau
    assert (tau.value, tau.low, tau.high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1 / 0", r"broken\.py:1: ZeroDivisionError"),
        ("\nx = = 1", r"broken\.py:2: SyntaxError"),
        ("from search_spaces import one_of\none_of(1, 1)", r"broken\.py:2: options 0 and 1"),
        ("x = 1", "defines no Space"),
        ("space = 3", "is an int, not a Space"),
    ],
)
def test_space_files_that_fail_name_the_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "broken.py"), "broken.py"):
        with pytest.raises(SpaceError, match=said):
            load_space(name)


def test_spaces_are_found_by_name_and_in_files(tmp_path: Path) -> None:
    assert load_space("laptop").name == "laptop"
    file = tmp_path / "mine.py"
    file.write_text("from search_spaces.spaces.laptop import laptop\none = laptop()\ntwo = laptop\n")
    assert load_space(f"{file}:two").digest == load_space(str(file)).digest
    with pytest.raises(UnknownName, match="did you mean 'two'"):
        load_space(f"{file}:twoo")
    with pytest.raises(UnknownName, match="did you mean 'laptop'"):
        load_space("labtop")
    with pytest.raises(SpaceError, match="no such file"):
        load_space(str(tmp_path / "none.py"))
