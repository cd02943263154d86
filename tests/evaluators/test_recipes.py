"""Ready-made recipes, recipes in files, and the laws that carry rates to other batches and horizons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import BASE_STEPS, BASE_TOKENS, LARGEST_SCALE, Recipe
from evaluators.training.recipes import recipes
from foundation.errors import FileError, SettingError, UnknownName
from search_spaces.network.model import build
from tests.evaluators import tiny

tokens = st.integers(1, 2**24)


@pytest.mark.parametrize("name", list(recipes))
def test_a_ready_made_recipe_is_a_value_with_a_name_and_a_file(name: str, tmp_path: Path) -> None:
    recipe = Recipe.from_word(name)
    (tmp_path / "mine.json").write_text(json.dumps(recipe.to_plain()))
    assert Recipe.from_word(str(tmp_path / "mine.json")) == recipe
    assert [other for other in recipes if Recipe.from_word(other) == recipe] == [name]


def test_the_default_is_the_default() -> None:
    assert Recipe.from_word("default") == Recipe()


def test_a_word_that_is_no_recipe_is_answered(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown recipe 'trapezoit'; did you mean 'trapezoid'"):
        Recipe.from_word("trapezoit")
    with pytest.raises(FileError, match="no such file"):
        Recipe.from_word(str(tmp_path / "mine.json"))
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(SettingError, match="holds no recipe: write settings by name"):
        Recipe.from_word(str(tmp_path / "mine.json"))
    (tmp_path / "mine.json").write_text('{"clpi": 1}')
    with pytest.raises(UnknownName, match="did you mean 'clip'"):
        Recipe.from_word(str(tmp_path / "mine.json"))


def test_what_differs_between_two_recipes_is_told() -> None:
    other = Recipe().with_settings({"optimizer.decay": 0.2, "schedule": "trapezoid", "supernet.networks": 2})
    told = Recipe().unlike(other)
    assert told.startswith("optimizer.decay=0.1, not 0.2; schedule.name=inverse_sqrt, not trapezoid; ")
    assert told.endswith("supernet.networks=4, not 2")
    assert not Recipe().unlike(Recipe())


@given(tokens, st.none() | st.integers(1, 10**6))
def test_without_laws_and_at_the_base_rates_stay(tokens: int, steps: int | None) -> None:
    assert Recipe(batch_law="none").scale(tokens, steps) == 1
    assert Recipe().scale(BASE_TOKENS, steps) == 1
    lawful = Recipe(batch_law="sqrt", horizon_law="power")
    assert lawful.scale(BASE_TOKENS, BASE_STEPS) == lawful.scale(BASE_TOKENS, None) == 1


@given(tokens, tokens)
def test_rates_grow_with_a_root_of_the_batch_within_a_bound(few: int, many: int) -> None:
    few, many = sorted((few, many))
    assert Recipe().scale(16 * BASE_TOKENS, None) == 2
    scale = Recipe(batch_law="sqrt").scale
    assert 1 / LARGEST_SCALE <= scale(few, 9) <= scale(many, 9) <= LARGEST_SCALE
    assert scale(4 * BASE_TOKENS, None) == 2
    assert scale(10**3 * BASE_TOKENS, None) == LARGEST_SCALE


def test_rates_fall_with_a_power_of_the_horizon() -> None:
    law = Recipe(horizon_law="power", batch_law="none")
    assert law.scale(BASE_TOKENS, 10 * BASE_STEPS) == pytest.approx(10**-0.32)
    assert law.scale(10 * BASE_TOKENS, BASE_STEPS) == pytest.approx(10**-0.32)
    assert law.scale(10 * BASE_TOKENS, None) == 1


def test_laws_reach_the_rates_of_a_training_and_the_name_of_its_weights(tmp_path: Path) -> None:
    def training(recipe: Recipe) -> NetworkTraining:
        task = tiny.task(tmp_path, length=16)
        return NetworkTraining(build(tiny.decoder()), task, steps=50, seed=0, batch=32, recipe=recipe)

    def first_rates(recipe: Recipe) -> list[float]:
        learning = training(recipe)
        learning.learn()
        return [float(group["lr"]) for group in learning.optimizer.param_groups]

    law = Recipe(batch_law="sqrt")  # 32 x 16 tokens are a quarter of the base
    assert first_rates(law) == pytest.approx([rate / 2 for rate in first_rates(Recipe(batch_law="none"))])
    horizon = Recipe(horizon_law="power")
    assert first_rates(horizon) == first_rates(Recipe())  # the default schedule has no horizon
    assert len({training(recipe).trajectory.digest for recipe in (law, horizon, Recipe())}) == 3
