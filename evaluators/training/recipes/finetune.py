"""AdamW at 0.3 of the rates, which fall to a tenth of that: for weights that have learned before."""

from __future__ import annotations

from evaluators.training.recipe import Recipe
from evaluators.training.recipes import recipes
from evaluators.training.schedules.linear import Linear


@recipes.add
def finetune() -> Recipe:
    """At whole rates a short training loses at first what was learned."""
    return Recipe(rate=0.3, schedule=Linear())
