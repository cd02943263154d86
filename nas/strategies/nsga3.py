"""NSGA-III: survivors are spread by reference directions, for three objectives and more.

It breeds as `nsga2` does. Who survives beside the undominated is decided by how many of the survivors are
near the same reference direction, where crowding distance says little: Deb and Jain 2014, "An Evolutionary
Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated Sorting Approach". The
selection is that of Optuna's sampler, by its public method.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from random import Random

import optuna
from optuna.samplers import NSGAIIISampler
from optuna.trial import FrozenTrial, create_trial

from foundation.settings import setting
from nas.strategies.base import strategies
from nas.strategies.genetic import Genetic, GeneticSettings, Individual


@dataclass(frozen=True, kw_only=True)
class NSGA3Settings(GeneticSettings):
    """The published operators."""

    title = "strategy nsga3"

    dividing_parameter: int = setting(
        3, help="Divisions of each axis between reference directions.", least=1, most=100
    )


@strategies.add
class NSGA3(Genetic):
    """For three objectives and more: as nsga2, but survivors are spread by reference directions."""

    name = "nsga3"
    use = "as nsga2, for three objectives and more"
    settings_kind = NSGA3Settings
    settings: NSGA3Settings

    def survivors(self, individuals: list[Individual], dice: Random) -> list[Individual]:
        """Those that Optuna's sampler selects."""
        if len(individuals) <= self.settings.population:
            return individuals
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = _Selection(
                individuals,
                population_size=self.settings.population,
                dividing_parameter=self.settings.dividing_parameter,
                seed=dice.getrandbits(32),
            )
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per in-memory study is noise
        study = optuna.create_study(directions=["minimize"] * len(self.goals))
        optuna.logging.set_verbosity(verbosity)
        return [individuals[int(trial.user_attrs["index"])] for trial in sampler.select_parent(study, 1)]

    def parent(self, individuals: list[Individual], dice: Random) -> Individual:
        """Anyone: all survivors are alike."""
        return dice.choice(individuals)


class _Selection(NSGAIIISampler):
    """Optuna's NSGA-III with its population handed over, instead of looked up among all trials."""

    def __init__(
        self, individuals: list[Individual], *, population_size: int, dividing_parameter: int, seed: int
    ) -> None:
        super().__init__(population_size=population_size, dividing_parameter=dividing_parameter, seed=seed)
        self._all = [
            create_trial(values=list(each.values), user_attrs={"index": index})
            for index, each in enumerate(individuals)
        ]

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self._all

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return []
