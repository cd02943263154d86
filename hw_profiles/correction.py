"""From the sum of parts to the whole: a straight line, and how far off it is on networks it never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

NOISE = 0.02
SCALE_PRIOR = 0.25
OFFSET_PRIOR = 0.1
"""What the fit takes for granted; see `fit_correction`."""

RESAMPLES = 500
"""Bootstrap samples behind an interval of tau."""


@dataclass(frozen=True)
class Correction:
    """whole = scale * sum of parts + offset_ms + per_layer_ms * layers."""

    scale: float = 1.0
    offset_ms: float = 0.0
    per_layer_ms: float = 0.0

    def whole_ms(self, parts_ms: float, layers: int) -> float:
        """The latency of a network whose parts take `parts_ms` together."""
        return self.scale * parts_ms + self.offset_ms + self.per_layer_ms * layers


@dataclass(frozen=True)
class Accuracy:
    """How predictions stand to measurements; None where there are too few networks to say.

    `mape` is the mean absolute error over the measurement, `rms` its root mean square, `bias` the mean
    signed one; `tau` is Kendall's, with a bootstrap interval of 95 % over the networks.
    """

    n: int
    mape: float | None = None
    rms: float | None = None
    bias: float | None = None
    tau: float | None = None
    tau_low: float | None = None
    tau_high: float | None = None


def fit_correction(
    parts_ms: Sequence[float], layers: Sequence[int], wholes_ms: Sequence[float]
) -> Correction:
    """The correction that errs least, relative to the measurements, and strays little from the plain sum.

    Least squares with a prior, all in units of a network's own time: measurements and parts are worth a noise
    of 2 %; the scale is 1 up to 25 %, and the offsets 0 up to 10 % of a typical network. A few networks of
    like depth cannot tell the three coefficients apart, and with the prior they need not.
    """
    if not wholes_ms:
        return Correction()
    sums, depths, wholes = (np.asarray(values, dtype=float) for values in (parts_ms, layers, wholes_ms))
    typical, depth = float(np.median(wholes)), max(1.0, float(np.median(depths)))
    rows = np.stack([sums, np.ones_like(sums), depths], axis=1) / (NOISE * wholes[:, None])
    spans = np.array([SCALE_PRIOR, OFFSET_PRIOR * typical, OFFSET_PRIOR * typical / depth])
    prior = np.diag(1 / spans)
    target = np.concatenate([np.full(len(wholes), 1 / NOISE), prior @ np.array([1.0, 0.0, 0.0])])
    found = np.linalg.lstsq(np.concatenate([rows, prior]), target, rcond=None)[0]
    return Correction(*(float(f"{value:.6g}") for value in found))


def accuracy(predicted: Sequence[float], measured: Sequence[float], *, seed: int = 0) -> Accuracy:
    """How well `predicted` agrees with `measured`."""
    if not measured:
        return Accuracy(0)
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    off = (guess - truth) / truth
    rms, mape, bias = np.sqrt((off**2).mean()), np.abs(off).mean(), off.mean()
    tau = rank_agreement(guess, truth)
    low, high = (None, None) if tau is None else _interval(guess, truth, seed)
    found = (None if value is None else round(float(value), 6) for value in (mape, rms, bias, tau, low, high))
    return Accuracy(len(truth), *found)


def rank_agreement(
    one: Sequence[float] | NDArray[np.float64], other: Sequence[float] | NDArray[np.float64]
) -> float | None:
    """Kendall's tau; None where it is not defined (fewer than two different values)."""
    if len(set(map(float, one))) < 2 or len(set(map(float, other))) < 2:
        return None
    tau = float(kendalltau(one, other).statistic)
    return tau if math.isfinite(tau) else None


def _interval(
    guess: NDArray[np.float64], truth: NDArray[np.float64], seed: int
) -> tuple[float | None, float | None]:
    dice = np.random.default_rng(seed)
    picks = dice.integers(len(truth), size=(RESAMPLES, len(truth)))
    taus = [tau for pick in picks if (tau := rank_agreement(guess[pick], truth[pick])) is not None]
    if not taus:
        return None, None
    low, high = np.quantile(taus, [0.025, 0.975])
    return float(low), float(high)
