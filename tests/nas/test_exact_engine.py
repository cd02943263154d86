"""The exact engine: budgets are kept, a killed search goes on, scores that do not add up are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evaluators.blockwise.replacement import Replacements
from foundation.errors import SettingError, UnknownName
from nas.engines.base import PROPOSED_BY, Setup, engines, make_engine
from nas.engines.exact.additivity import additivity
from nas.engines.exact.costs import Costs
from nas.engines.exact.engine import Exact, Instead, spread
from nas.engines.exact.greedy import greedy
from nas.engines.exact.integer_program import Unreachable
from nas.engines.exact.parent import best_parent
from nas.engines.exact.slots import Solution
from nas.engines.exact.tables import deviation, scored_space
from nas.progress import Progress
from nas.study.constraints import Constraint, first_violation
from nas.study.plan import Plan
from search_spaces.spaces import spaces
from tests.evaluators.test_alignment import small_space as learning_space
from tests.hw_profiles.tiny import registered
from tests.nas.little import TASK, little_setup


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return little_setup(tmp_path, "exact", ("recall_error", "decode_ms", "weight_bytes"), 40)


def small_engine(**more: Any) -> Exact:
    return Exact(**{"windows": 4, "points": 8, "networks": 6, "least_tau": -1.0, **more})


def test_what_is_found_keeps_the_constraints_and_is_proposed_first(setup: Setup) -> None:
    facts: dict[str, Any] = {}
    dice = Random(0)
    specs = [setup.space.close(setup.space.sample(dice)) for _ in range(50)]
    costs = Costs(replace(setup, plan=replace(setup.plan, constraints=("decode_ms<1e9",))))
    middle = sorted(costs.totals["decode_ms"](specs))[15]
    plan = replace(setup.plan, constraints=(f"decode_ms<{middle}", "params>=1"))
    setup = replace(setup, plan=plan, note=facts.__setitem__)
    prepared = small_engine().prepare(setup)
    assert prepared.evaluator is None
    told = facts["exact"]
    assert told["searched_by"] == "exact"
    assert told["proven"]
    assert -1 <= told["orders_trials"] <= 1
    assert len(told["networks"]) == told["additivity"]["n"] == 6
    assert told["swept"] == ["decode_ms", "weight_bytes"]
    assert all(error < 1e-6 for error in told["costs"].values())
    constraints = [Constraint.parse(text) for text in plan.constraints]
    found = min(told["found"], 30)
    for number in range(found):
        proposal = prepared.strategy.ask(number)
        assert proposal.memo[PROPOSED_BY] == "exact"
        assert first_violation(constraints, setup.space.close(proposal.genotype), setup.cost_model) is None
    assert prepared.strategy.ask(found).memo[PROPOSED_BY] == "random"
    assert found > 3


def test_costs_of_parts_add_up_to_the_tables_predictions(setup: Setup) -> None:
    assert setup.evaluator is not None
    plan = replace(
        setup.plan, objectives=("recall_error", "prefill_ms", "decode_ms", "state_bytes", "params")
    )
    setup = replace(setup, plan=plan, goals=[(name, False) for name in plan.objectives])
    parent = best_parent(setup, setup.evaluator)
    scores = Replacements(setup.evaluator.supernet, parent, TASK, windows=2).measure()
    costs = Costs(setup)
    net = scored_space(setup.space, parent, scores, costs.totals)
    assert all(error < 1e-9 for error in deviation(net, costs.totals).values())
    assert sorted(costs.totals) == ["decode_ms", "params", "prefill_ms", "state_bytes"]


def test_a_bound_that_nothing_keeps_names_the_least(setup: Setup) -> None:
    plan = replace(setup.plan, constraints=("weight_bytes<10",))
    with pytest.raises(Unreachable, match="weight_bytes is at least"):
        small_engine().prepare(replace(setup, plan=plan))


def test_a_second_run_measures_nothing_again_and_finds_the_same(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = small_engine(align=2, batch=2)
    first = engine.prepare(setup)
    known = json.loads((setup.folder / "scores.json").read_text())
    assert len(known["scores"]) > 20
    monkeypatch.setattr(Replacements, "score", lambda *_: pytest.fail("a score was measured again"))
    again = engine.prepare(setup)
    for number in range(12):
        assert first.strategy.ask(number).genotype == again.strategy.ask(number).genotype


def test_scores_that_do_not_add_up_are_told_and_auto_searches(setup: Setup) -> None:
    facts: dict[str, Any] = {}
    heard = Heard()
    setup = replace(setup, note=facts.__setitem__, progress=heard)
    prepared = small_engine(least_tau=1.0, networks=12).prepare(setup)
    assert isinstance(prepared.strategy, Instead)
    assert facts["exact"]["searched_by"] == "auto"
    assert "do not add up" in facts["exact"]["warning"]
    assert any("do not add up" in text for text in heard.said)
    assert prepared.strategy.ask(0).memo[PROPOSED_BY] == "auto"


def test_every_beginning_of_the_found_is_spread() -> None:
    found = [Solution((i,), {}, float(i), {}) for i in range(11)]
    order = [one.picks[0] for one in spread(found)]
    assert sorted(order) == list(range(11))
    assert order[:3] == [0, 10, 5]
    assert spread([]) == []
    assert [one.picks[0] for one in spread(found[:1])] == [0]


def test_the_sum_of_random_scores_tells_nothing_and_of_right_ones_everything() -> None:
    dice = Random(3)
    real = [dice.uniform(0.1, 2.0) for _ in range(40)]
    right = additivity([0.5 * value for value in real], real)
    assert right.tau == pytest.approx(1.0)
    assert right.ratio == pytest.approx(2.0)
    assert right.error == pytest.approx(0.0, abs=1e-12)
    assert right.holds()
    wrong = additivity([dice.uniform(0.1, 2.0) for _ in real], real)
    assert abs(wrong.tau) < 0.35
    assert wrong.tau_low < wrong.tau < wrong.tau_high
    assert wrong.error_low <= wrong.error <= wrong.error_high
    assert not wrong.holds()
    assert not additivity([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]).holds()
    with pytest.raises(SettingError, match="three networks"):
        additivity([1.0], [1.0])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"points": 0}, "points must be"),
        ({"align": -1}, "align must be"),
        ({"windows": 1}, "windows must be"),
        ({"networks": 2.5}, "networks must be"),
        ({"least_tau": 2}, "least_tau must be"),
        ({"seconds": 0}, "seconds must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Exact(**settings)


def test_plans_that_it_cannot_search_are_refused_at_once() -> None:
    assert engines["exact"] is Exact
    engine = Exact()
    with pytest.raises(SettingError, match="an objective must be learned"):
        make_engine(Plan(objectives=("params",), engine="exact"))
    with pytest.raises(SettingError, match="the function mine cannot say"):
        engine.check(learning_space(), Plan(objectives=("bits_per_byte", "mine"), engine="exact"))
    with pytest.raises(SettingError, match="leave fewer values open"):
        engine.check(spaces["hybrid_lm"](), Plan(objectives=("bits_per_byte",), engine="exact"))
    with pytest.raises(UnknownName, match="no setting 'pionts'"):
        make_engine(Plan(engine="exact", settings={"pionts": 3}))


def test_greedy_never_beats_the_choice_over_a_real_table(setup: Setup) -> None:
    assert setup.evaluator is not None
    parent = best_parent(setup, setup.evaluator)
    scores = Replacements(setup.evaluator.supernet, parent, TASK, windows=2).measure()
    net = scored_space(setup.space, parent, scores, Costs(setup).totals)
    most = net.problem.best().costs
    for share in (0.6, 0.8, 0.95):
        budgets = {name: share * amount for name, amount in most.items()}
        try:
            found = net.problem.best(budgets)
        except Unreachable:
            continue
        rough = greedy(net.problem, budgets)
        assert rough is None or found.score <= rough.score + 1e-12
