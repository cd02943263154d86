"""The cool-down of a trapezoid can be taken from any length of the constant phase, and survives a kill."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.recall import Recall
from evaluators.training import checkpoints
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from evaluators.training.schedules.trapezoid import Trapezoid
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from tests.forks import Fork

TASK = Recall(tokens=12, length=9, pairs=2, sequences=200, windows=8)
SPEC = Decoder(vocab=12, d_model=8, layers=(Layer(sequence_mixer=ShortConv()),))
RECIPE = Recipe(schedule=Trapezoid(warm_up=2, cool_down=0.4))
trapezoids = st.builds(
    Trapezoid,
    warm_up=st.integers(1, 99),
    cool_down=st.floats(0, 1),
    cool_down_steps=st.none() | st.integers(0, 999),
    form=st.sampled_from(["linear", "one_sqrt"]),
    floor=st.floats(0, 0.9),
)


def training(steps: int, recipe: Recipe = RECIPE) -> NetworkTraining:
    return NetworkTraining(build(SPEC, seed=1), TASK, steps=steps, seed=1, batch=4, recipe=recipe)


def same(one: NetworkTraining, other: NetworkTraining) -> bool:
    return all(torch.equal(weight, other.parameters[name]) for name, weight in one.parameters.items())


@given(trapezoids, st.integers(1, 3000))
def test_a_share_falls_without_a_jump_from_the_peak_to_above_the_floor(
    schedule: Trapezoid, steps: int
) -> None:
    shared = schedule.shared(steps)
    fall = [schedule.share(step, steps) for step in range(max(1, shared), steps + 1)]
    assert 0 <= shared <= steps
    if shared < schedule.warm_up:
        return
    assert fall[0] == pytest.approx(1)
    assert fall[-1] > schedule.floor - 1e-12
    length = steps - shared + 1
    largest = (1 - schedule.floor) / (length if schedule.form == "linear" else length**0.5)
    assert all(-1e-9 <= before - after <= largest + 1e-9 for before, after in pairwise(fall))


@given(trapezoids, st.integers(1, 3000), st.integers(0, 3000), st.data())
def test_before_the_cool_down_every_longer_training_has_the_same_share(
    schedule: Trapezoid, steps: int, more: int, data: st.DataObject
) -> None:
    shared = schedule.shared(steps)
    assert schedule.shared(steps + more) >= shared
    if shared:
        step = data.draw(st.integers(1, shared))
        assert schedule.share(step, steps) == schedule.share(step, steps + more)


def test_the_forms_of_a_cool_down() -> None:
    linear, root = (Trapezoid(warm_up=1, cool_down_steps=3, form=form) for form in ("linear", "one_sqrt"))
    assert [linear.share(step, 10) for step in (6, 7, 8, 9, 10)] == [1, 1, 0.75, 0.5, 0.25]
    assert [root.share(step, 10) for step in (7, 8, 10)] == pytest.approx([1, 0.5, 1 - 0.75**0.5])
    assert [linear.shared(steps) for steps in (2, 3, 10)] == [0, 0, 7]
    assert [Trapezoid().shared(steps) for steps in (1, 10, 100)] == [1, 8, 80]


def test_a_longer_training_goes_on_from_before_the_cool_down_of_a_shorter_one(tmp_path: Path) -> None:
    fit(training(10), folder=tmp_path)
    assert sorted(map(checkpoints.step_of, tmp_path.glob("*.safetensors"))) == [6, 10]
    longer, alone = training(20), training(20)
    assert checkpoints.resume(longer, tmp_path, 20) == 6
    fit(longer, folder=tmp_path)
    fit(alone)
    assert same(longer, alone)
    again = training(10)
    assert checkpoints.resume(again, tmp_path, 10) == 10


def test_a_shorter_training_takes_no_checkpoint_from_beyond_its_constant_phase(tmp_path: Path) -> None:
    fit(training(20), folder=tmp_path)  # its constant phase ends at 12, that of the shorter one at 6
    assert checkpoints.resume(training(10), tmp_path, 10) == 0


def test_finalists_of_a_further_rung_learn_only_what_is_new(tmp_path: Path) -> None:
    evaluator = FromScratch(TASK, str(tmp_path), batch=4, recipe=RECIPE)
    steps = list[int]()
    evaluator.score(SPEC, 10, 1)
    score = evaluator.score(SPEC, 20, 1, on_step=lambda step, loss: steps.append(step))
    assert steps == list(range(7, 21))
    assert score.value == FromScratch(TASK, batch=4, recipe=RECIPE).score(SPEC, 20, 1).value


def test_where_the_rate_depends_on_the_horizon_nothing_is_shared(tmp_path: Path) -> None:
    recipe = Recipe(schedule=RECIPE.schedule, horizon_law="power")
    fit(training(10, recipe), folder=tmp_path)
    assert checkpoints.resume(training(20, recipe), tmp_path, 20) == 0
    assert checkpoints.resume(training(10, recipe), tmp_path, 10) == 10


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(schedule=Trapezoid(cool_down=1))])
def test_a_kill_at_any_step_is_resumed_to_the_same_weights(recipe: Recipe, tmp_path: Path) -> None:
    whole = training(10, recipe)
    fit(whole)
    for killed in (3, 6, 7, 9):
        folder = tmp_path / str(killed)
        assert Fork(train_and_die, str(folder), killed, recipe).wait().returncode == -signal.SIGKILL
        assert checkpoints.resume(training(10, recipe), folder, 10) == killed - 1
        resumed = training(10, recipe)
        fit(resumed, folder=folder)
        assert same(resumed, whole)


def train_and_die(folder: str, step: int, recipe: Recipe) -> None:
    """Train with a checkpoint after every step, and be killed in the middle of one."""

    def die(done: int, loss: float) -> None:
        if done == step:
            signal.raise_signal(signal.SIGKILL)

    fit(training(10, recipe), folder=Path(folder), on_step=die, save_seconds=0)
