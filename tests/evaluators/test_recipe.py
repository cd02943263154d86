"""Recipes are plain values, checked, and part of what names a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.supernet.recipe import SORTS, SupernetRecipe
from evaluators.supernet.shrinking import DIMENSIONS, SHRINKING, WHOLE, Phase
from evaluators.training import checkpoints
from evaluators.training.execution import Execution
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.optimizers.adamw import AdamW
from evaluators.training.optimizers.base import Optimizer
from evaluators.training.recipe import BATCH_LAWS, HORIZON_LAWS, PRECISIONS, Recipe
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from evaluators.training.schedules.linear import Linear
from evaluators.training.schedules.trapezoid import Trapezoid
from foundation.errors import SettingError, UnknownName
from search_spaces.network.model import build
from tests.evaluators import tiny

shares = st.floats(0, 1)
betas = st.floats(0, 1, exclude_max=True)
positive = st.floats(1e-6, 1e6)
schedules = (
    st.builds(InverseSqrt, warm_up=st.integers(1, 99), constant=st.integers(1, 999))
    | st.builds(Linear, warm_up=st.integers(1, 99), floor=shares)
    | st.builds(Trapezoid, cool_down=shares, cool_down_steps=st.none() | st.integers(0, 99), floor=shares)
)
phases = st.builds(
    Phase, st.text(), st.sets(st.sampled_from(DIMENSIONS)).map(lambda varies: tuple(sorted(varies))), positive
)
supernets = st.builds(
    SupernetRecipe,
    schedule=schedules,
    rate=positive,
    phases=st.lists(phases, min_size=1, max_size=4).map(tuple),
    sort=st.sampled_from(SORTS),
    networks=st.integers(1, 9),
    distill=shares,
    favour=shares,
)
recipes = st.builds(
    Recipe,
    optimizer=st.builds(AdamW, decay=st.floats(0, 2), independent=st.booleans(), beta1=betas, beta2=betas),
    schedule=schedules,
    rate=positive,
    clip=st.none() | positive,
    precision=st.sampled_from(PRECISIONS),
    batch_law=st.sampled_from(list(BATCH_LAWS)),
    horizon_law=st.sampled_from(HORIZON_LAWS),
    supernet=supernets,
)


@given(recipes)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.from_plain(json.loads(json.dumps(recipe.to_plain()))) == recipe


@given(recipes, recipes)
def test_recipes_name_what_they_decide(one: Recipe, other: Recipe) -> None:
    assert (one.of_networks() == other.of_networks()) <= (one.optimizer == other.optimizer)
    assert (one.to_plain() == other.to_plain()) == (one == other)


def test_the_defaults() -> None:
    assert Recipe().to_plain() == {
        "optimizer": {"name": "adamw", "decay": 0.1, "independent": False, "beta1": 0.9, "beta2": 0.95},
        "schedule": {"name": "inverse_sqrt", "warm_up": 20, "constant": 100},
        "rate": 1.0,
        "clip": 1.0,
        "precision": "auto",
        "batch_law": "fourth_root",
        "horizon_law": "none",
        "block_rates": (),
        "supernet": {
            "schedule": {"name": "linear", "warm_up": 20, "floor": 0.1},
            "rate": 1.5,
            "phases": ({"name": "whole", "varies": DIMENSIONS, "share": 1.0},),
            "sort": "effect",
            "networks": 4,
            "distill": 0.0,
            "favoured": (),
            "favour": 0.5,
        },
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": 0}, "clip must be positive"),
        ({"clip": "0"}, "clip must be positive"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"precision": "int8"}, "precision must be one of auto, float32, tf32, bfloat16"),
        ({"optimizer.decay": -1}, "decay must be at least 0"),
        ({"optimizer.beta1": 1.5}, "beta1 must be less than 1"),
        ({"schedule.warm_up": 0}, "warm_up must be at least 1"),
        ({"supernet.networks": 0}, "networks must be at least 1"),
        ({"supernet.distill": 2}, "distill must be at most 1"),
        ({"supernet.rate": 0}, "rate must be positive"),
        ({"supernet.phases": ()}, "phases must not be empty: write whole or shrinking"),
        ({"supernet.sort": "size"}, "sort must be one of effect, norm, none"),
        ({"supernet.schedule.floor": 2}, "floor must be at most 1"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Recipe().with_settings(changes)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("optimiser", "did you mean 'optimizer'"),
        ("supernet.distil", "did you mean 'supernet.distill'"),
        ("schedule.constnt", "did you mean 'schedule.constant'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownName, match=hint):
        Recipe().with_settings({name: "1"})


def test_words_of_a_command_line_change_a_recipe() -> None:
    changed = Recipe().with_settings(
        {
            "supernet.phases": "shrinking",
            "schedule": "linear",
            "schedule.floor": "0.3",
            "clip": "none",
            "precision": "bfloat16",
        }
    )
    assert changed.supernet.phases == SHRINKING
    assert changed.schedule == Linear(floor=0.3)
    assert (changed.clip, changed.precision) == (None, "bfloat16")
    assert changed.with_settings({"supernet.phases": "whole"}).supernet.phases == WHOLE
    with pytest.raises(UnknownName, match="unknown optimizer 'adamv'; did you mean 'adamw'"):
        Recipe().with_settings({"optimizer": "adamv"})


def test_sorting_by_effect_needs_squared_gradients() -> None:
    class Plain(Optimizer):
        name = "plain"

        def build(self, groups: list[dict[str, Any]]) -> Any:
            raise NotImplementedError

    assert Recipe(optimizer=Plain()).supernet.phases == WHOLE
    with pytest.raises(SettingError, match="which plain does not keep: choose sort=norm"):
        Recipe(optimizer=Plain(), supernet=SupernetRecipe(phases=SHRINKING))
    Recipe(optimizer=Plain(), supernet=SupernetRecipe(phases=SHRINKING, sort="norm"))


@pytest.mark.parametrize(
    "wrong", [{"accumulate": 0}, {"accumulate": True}, {"compile": "yes"}, {"checkpoint_activations": 1}]
)
def test_execution_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Execution(**wrong)


def test_a_network_of_another_recipe_is_another_training(tmp_path: Path) -> None:
    def training(changes: dict[str, Any]) -> NetworkTraining:
        recipe = Recipe().with_settings(changes)
        return NetworkTraining(
            build(tiny.decoder()), tiny.task(tmp_path), steps=2, seed=0, batch=4, recipe=recipe
        )

    fit(training({}), folder=tmp_path)
    for changes in ({"optimizer.decay": 0.2}, {"schedule": "linear"}, {"rate": 2}, {"clip": None}):
        assert checkpoints.resume(training(changes), tmp_path, 2) == 0
    assert checkpoints.resume(training({"supernet.networks": 2}), tmp_path, 2) == 2


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ("", "which optimizer\\? give its name: adamw"),
        ("decay=0.2", "which optimizer\\? give its name: adamw"),
        ({"name": ["adamw"]}, "optimizer: a name is text"),
        ({"name": 0.5}, "optimizer: a name is text"),
    ],
)
def test_an_optimizer_without_a_name_is_refused(optimizer: object, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Recipe.from_plain({"optimizer": optimizer})


def test_a_name_among_the_settings_of_an_optimizer_is_its_kind() -> None:
    assert Recipe.from_plain({"optimizer": "name=adamw,decay=0.2"}).optimizer == AdamW(decay=0.2)
