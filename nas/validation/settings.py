"""What a validation measures: the options of `nas validate`."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import MANY, Settings, setting


@dataclass(frozen=True, kw_only=True)
class ValidationSettings(Settings):
    """How many networks are trained from scratch, for how long, and what the search is compared with."""

    scratch_networks: int = setting(12, help="Random networks to train from scratch.", least=3, most=10**6)
    train_steps: int | None = setting(
        None, help="Training steps of each.", least=1, most=MANY, shown="those of the study's finalists"
    )
    random_baseline: int | None = setting(
        None,
        help="Random architectures to compare the search with; 0: none.",
        least=0,
        most=MANY,
        shown="as many as the engine scored; with the evaluator scratch, those on record",
    )
