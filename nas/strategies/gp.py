"""Optuna's Gaussian process: expected hypervolume improvement over the genes that every architecture asks.

The genes that only some architectures ask are drawn at random: in conditional spaces `auto`, whose process is
over all of them, knows more. The sampler is Optuna's `GPSampler`; its cost grows with the cube of the trials.
"""

from __future__ import annotations

from dataclasses import dataclass

from optuna.samplers import GPSampler

from foundation.settings import setting
from nas.strategies.base import strategies
from nas.strategies.optuna_sampler import OptunaStrategy
from nas.strategies.sampler_settings import SamplerSettings


@dataclass(frozen=True, kw_only=True)
class GPSettings(SamplerSettings):
    """Optuna's defaults."""

    title = "strategy gp"
    make = GPSampler

    n_startup_trials: int = setting(10, help="Random candidates at first.", least=1, most=10**6)
    deterministic_objective: bool = setting(False, help="Values have no noise.")


@strategies.add
class GP(OptunaStrategy):
    """Optuna's Gaussian process, for spaces of few, unconditional genes and some hundred candidates."""

    name = "gp"
    use = "in spaces of few genes without branches, for some hundred candidates"
    settings_kind = GPSettings
