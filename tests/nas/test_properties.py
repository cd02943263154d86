"""Properties of constraints, fronts, targets and trials, for any numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import EvaluationFailed, NasError, SettingError, UnknownName
from nas import pareto
from nas.driver import run
from nas.engines.darts.point import TARGET_TOLERANCE, meets_targets
from nas.engines.darts.targets import TAILS, spread_values
from nas.engines.exact.engine import spread
from nas.engines.exact.slots import Solution
from nas.evaluator_faults import BEYOND_DOUBT, LEAST_ERRORS
from nas.executors.base import FunctionScorer
from nas.executors.local import InProcess
from nas.objectives.base import objectives
from nas.pareto import by_rank_and_spread
from nas.pareto import spread as spread_points
from nas.search_setup import Search
from nas.store import Store
from nas.strategies.base import make_strategy
from nas.study.constraints import COMPARE, Constraint, gates_of, parsed_constraints
from nas.study.plan import Plan
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype
from tests.nas.toys import Toy, small, toy_space

CHEAP = sorted(name for name, objective in objectives.items() if objective.cheap)
LEARNED = sorted(name for name, objective in objectives.items() if objective.task)
numbers = st.floats(-1e9, 1e9, allow_nan=False)
costs = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=40)
clouds = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20)
spaces = st.text(" ", max_size=2)


@given(st.sampled_from(CHEAP), st.sampled_from(sorted(COMPARE)), numbers, spaces, spaces)
def test_a_constraint_is_read_as_it_is_written(
    name: str, sign: str, bound: float, before: str, after: str
) -> None:
    constraint = Constraint.parse(f"{before}{name}{after}{sign}{before}{bound!r}{after}")
    assert constraint == Constraint(name, sign, bound)


@given(st.sampled_from(CHEAP), st.sampled_from(sorted(COMPARE)), st.integers(-9999, 9999))
def test_a_constraint_that_is_printed_is_read_again(name: str, sign: str, bound: int) -> None:
    constraint = Constraint(name, sign, float(bound))
    assert Constraint.parse(str(constraint)) == constraint


@given(st.sampled_from(CHEAP), numbers, numbers)
def test_a_value_violates_either_a_bound_or_its_opposite(name: str, bound: float, value: float) -> None:
    values = {name: Value(value)}
    for sign, opposite in (("<", ">="), (">", "<=")):
        violated = Constraint(name, sign, bound).violation(values) is not None
        assert violated != (Constraint(name, opposite, bound).violation(values) is not None)


@given(st.sampled_from(CHEAP), numbers, numbers)
def test_a_violation_names_the_objective_and_the_bound(name: str, bound: float, value: float) -> None:
    constraint = Constraint(name, "<", bound)
    violation = constraint.violation({name: Value(value)})
    assert violation is None or (violation.startswith(f"{name} is ") and str(constraint) in violation)


@given(st.text(max_size=20))
def test_any_text_is_a_constraint_or_is_refused(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except (SettingError, UnknownName):
        return
    assert constraint.name in objectives
    assert objectives[constraint.name].cheap or objectives[constraint.name].task


@pytest.mark.parametrize("name", LEARNED)
def test_a_bound_on_what_only_training_tells_is_a_gate(name: str) -> None:
    plan = Plan(objectives=("params",), constraints=(f"{name}<1", "params<2M"))
    assert [gate.name for gate in gates_of(plan)] == [name]
    assert [constraint.name for constraint in parsed_constraints(plan)] == ["params"]


def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second


@given(clouds)
def test_every_point_is_on_the_front_or_dominated_by_it(points: list[tuple[float, float]]) -> None:
    front = [point for point, keep in zip(points, pareto.nondominated(points), strict=True) if keep]
    assert front
    assert len(set(front)) == len(front)
    for point in points:
        assert point in front or any(dominates(better, point) for better in front)


@given(clouds, st.randoms(use_true_random=False))
def test_a_front_does_not_depend_on_the_order(points: list[tuple[float, float]], dice: object) -> None:
    shuffled = list(points)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    fronts = [
        {point for point, keep in zip(cloud, pareto.nondominated(cloud), strict=True) if keep}
        for cloud in (points, shuffled)
    ]
    assert fronts[0] == fronts[1]


@given(clouds)
def test_a_further_point_never_takes_from_the_hypervolume(points: list[tuple[float, float]]) -> None:
    reference = pareto.reference_point(points)
    whole = pareto.hypervolume(points, reference)
    assert whole >= pareto.hypervolume(points[:-1], reference) * (1 - 1e-9)
    assert whole > 0


@given(clouds, st.integers(1, 8))
def test_finalists_are_distinct_and_as_many_as_there_can_be(
    points: list[tuple[float, float]], count: int
) -> None:
    chosen = by_rank_and_spread(points, count)
    assert len(set(chosen)) == len(chosen) <= count
    assert set(chosen) <= set(range(len(points)))
    assert points[chosen[0]][0] == min(point[0] for point in points)
    few = spread_points(points, count)
    assert len(set(few)) == len(few) <= count


@given(costs, st.integers(1, 9))
def test_targets_are_costs_that_exist_from_cheap_to_expensive(values: list[float], points: int) -> None:
    targets = spread_values(values, points)
    assert len(targets) == points
    assert set(targets) <= set(values)
    assert targets == sorted(targets)
    ordered = sorted(values)
    low, high = (ordered[round(tail * (len(ordered) - 1))] for tail in TAILS)
    assert all(low <= target <= high for target in targets)


@given(st.floats(0.1, 1e6), st.floats(-0.5, 0.5))
def test_a_target_is_met_within_its_tolerance(target: float, relative: float) -> None:
    point = {"targets": {"decode_ms": target}, "costs": {"decode_ms": target * (1 + relative)}}
    if abs(abs(relative) - TARGET_TOLERANCE) > 1e-9:
        assert meets_targets(point) == (abs(relative) < TARGET_TOLERANCE)


@given(st.integers(0, 40))
def test_solutions_are_spread_without_losing_one(count: int) -> None:
    solutions = [Solution((i,), {}, float(i), {}) for i in range(count)]
    ordered = spread(solutions)
    assert sorted(solution.score for solution in ordered) == [float(i) for i in range(count)]
    if count > 1:
        assert {solution.score for solution in ordered[:2]} == {0.0, count - 1.0}


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.floats(0, 1e6),
    st.lists(st.floats(-1e6, 1e6).map(lambda sample: round(sample, 5)), max_size=4),
    st.dictionaries(st.text(max_size=5), numbers, max_size=3),
)
def test_values_come_back_from_json(
    number: float, error: float | None, samples: list[float], figures: dict[str, float]
) -> None:
    value = Value(number, error, "scratch", tuple(samples), figures)
    assert Value.from_json(json.loads(json.dumps(value.to_json()))) == value


@given(numbers, st.none() | st.text(min_size=1, max_size=9))
def test_a_summary_gives_the_value_or_the_reason(number: float, reason: str | None) -> None:
    trial = Trial(
        number=0,
        genotype=Genotype({"depth": 1}),
        fidelity=Fidelity(evaluator="toy"),
        seed=0,
        state=TrialState.FAILED if reason else TrialState.COMPLETE,
        values={"loss": Value(number)},
        reason=reason,
    )
    assert trial.summary("loss").startswith(trial.digest)
    assert trial.summary("loss").endswith(f": {reason}" if reason else f"loss {number:.4g}")
    assert reason or trial.summary("none") == trial.digest


class Failing:
    """Scores small networks, and raises for those whose size is in a set."""

    def __init__(self, sizes: frozenset[int], kind: type[Exception]) -> None:
        self.sizes, self.kind = sizes, kind

    def __call__(self, spec: Toy) -> float:
        if small(spec) in self.sizes:
            raise self.kind("not this size")
        return small(spec)


def searched(failing: Failing, trials: int, seed: int) -> tuple[list[Trial], str]:
    """The trials of a search in memory, and the error that ended it."""
    store, space = Store("sqlite://"), toy_space()
    record = store.create_study("s", space_digest=space.digest, space_json="{}", config={})
    strategy = make_strategy("random", space, [("small", False)], seed=seed, settings={})
    executor = InProcess({"small": FunctionScorer(failing)})
    fidelity = Fidelity(evaluator="function")
    search = Search(
        store=store,
        study_id=record.id,
        space=space,
        strategy=strategy,
        executor=executor,
        fidelity=fidelity,
        seed=seed,
    )
    message = ""
    try:
        run(search, trials)
    except NasError as error:
        message = str(error)
    recorded = store.trials(record.id, "search")
    store.close()
    return recorded, message


@settings(max_examples=25, deadline=None)
@given(st.frozensets(st.integers(1, 12)), st.integers(1, 25), st.integers(0, 99))
def test_candidates_that_fail_are_recorded_and_do_not_stop_a_search(
    sizes: frozenset[int], trials: int, seed: int
) -> None:
    recorded, message = searched(Failing(sizes, EvaluationFailed), trials, seed)
    assert not message
    assert len(recorded) == trials
    assert [trial.number for trial in recorded] == list(range(trials))
    for trial in recorded:
        failed = small(toy_space().close(trial.genotype)) in sizes
        assert trial.state is (TrialState.FAILED if failed else TrialState.COMPLETE)
        assert (trial.reason == "not this size") == failed
        assert bool(trial.values) != failed


@settings(max_examples=25, deadline=None)
@given(st.frozensets(st.integers(1, 12)), st.integers(1, 60), st.integers(0, 99))
def test_a_search_stops_where_unexpected_errors_come_in_a_row(
    sizes: frozenset[int], trials: int, seed: int
) -> None:
    recorded, message = searched(Failing(sizes, ZeroDivisionError), trials, seed)
    in_a_row = scored = succeeded = 0
    doubted = False
    for trial in recorded:
        if trial.reused is None and trial.state is TrialState.COMPLETE:
            in_a_row, scored, succeeded = 0, scored + in_a_row + 1, succeeded + 1
        elif trial.reused is None:
            in_a_row += 1
        share = (succeeded + 1) / (scored + 2)
        doubted = in_a_row >= LEAST_ERRORS and (1 - share) ** in_a_row < BEYOND_DOUBT
        assert not doubted or trial is recorded[-1]
    assert doubted == bool(message)
    assert message.startswith(f"{in_a_row} candidates in a row") if message else len(recorded) == trials


def test_a_store_keeps_what_a_search_recorded(tmp_path: Path) -> None:
    space = toy_space()
    with Store(tmp_path / "s.db") as store:
        record = store.create_study("s", space_digest=space.digest, space_json="{}", config={})
        strategy = make_strategy("random", space, [("small", False)], seed=0, settings={})
        executor = InProcess({"small": FunctionScorer(small)})
        fidelity = Fidelity(evaluator="function")
        search = Search(
            store=store,
            study_id=record.id,
            space=space,
            strategy=strategy,
            executor=executor,
            fidelity=fidelity,
            seed=0,
        )
        run(search, 5)
        before = store.trials(record.id, "search")
    with Store(tmp_path / "s.db") as store:
        assert store.trials(record.id, "search") == before
