"""The settings of a differentiable search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foundation.errors import SettingError
from foundation.settings import MANY, Settings, setting

Variant = Literal["first", "second", "gdas", "modern"]
VARIANTS = ("first", "second", "gdas", "modern")


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Settings):
    """How a search runs (see `evaluators.differentiable.search` for the variants)."""

    variant: str = setting(
        "modern",
        help="first, second: DARTS of this order; gdas: one sampled network a step; modern: logits alone.",
        choices=VARIANTS,
    )
    steps: int = setting(200, help="Steps of the search.", least=1, most=MANY)
    batch: int = setting(16, help="Sequences of each half of the data in a step.", least=1, most=10**6)
    warm_up: int = setting(0, help="First steps, in which only the weights learn.", least=0, most=MANY)
    rate: float = setting(0.03, help="Learning rate of the logits.", above=0, most=1e6)
    unroll: float = setting(
        0.025, help="The plain gradient step that `second` looks ahead.", above=0, most=1e6
    )
    hot: float = setting(5.0, help="Temperature of the first samples.", least=0.001, most=1e6)
    cold: float = setting(0.2, help="Temperature of the last samples.", least=0.001, most=1e6)
    watch_every: int = setting(
        20, help="Steps between two readings of curvature and empty places; 0: none.", least=0, most=MANY
    )
    watch_batches: int = setting(2, help="Batches of such a reading.", least=1, most=10**6)
    guard: bool = setting(True, help="Stop a search that goes wrong, and go back to an earlier reading.")
    penalty: float = setting(100.0, help="Weight of a missed target.", above=0, most=1e6)
    dual_rate: float = setting(
        0.005, help="Growth of a target's multiplier while it is missed.", above=0, most=1e6
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_up >= self.steps:
            raise SettingError(f"warm_up must be below the {self.steps} steps, got {self.warm_up}")
        if self.variant == "modern" and self.warm_up:
            raise SettingError(f"modern trains no weights, so warm_up must be 0, got {self.warm_up}")
