"""The tree-structured Parzen estimator for several objectives.

Two densities over the genes are learned, of the good candidates and of the others, and what is likelier
under the first is proposed. Good are the first by rank, then by hypervolume. Genes that are asked together
are learned together, branch by branch. Ozaki et al. 2022, "Multiobjective Tree-Structured Parzen
Estimator", JAIR 73; the sampler is Optuna's.
"""

from __future__ import annotations

from dataclasses import dataclass

from optuna.samplers import TPESampler

from foundation.settings import setting
from nas.strategies.base import strategies
from nas.strategies.optuna_sampler import OptunaStrategy
from nas.strategies.sampler_settings import SamplerSettings


@dataclass(frozen=True, kw_only=True)
class MOTPESettings(SamplerSettings):
    """Optuna's defaults, but for the groups of genes."""

    title = "strategy motpe"
    make = TPESampler
    fixed = {"multivariate": True, "group": True, "constant_liar": True}  # noqa: RUF012

    n_startup_trials: int = setting(10, help="Random candidates at first.", least=1, most=10**6)
    n_ei_candidates: int = setting(24, help="Candidates of which one is proposed.", least=1, most=10**5)


@strategies.add
class MOTPE(OptunaStrategy):
    """Optuna's TPE for several objectives: densities of good and of other candidates."""

    name = "motpe"
    use = "beside auto, where its model does not predict"
    settings_kind = MOTPESettings
