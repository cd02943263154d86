"""AdamW without a horizon, so that any training goes on from a shorter one: for searches and first looks."""

from __future__ import annotations

from evaluators.training.recipe import Recipe
from evaluators.training.recipes import recipes


@recipes.add
def default() -> Recipe:
    """What is taken where no recipe is named."""
    return Recipe()
