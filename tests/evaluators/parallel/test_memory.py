"""Bytes of a training: what is predicted is what processes hold, and budgets of activations are kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.training.parallel import kept_bytes
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.parallel import memory
from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import make_grid
from evaluators.training.parallel.plans import plans_of
from evaluators.training.process_group import ProcessGroup
from foundation.errors import SettingError
from tests.evaluators.parallel.networks import HYBRID, TRANSFORMER, course

FORMS = ("dp=2", "dp=2,dp.zero=1", "fsdp=2", "fsdp=2,fsdp.reshard=false", "tp=2", "pp=2")

KINDS = ("weights", "gradients", "optimizer")


def test_processes_hold_what_is_predicted(tmp_path: Path) -> None:
    courses = {text: course(HYBRID, tmp_path / text, text, accumulate=2) for text in FORMS}
    measured: list[float] = []
    measure = partial(_measure, tuple(courses.values()))
    train_distributed(measure, 2, on_step=lambda step, held: measured.append(held), share_cpus=True)
    numbers = iter(measured)
    for text, made in courses.items():
        predicted = memory.held_by(made, memory.trace_of(made), 0)
        for kind in KINDS:
            # an optimizer keeps its number of steps beside the states, 4 bytes a parameter
            assert next(numbers) == pytest.approx(getattr(predicted, kind), rel=0.02), f"{kind} by {text}"


def _measure(courses: tuple[Course, ...], on_step: OnStep | None, *, process_group: ProcessGroup) -> None:
    for made in courses:
        grid = make_grid(made.parallel.sizes, device="cpu")
        training = runs.opened(made, grid, 0)
        training.learn()
        held = training.held()
        for number, kind in enumerate(KINDS):
            if on_step is not None:
                on_step(number, float(held[kind]))


def test_zero_divides_one_more_of_them_by_each_stage(tmp_path: Path) -> None:
    def held(text: str) -> memory.Held:
        made = course(TRANSFORMER, tmp_path / text, text)
        return memory.most_held(made, memory.trace_of(made))

    alone, first, third = held(""), held("dp=4,dp.zero=1"), held("fsdp=2")
    assert first.weights == first.gradients == alone.weights
    assert first.optimizer < alone.optimizer / 2
    assert third.weights == third.gradients == alone.weights / 2
    assert third.optimizer == alone.optimizer / 2
    assert held("fsdp=2,fsdp.reshard=false").gathered == alone.weights
    assert held("dp=2").activations < alone.activations


def saved_bytes(made: Course, recomputed: tuple[int, ...]) -> int:
    """What autograd keeps in a step."""
    training = runs.opened(replace(made, recomputed=recomputed), make_grid({}, device="cpu"), 0)
    return kept_bytes(training, made)


def test_what_is_recomputed_is_not_kept(tmp_path: Path) -> None:
    made = course(HYBRID, tmp_path)
    kept = [saved_bytes(made, recomputed) for recomputed in ((), (0,), (0, 1))]
    assert kept[0] > 1.5 * kept[1] > 1.5 * kept[2]
    trace = memory.trace_of(made)
    assert trace["0"].of(made.batch) == pytest.approx(kept[0] - kept[1], rel=0.1)


def test_a_budget_recomputes_as_few_layers_as_it_can(tmp_path: Path) -> None:
    made = course(replace(TRANSFORMER, layers=TRANSFORMER.layers * 3), tmp_path)
    trace = memory.trace_of(made)
    most = memory.most_held(made, trace).activations
    assert memory.recomputed_within(made, trace, memory.UNLIMITED) == ()
    assert memory.recomputed_within(made, trace, most) == ()
    assert len(memory.recomputed_within(made, trace, 0)) == 6
    some = memory.recomputed_within(made, trace, most * 3 // 4)
    assert 0 < len(some) < 6
    assert memory.most_held(replace(made, recomputed=some), trace).activations <= most * 3 // 4
    with pytest.raises(SettingError, match="with every layer recomputed, activations take"):
        memory.recomputed_within(made, trace, 1000)


def test_a_plan_has_every_method_and_says_why_not(tmp_path: Path) -> None:
    plans = list(plans_of(course(TRANSFORMER, tmp_path, "dp=4")))
    assert str(plans[0].parallel) == "dp=4"
    refused = {str(plan.parallel): plan.why_not for plan in plans if plan.held is None}
    assert set(refused) == {"tp=4", "pp=4"}
    assert "this network has 2" in refused["pp=4"]
