"""AdamW with Muon for hidden matrices: for a network that is to learn more in the same number of steps."""

from __future__ import annotations

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.training.optimizers.muon import Muon
from evaluators.training.recipe import Recipe
from evaluators.training.recipes import recipes


@recipes.add
def muon() -> Recipe:
    """No squared gradients are kept, so a supernet's phases sort by norm."""
    return Recipe(optimizer=Muon(), supernet=SupernetRecipe(sort="norm"))
