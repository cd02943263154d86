"""Every objective: what a number is called, what it is measured in, and where it comes from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from evaluators.tasks.base import tasks
from evaluators.zero_cost.base import zero_costs
from foundation.errors import SettingError
from hw_profiles.roofline.cards import card_named
from hw_profiles.roofline.roofline import Roofline
from nas.objectives.base import CostModel, objectives
from nas.serving.figures import FIGURES
from nas.study.plan import Plan
from nas.study.plan_objectives import (
    asked_objectives,
    goals_of,
    quality_name,
    quality_of,
    recorded_costs,
    scored_names,
    under_all_scenarios,
)
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario
from tests.nas.toys import toy_space

CHAT = Scenario(name="chat", prompt=8, new_tokens=4)
BULK = Scenario(name="bulk", batch=4, prompt=32, new_tokens=4)
LAYER = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8),
    channel_mixer=SwiGLU(expansion=2),
)
SPEC = Decoder(d_model=16, layers=(LAYER,))
SPACE = Space(Decoder(d_model=one_of(8, 16), layers=SPEC.layers), name="widths")


def estimates(*scenarios: Scenario) -> CostModel:
    card = card_named("xeon-1-thread")
    return CostModel.of(scenarios, {scenario: Roofline(card, scenario) for scenario in scenarios})


@pytest.mark.parametrize("name", sorted(objectives))
def test_an_objective_is_computed_from_a_network_or_learned_by_a_task(name: str) -> None:
    objective = objectives[name]
    assert objective.about
    assert objective.label
    assert (objective.cheap is None) == bool(objective.task or objective.zero_cost)
    if objective.task or objective.zero_cost:
        assert objective.task in tasks or objective.name in zero_costs
        return
    assert objective.cheap is not None
    if name in FIGURES:  # of scenarios with arrivals, and tables: tests/nas/serving/test_load.py
        return
    value = objective.cheap(SPEC, estimates(CHAT))
    assert math.isfinite(value.value)
    assert value.value >= 0
    assert value.source in ("counted", "estimate", "predicted", "traced")
    again = objective.cheap(SPEC, estimates(CHAT))
    assert again == value


@pytest.mark.parametrize("name", sorted(tasks))
def test_the_score_of_every_task_is_an_objective(name: str) -> None:
    task = tasks[name]
    objective = objectives[task.score_name]
    assert (objective.task, objective.unit, objective.about) == (name, task.score_unit, task.score_help)
    assert quality_of(Plan(objectives=("params", task.score_name))) == task.score_name


def test_what_needs_a_table_is_ready_where_there_is_one() -> None:
    latency, bytes_ = objectives["decode_ms"], objectives["weight_bytes"]
    without = CostModel.of([CHAT])
    assert not without.ready(latency)
    assert without.ready(bytes_)
    assert estimates(CHAT).ready(latency)


@pytest.mark.parametrize(
    "name", [name for name in sorted(objectives) if objectives[name].per_scenario and name not in FIGURES]
)
def test_under_a_scenario_an_objective_is_that_of_the_scenario(name: str) -> None:
    both = estimates(CHAT, BULK)
    for scenario in (CHAT, BULK):
        asked = objectives[f"{name}@{scenario.name}"]
        plain = objectives[name]
        assert asked.cheap is not None
        assert plain.cheap is not None
        assert asked.cheap(SPEC, both) == plain.cheap(SPEC, estimates(scenario))
    assert [o.name for o in both.variants_of(objectives[name])] == [f"{name}@chat", f"{name}@bulk"]
    assert estimates(CHAT).variants_of(objectives[name]) == [objectives[name]]


def test_a_plan_trades_off_and_bounds_objectives() -> None:
    plan = Plan(objectives=("bits_per_byte", "mine"), constraints=("params<1e6", "decode_ms<5"))
    assert [o.name for o in asked_objectives(plan)] == ["bits_per_byte", "params", "decode_ms"]
    assert goals_of(plan) == [("bits_per_byte", False), ("mine", False)]
    assert quality_name(plan) == "bits_per_byte"


def test_a_study_learns_several_tasks_or_none() -> None:
    nothing = Plan(objectives=("params",))
    assert quality_of(nothing) is None
    with pytest.raises(SettingError, match=r"none of its objectives is one of bits_per_byte, .*recall_error"):
        quality_name(nothing)
    several = Plan(objectives=("params", "recall_error"), constraints=("bits_per_byte<3", "params<2M"))
    assert scored_names(several) == ("recall_error", "bits_per_byte")
    assert quality_of(several) == "recall_error"


def test_every_fast_objective_is_recorded_and_slow_ones_where_they_are_asked_for() -> None:
    plan = Plan(objectives=("params",))
    names = {o.name for o in recorded_costs(SPACE, plan, CostModel.of([CHAT]))}
    assert {"params", "weight_bytes", "decode_flops"} <= names
    assert not names & {"decode_ms", "peak_bytes"}
    asking = Plan(objectives=("params", "peak_bytes"))
    assert "peak_bytes" in {o.name for o in recorded_costs(SPACE, asking, CostModel.of([CHAT]))}
    assert "decode_ms" in {o.name for o in recorded_costs(SPACE, plan, estimates(CHAT))}
    assert recorded_costs(toy_space(), Plan(objectives=("mine",)), CostModel.of([CHAT])) == ()


def test_in_several_scenarios_everything_that_differs_is_asked_under_each() -> None:
    plan = Plan(objectives=("params", "decode_ms"), constraints=("state_bytes<5",))
    assert under_all_scenarios(plan) == plan
    expanded = under_all_scenarios(replace(plan, scenarios=(CHAT, BULK)))
    assert expanded.objectives == ("params", "decode_ms@chat", "decode_ms@bulk")
    assert expanded.constraints == ("state_bytes@chat<5", "state_bytes@bulk<5")
    assert under_all_scenarios(expanded) == expanded
