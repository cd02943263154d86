"""The recipe: everything that decides how weights are learned, as one value.

    Recipe()                                                          # the defaults
    Recipe().with_settings({"supernet.phases": "shrinking", "optimizer.decay": "0.05"})
    Recipe.from_plain(json.loads(text))

It belongs to a study like its scenario, names a training among all others (`Trajectory`), and is the same for
the supernet, for finalists and for networks that are trained alone. Space, task, steps, batch and random seed
are not part of it, nor what changes the work only (`Execution`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.training.optimizers.adamw import AdamW
from evaluators.training.optimizers.base import Optimizer
from evaluators.training.precision import FLOAT32, PRECISIONS
from evaluators.training.schedules.base import Schedule
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from foundation.errors import SettingError
from foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """How weights are learned. Learning rates are the blocks' own, times `rate`, times the schedule's share.

    Raises:
        SettingError: a value that is out of range, or that does not go together with another one.
    """

    optimizer: Optimizer = setting(
        AdamW(), help="How gradients become steps (evaluators.training.optimizers)."
    )
    schedule: Schedule = setting(
        InverseSqrt(), help="Learning rate by step where a network is trained alone (training.schedules)."
    )
    rate: float = setting(
        1.0, help="Factor on the blocks' learning rates where a network is trained alone.", above=0, most=1e6
    )
    clip: float | None = setting(
        1.0, help="Largest norm of the gradients; none: no clipping.", above=0, most=1e9
    )
    precision: str = setting(
        FLOAT32,
        help="Forward and backward pass; weights and optimizer stay in float32.",
        choices=PRECISIONS,
    )
    supernet: SupernetRecipe = setting(SupernetRecipe(), help="What is particular to training a supernet.")

    def __post_init__(self) -> None:
        super().__post_init__()
        supernet = self.supernet
        if supernet.sorts and supernet.sort == "effect" and not self.optimizer.keeps_squared_gradients:
            raise SettingError(
                f"sort=effect needs the squared gradients, which {self.optimizer.name} does not keep:"
                " choose sort=norm or sort=none, or another optimizer"
            )

    def of_networks(self) -> dict[str, Any]:
        """What decides the weights of a network that is trained alone, as plain values."""
        return {name: value for name, value in self.to_plain().items() if name != "supernet"}

    def of_supernets(self) -> dict[str, Any]:
        """What decides the weights of a supernet, as plain values."""
        return {name: v for name, v in self.to_plain().items() if name not in ("schedule", "rate")}


DEFAULT = Recipe()
"""The recipe that trainings use where none is given."""
