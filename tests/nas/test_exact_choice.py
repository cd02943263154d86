"""The exact choice against brute force, greedy, ties between places, and impossible budgets."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import SettingError, SpaceError
from nas.engines.exact.greedy import greedy
from nas.engines.exact.integer_program import ChoiceProblem, Unreachable
from nas.engines.exact.slots import Option, Slot
from nas.engines.exact.sweep import front, sweep

COSTS = ("ms", "bytes", "state")


def table(
    seed: int, places: int, options: int, *, costs: int = 2, genes: bool = False, ties: bool = False
) -> list[Slot]:
    """Random scores, and costs of many sizes; with `genes`, some options hang on two of them.

    With `ties` scores and costs are small whole numbers, so that many choices are equally good.
    """
    dice = np.random.default_rng(seed)
    scale = 10.0 ** dice.integers(-4, 9, size=costs)
    found = []
    for p in range(places):
        kept = []
        for o in range(options):
            spent = dice.integers(0, 3, size=costs) if ties else scale * dice.gamma(1.0, size=costs)
            amounts = dict(zip(COSTS, map(float, spent), strict=False))
            score = float(dice.integers(-1, 2) if ties else dice.normal(0.2, 0.5))
            when = {}
            if genes and o:  # the first option of a place always fits
                for gene, count in (("width", 2), ("depth", 3)):
                    if dice.random() < 0.5:
                        some = dice.choice(count, size=dice.integers(1, count), replace=False)
                        when[gene] = frozenset(map(int, some))
            kept.append(Option(o, score, amounts, when))
        found.append(Slot(f"place {p}", tuple(kept)))
    return found


def brute_force(problem: ChoiceProblem, budgets: dict[str, float]) -> list[tuple[float, tuple[int, ...]]]:
    """Every choice that keeps genes and budgets, best first."""
    found = []
    for picks in product(*(range(len(place.options)) for place in problem.slots)):
        score, costs = problem.totals(picks)
        if problem.allowed(picks) and all(costs[name] <= bound for name, bound in budgets.items()):
            found.append((score, picks))
    return sorted(found)


def fast_best(problem: ChoiceProblem, budgets: dict[str, float]) -> float:
    """The least score by brute force over arrays; places without genes."""
    names = list(budgets)
    scores, sums = np.zeros(1), np.zeros((1, len(names)))
    for place in problem.slots:
        own = np.array([option.score for option in place.options])
        costs = np.array([[option.costs[name] for name in names] for option in place.options])
        scores = (scores[:, None] + own).ravel()
        sums = (sums[:, None] + costs.reshape(len(own), -1)).reshape(len(scores), -1)
    kept = (sums <= np.array([budgets[name] for name in names])).all(1)
    return float(scores[kept].min()) if kept.any() else math.inf


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**9),
    costs=st.integers(1, 3),
    shares=st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
)
def test_it_equals_brute_force_on_6_places_of_5_options(seed: int, costs: int, shares: list[float]) -> None:
    problem = ChoiceProblem(table(seed, 6, 5, costs=costs))
    budgets = {}
    for name, share in zip(COSTS[:costs], shares, strict=False):
        values = [[option.costs[name] for option in place.options] for place in problem.slots]
        low, high = sum(map(min, values)), sum(map(max, values))
        budgets[name] = low + share * (high - low)
    truth = fast_best(problem, budgets)
    if math.isinf(truth):
        with pytest.raises(Unreachable):
            problem.best(budgets)
        return
    found = problem.best(budgets)
    assert found.proven
    assert found.score == pytest.approx(truth, rel=1e-9, abs=1e-9)
    assert all(found.costs[name] <= bound for name, bound in budgets.items())
    rough = greedy(problem, budgets)
    assert rough is None or found.score <= rough.score + 1e-9


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9), share=st.floats(0.2, 1.0), count=st.integers(1, 6), ties=st.booleans())
def test_genes_tie_places_and_the_next_best_come_in_order(
    seed: int, share: float, count: int, ties: bool
) -> None:
    problem = ChoiceProblem(table(seed, 4, 4, genes=True, ties=ties))
    highest = sum(max(o.costs["ms"] for o in place.options) for place in problem.slots)
    budgets = {"ms": share * highest}
    truth = brute_force(problem, budgets)
    if not truth:
        with pytest.raises(Unreachable):
            problem.best_few(count, budgets)
        return
    found = problem.best_few(count, budgets)
    assert [one.score for one in found] == pytest.approx([score for score, _ in truth[:count]], abs=1e-9)
    assert len({one.picks for one in found}) == len(found) == min(count, len(truth))
    for one in found:
        for place, pick in zip(problem.slots, one.picks, strict=True):
            for gene, allowed in place.options[pick].when.items():
                assert one.answers[gene] in allowed


def test_greedy_is_strictly_worse_where_one_dear_exchange_beats_two_cheap_ones() -> None:
    # greedy takes the best price per unit first, and must then take the second exchange as well
    first = Slot("a", (Option("best", 0.0, {"ms": 10.0}), Option("less", 1.0, {"ms": 6.0})))
    other = Slot("b", (Option("best", 0.0, {"ms": 10.0}), Option("less", 1.9, {"ms": 4.0})))
    problem = ChoiceProblem([first, other])
    exact, rough = problem.best({"ms": 15.0}), greedy(problem, {"ms": 15.0})
    assert rough is not None
    assert exact.score == pytest.approx(1.9)
    assert rough.score == pytest.approx(2.9)


def test_an_impossible_budget_names_the_least_that_can_be_reached() -> None:
    problem = ChoiceProblem(table(3, 5, 4))
    least = sum(min(o.costs["bytes"] for o in place.options) for place in problem.slots)
    with pytest.raises(Unreachable, match=f"bytes is at least {least:.6g}") as caught:
        problem.best({"bytes": 0.9 * least, "ms": 1e12})
    assert caught.value.least["bytes"] == pytest.approx(least)
    assert isinstance(caught.value, SpaceError)


def test_budgets_that_exclude_each_other_are_told_together() -> None:
    here = Slot(
        "a", (Option("x", 0.0, {"ms": 1.0, "bytes": 9.0}), Option("y", 0.0, {"ms": 9.0, "bytes": 1.0}))
    )
    with pytest.raises(Unreachable, match=r"together: ms is at least 9 .* bytes is at least 9 "):
        ChoiceProblem([here]).best({"ms": 5.0, "bytes": 5.0})


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e12])
def test_a_budget_is_kept_exactly_though_the_solver_is_lenient(size: float) -> None:
    near = Option("near", 0.0, {"ms": size * (1 + 1e-8)})
    problem = ChoiceProblem([Slot("a", (near, Option("within", 1.0, {"ms": size})))])
    assert problem.best({"ms": size}).picks == (1,)
    assert problem.best({"ms": size * (1 + 1e-8)}).picks == (0,)


def test_genes_that_exclude_each_other_are_told() -> None:
    one, other = ({"width": frozenset({i})} for i in (0, 1))
    with pytest.raises(Unreachable, match="exclude each other"):
        ChoiceProblem(
            [Slot("a", (Option("x", 0.0, {}, one),)), Slot("b", (Option("x", 0.0, {}, other),))]
        ).best()


@pytest.mark.parametrize(
    ("places", "budgets", "told"),
    [
        ([Slot("a", ())], {}, "a: there must be an option"),
        ([], {}, "names of their own"),
        ([Slot("a", (Option("x", math.nan),))], {}, "score of 'x' must be finite"),
        ([Slot("a", (Option("x", 0.0, {}, {"w": frozenset()}),))], {}, "under no answer of w"),
        ([Slot("a", (Option("x", 0.0, {"ms": 1.0}),))], {"mz": 1.0}, "no option has a cost 'mz'"),
    ],
)
def test_tables_that_make_no_sense_are_refused(
    places: list[Slot], budgets: dict[str, float], told: str
) -> None:
    with pytest.raises(SettingError, match=told):
        ChoiceProblem(places).best(budgets)


def test_a_sweep_over_one_cost_finds_the_supported_front_and_nothing_dominated() -> None:
    problem = ChoiceProblem(table(11, 4, 4, costs=1))
    everything = [(score, problem.totals(picks)[1]["ms"]) for score, picks in brute_force(problem, {})]
    true_front = {
        point
        for point in everything
        if not any(o[0] <= point[0] and o[1] <= point[1] and o != point for o in everything)
    }
    found = {(one.score, one.costs["ms"]) for one in front(sweep(problem, ["ms"], points=400), ["ms"])}
    assert found <= true_front
    assert len(found) >= 0.8 * len(true_front)


def test_a_sweep_keeps_the_fixed_budgets_and_brings_the_next_best() -> None:
    problem = ChoiceProblem(table(5, 5, 4, costs=3))
    bound = 0.7 * sum(max(o.costs["state"] for o in place.options) for place in problem.slots)
    found = sweep(problem, ["ms", "bytes"], points=12, budgets={"state": bound}, next_best=2)
    assert all(one.costs["state"] <= bound for one in found)
    assert len({one.picks for one in found}) == len(found) > 6
    assert [one.score for one in found] == sorted(one.score for one in found)
    assert found == sweep(problem, ["ms", "bytes"], points=12, budgets={"state": bound}, next_best=2)


def test_a_sweep_over_no_cost_brings_the_best_few() -> None:
    problem = ChoiceProblem(table(6, 3, 3, costs=1))
    found = sweep(problem, [], points=5)
    assert [one.score for one in found] == pytest.approx([score for score, _ in brute_force(problem, {})[:5]])


def test_the_example_in_the_manual_holds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "choose_an_engine.md").read_text()
    lines = page.partition("    from nas.engines.exact.integer_program import")[2].partition("\n\nA budget")[
        0
    ]
    program = textwrap.dedent("    from nas.engines.exact.integer_program import" + lines)
    known: dict[str, Any] = {}
    head, _, rest = program.partition("problem.best(")
    exec(head, known)
    checked = [line.partition("#") for line in ("problem.best(" + rest).splitlines()]
    for call, _, told in checked[::2]:
        assert eval(call, known) == eval(told, known)
    assert len(checked) == 3


def test_48_places_of_54_options_at_3_bit_widths_take_less_than_10_seconds() -> None:
    dice, places = np.random.default_rng(0), []
    for p in range(48):
        options = []
        for o in range(54):
            score, ms, size, state = dice.gamma(2.0, 0.05), *dice.uniform((0.1, 1e4, 0), (1, 1e5, 5e4))
            for bits, (worse, bytes_) in enumerate([(0.0, 1.0), (0.01, 0.53), (0.08, 0.28)]):
                costs = {"ms": ms, "bytes": size * bytes_, "state": state}
                options.append(Option((o, bits), score + worse * dice.uniform(0.3, 3.0), costs))
        places.append(Slot(f"place {p}", tuple(options)))
    problem = ChoiceProblem(places)
    highest = problem.best().costs
    began = perf_counter()
    found = problem.best({name: 0.6 * amount for name, amount in highest.items()})
    assert perf_counter() - began < 10.0
    assert found.proven


PRINTING = """
import ctypes
from nas.engines.exact import milp as module
from nas.engines.exact.integer_program import ChoiceProblem
from nas.engines.exact.slots import Option, Slot
c, solve = ctypes.CDLL(None), module.milp
def milp(*given, **more):
    c.printf(b"from the solver\\n")
    return solve(*given, **more)
module.milp = milp
options = [[Option(score, score) for score in (2.0, 1.0)] for _ in range(2)]
print("python")
c.puts(b"before")
found = ChoiceProblem([Slot(str(i), tuple(each)) for i, each in enumerate(options)]).best()
if found is None or CLOSED:
    raise SystemExit(3)
print("after")
"""


@pytest.mark.parametrize("buffered", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_what_the_solver_prints_stays_out_of_the_output(buffered: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    environment |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", "CLOSED = False\n" + PRINTING]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert sorted(done.stdout.split()) == ["after", "before", "python"]
    closed = f"exec {shlex.quote(sys.executable)} -c {shlex.quote('CLOSED = True' + PRINTING)} >&-"
    assert subprocess.run(["sh", "-c", closed], env=environment, stderr=subprocess.PIPE).returncode == 3
