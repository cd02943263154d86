"""NSGA-II: the elitist genetic algorithm for several objectives.

Of parents and children those survive that fewest are better than in every objective (by rank: the front,
the front without these, and so on), and within a rank those that are farthest from their neighbours (by
crowding distance). Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from nas.pareto import Points, nondominated
from nas.strategies.base import strategies
from nas.strategies.genetic import Genetic, GeneticSettings, Individual


@dataclass(frozen=True, kw_only=True)
class NSGA2Settings(GeneticSettings):
    """The published operators."""

    title = "strategy nsga2"


@strategies.add
class NSGA2(Genetic):
    """Generations of `population` individuals; parents are the best by rank, then by crowding."""

    name = "nsga2"
    use = "where candidates are scored in milliseconds, or by thousands"
    settings_kind = NSGA2Settings

    def survivors(self, individuals: list[Individual], dice: Random) -> list[Individual]:
        """The best by rank, then by crowding distance, best first."""
        values = np.array([individual.values for individual in individuals])
        left = np.arange(len(individuals))
        kept: list[int] = []
        while len(kept) < self.settings.population:
            undominated = np.array(nondominated(values[left]))
            front = left[undominated]
            kept += front[np.argsort(-crowding_distances(values[front]), kind="stable")].tolist()
            left = left[~undominated]
        return [individuals[i] for i in kept[: self.settings.population]]

    def parent(self, individuals: list[Individual], dice: Random) -> Individual:
        """The better of two that are drawn."""
        return individuals[min(dice.randrange(len(individuals)) for _ in range(2))]


def crowding_distances(values: Points) -> Points:
    """Of points [N, objectives], the summed relative distances of each one's neighbours; infinite at ends."""
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ends = order[[0, -1]]
        span = np.ptp(column) or 1.0
        distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
        distances[ends] = np.inf
    return distances
