"""AdamW at a constant rate that falls in the last fifth of the steps: for finalists, networks to be kept."""

from __future__ import annotations

from evaluators.training.recipe import Recipe
from evaluators.training.recipes import recipes
from evaluators.training.schedules.trapezoid import Trapezoid


@recipes.add
def trapezoid() -> Recipe:
    """A longer training goes on from before the cool-down of a shorter one."""
    return Recipe(schedule=Trapezoid())
