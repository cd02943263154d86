"""Values bent so that a Gaussian process suits them, and its predictions bent back.

What grows by factors, as costs do, or levels off, as losses do, has effects and errors that grow with it; on
a bent scale they are alike everywhere. The scale is a power (Yeo and Johnson 2000, Biometrika 87), of which
the evidence of the process decides (Snelson, Rasmussen and Ghahramani 2003, NIPS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""From logarithms above the mean over what is as it is to logarithms below it."""


@dataclass(frozen=True)
class Warp:
    """A rising function of scaled values, then their mean and spread taken out."""

    power: float = 1.0
    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, power: float, values: Array) -> Warp:
        """The warp of this power under which these values have mean zero and variance one."""
        bent = cls(power).bend(values)
        spread = float(bent.std())
        return cls(power, float(bent.mean()), spread if spread > 0 else 1.0)

    def bend(self, values: Array) -> Array:
        """The values on the bent scale."""
        above, below = np.maximum(values, 0), np.maximum(-values, 0)
        bent: Array = (_power(above, self.power) - _power(below, 2 - self.power) - self.mean) / self.spread
        return bent

    def slope(self, values: Array) -> Array:
        """By how much the bent scale rises at these values."""
        exponent = np.where(values >= 0, self.power - 1, 1 - self.power)
        slope: Array = (1 + np.abs(values)) ** exponent / self.spread
        return slope

    def straighten(self, means: Array, deviations: Array) -> tuple[Array, Array]:
        """Means and deviations on the scale before; deviations are small against the bend."""
        bent = means * self.spread + self.mean
        above, below = np.maximum(bent, 0), np.maximum(-bent, 0)
        straight: Array = _root(above, self.power) - _root(below, 2 - self.power)
        return straight, deviations / self.slope(straight)


def _power(values: Array, power: float) -> Array:
    """A power of what is at least 0, which rises from 0 with slope one."""
    bent: Array = np.log1p(values) if power == 0 else ((1 + values) ** power - 1) / power
    return bent


def _root(bent: Array, power: float) -> Array:
    """What had this power."""
    values: Array = np.expm1(bent) if power == 0 else (1 + power * bent) ** (1 / power) - 1
    return values
