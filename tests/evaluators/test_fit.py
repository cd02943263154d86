"""The one loop: every kind of training continues after a stop at any step, to equal weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from evaluators.blockwise.alignment import Alignment
from evaluators.differentiable.search import DifferentiableSearch
from evaluators.differentiable.settings import SearchSettings
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.shrinking import SHRINKING
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.recall import Recall
from evaluators.training import checkpoints
from evaluators.training.curve import Curve
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.optimizers.muon import Muon
from evaluators.training.recipe import Recipe
from evaluators.training.schedules.trapezoid import Trapezoid
from evaluators.training.trainable import Trainable
from foundation.errors import EvaluationFailed, SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.supernet import Supernet

fitting = importlib.import_module("evaluators.training.fit")  # beside its function of the same name
TASK = Recall(tokens=12, length=9, pairs=2, sequences=200, windows=8)
STEPS = 8
LARGE = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=4), channel_mixer=SwiGLU(expansion=2)
)
PARENT = Decoder(vocab=12, d_model=8, layers=(LARGE,))
RECIPES = {
    "default": Recipe(supernet=SupernetRecipe(phases=SHRINKING)),
    "bfloat16": Recipe(precision="bfloat16", clip=None),
    "muon": Recipe(optimizer=Muon(), supernet=SupernetRecipe(phases=SHRINKING, sort="norm")),
    "trapezoid": Recipe(schedule=Trapezoid(warm_up=2, cool_down=0.5)),
}


def space() -> Space:
    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=4), ShortConv()),
        channel_mixer=SwiGLU(expansion=one_of(1, 2)),
    )
    return Space(Decoder(vocab=12, d_model=8, layers=(layer,)), name="small")


def of_network(recipe: Recipe) -> Trainable:
    return NetworkTraining(build(PARENT, seed=3), TASK, steps=STEPS, seed=3, batch=4, recipe=recipe)


def of_supernet(recipe: Recipe) -> Trainable:
    return SupernetTraining(space(), TASK, steps=STEPS, seed=3, batch=4, recipe=recipe)


def of_alignment(recipe: Recipe) -> Trainable:
    supernet = Supernet(space(), seed=3)
    return Alignment(supernet, PARENT, TASK, steps=STEPS, seed=3, batch=4, recipe=recipe)


def of_search(recipe: Recipe, variant: str = "first") -> Trainable:
    settings = SearchSettings(variant=variant, steps=STEPS, batch=4, watch_every=3, guard=False)
    return DifferentiableSearch(Supernet(space(), seed=3), TASK, settings, seed=3, recipe=recipe)


def of_logits(recipe: Recipe) -> Trainable:
    return of_search(recipe, "modern")


KINDS: list[Callable[[Recipe], Trainable]] = [of_network, of_supernet, of_alignment, of_search, of_logits]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def assert_equal(one: Trainable, other: Trainable) -> None:
    mine, theirs = one.tensors(), other.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@every_kind
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_training_that_stops_anywhere_ends_with_equal_weights(
    kind: Callable[[Recipe], Trainable], recipe: Recipe, tmp_path: Path
) -> None:
    whole, steps = kind(recipe), list[int]()
    curve = fit(whole)
    assert [row[0] for row in curve.loss] == list(range(1, STEPS + 1))
    stop = Random(f"{kind.__name__}/{recipe.precision}").randrange(1, STEPS)

    def report(step: int, loss: float) -> None:
        steps.append(step)
        assert math.isfinite(loss)
        if len(steps) == stop:
            raise KeyboardInterrupt

    curve_file = tmp_path / "curve.json"
    with pytest.raises(KeyboardInterrupt):
        fit(kind(recipe), folder=tmp_path, on_step=report, curve_file=curve_file, save_seconds=0.0)
    again = kind(recipe)
    continued = fit(again, folder=tmp_path, on_step=report, curve_file=curve_file)
    assert steps == [*range(1, stop + 1), *range(stop, STEPS + 1)]  # step `stop` was not saved yet
    assert continued.loss == curve.loss
    assert Curve.read(curve_file, STEPS).loss == curve.loss
    assert_equal(again, whole)
    assert fit(kind(recipe), folder=tmp_path, on_step=report).loss == []  # nothing is left to do
    assert len(list(tmp_path.glob("*.safetensors"))) == (2 if 0 < whole.shared_steps < STEPS else 1)


@every_kind
def test_another_recipe_is_another_training(kind: Callable[[Recipe], Trainable], tmp_path: Path) -> None:
    fit(kind(Recipe()), folder=tmp_path)
    other = kind(Recipe(rate=2.0, clip=0.5))
    assert checkpoints.resume(other, tmp_path, STEPS) == 0


@every_kind
def test_bfloat16_learns_nearly_the_same(kind: Callable[[Recipe], Trainable]) -> None:
    full, low = (fit(kind(Recipe(precision=precision))).loss for precision in ("float32", "bfloat16"))
    assert full != low
    assert [row[1] for row in low] == pytest.approx([row[1] for row in full], abs=0.2)


@pytest.mark.parametrize("kind", [of_network, of_supernet, of_alignment, of_search])
def test_a_training_may_start_from_given_weights(kind: Callable[[Recipe], Trainable], tmp_path: Path) -> None:
    first = kind(Recipe())
    fit(first, folder=tmp_path)
    weights = {name: weight.detach().clone() for name, weight in first.parameters.items()}
    second, third = kind(Recipe()), kind(Recipe())
    fit(second, start=weights, until=0)
    assert all(torch.equal(second.parameters[name], weight) for name, weight in weights.items())
    assert second.trajectory.origin
    fit(second, folder=tmp_path, until=2)  # the checkpoint of the first is not taken up
    assert second.step == 2
    fit(third, start=weights, folder=tmp_path)
    assert third.step == STEPS
    assert third.trajectory == second.trajectory


def test_weights_that_do_not_fit_are_refused() -> None:
    training = of_network(Recipe())
    weights = {name: weight.detach() for name, weight in training.parameters.items()}
    with pytest.raises(SettingError, match="norm has shape"):
        training.start_from({**weights, "norm": torch.ones(3)})
    with pytest.raises(SettingError, match="extra is not in both"):
        training.start_from({**weights, "extra": torch.ones(3)})
    fit(training, until=1)
    with pytest.raises(SettingError, match="has done 1 steps"):
        training.start_from(weights)


@every_kind
def test_a_loss_that_is_not_finite_ends_a_training(kind: Callable[[Recipe], Trainable]) -> None:
    training = kind(Recipe())
    fit(training, until=2)
    broken = training.parameters or training.weights  # type: ignore[attr-defined]  # logits alone
    with torch.no_grad():
        for weight in broken.values():
            weight.fill_(math.nan)
    with pytest.raises(EvaluationFailed, match="is nan at step 3"):
        fit(training)
    assert training.step == 2


def test_checkpoints_that_take_long_are_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, expected in ((0.5, [2, 4, 6, 8]), (10.0, [2, 8])):
        clock, saved = [0.0], list[int]()

        def save(training: Trainable, folder: Path, now: list[float] = clock, took: float = seconds) -> None:
            saved.append(training.step)  # noqa: B023
            now[0] += took

        def after(step: int, loss: float, now: list[float] = clock) -> None:
            now[0] += 25

        monkeypatch.setattr(fitting, "monotonic", lambda now=clock: now[0])
        monkeypatch.setattr(checkpoints, "save", save)
        fit(of_network(Recipe()), folder=tmp_path, on_step=after)
        assert saved == expected
