"""From the sum of parts to the whole: a straight line, and how far off it is on networks it never saw.

The error of a prediction is not assumed but read off: of the networks that were held out, each is off by so
many of its own expected errors, and 9 in 10 of such networks are off by less than a high quantile of those
(split conformal prediction, Lei et al. 2018, arXiv:1604.04173).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from foundation.statistics import tau_with_interval
from foundation.text import rounded

NOISE = 0.02
SCALE_PRIOR = 0.25
FACTOR_PRIOR = 0.05
WIDTH_PRIOR = 0.05
OFFSET_PRIOR = 0.1
"""What the fit takes for granted; see `fit_correction`."""

LEAST_FACTOR = 0.1
"""The least that the time of parts is multiplied by, whatever a few disturbed networks say."""

RESAMPLES = 500
"""Bootstrap samples behind an interval of tau."""

LEVEL = 0.9
"""The share of new networks that lie within the interval of their prediction."""

NORMAL_REACH = 1.645
"""Standard errors that hold 90 % of a normal distribution."""

BASE_ERROR = 0.02
"""The relative error expected of a sum of parts that were all measured, before any network says more."""

TRUSTED_MAPE = 0.1
"""A table that errs more is used only where that is asked for."""


Number = TypeVar("Number", float, NDArray[np.float64])


@dataclass(frozen=True)
class Correction:
    """whole = scale * sum over families of factor * parts + offset_ms + per_layer_ms * layers.

    It is at least a tenth of the parts: what was read off the networks that were timed never makes a smaller
    one take no time, or less.
    `factors` are 1 but for the families named: a block inside a network meets other caches than among its
    like, some kinds more so than others. `widths` are the same for every d_model: whether a network's weights
    stay in a cache depends on its width, and most parts of a width are interpolated from other widths.
    """

    scale: float = 1.0
    offset_ms: float = 0.0
    per_layer_ms: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)
    widths: Mapping[str, float] = field(default_factory=dict)

    def factor(self, family: str, d_model: int | None = None) -> float:
        """What the parts of a family, at a width, are multiplied by before they are added up."""
        factor = self.factors.get(family, 1.0) + self.widths.get(str(d_model), 1.0) - 1.0
        return max(LEAST_FACTOR, factor)

    def whole_ms(self, parts_ms: Number, layers: Number) -> Number:
        """The latency of a network whose parts, times their factors, take `parts_ms` together."""
        line = self.scale * parts_ms + self.offset_ms + self.per_layer_ms * layers
        least = LEAST_FACTOR * parts_ms
        return np.maximum(line, least) if isinstance(line, np.ndarray) else max(line, least)


@dataclass(frozen=True)
class Accuracy:
    """How predictions stand to measurements; None where there are too few networks to say.

    `mape` is the mean absolute error over the measurement, `rms` its root mean square, `bias` the mean
    signed one; `tau` is Kendall's, with a bootstrap interval of 95 % over the networks. `reach` is how many
    expected errors (see `expected_error`) hold 9 in 10 networks.
    """

    n: int
    mape: float | None = None
    rms: float | None = None
    bias: float | None = None
    tau: float | None = None
    tau_low: float | None = None
    tau_high: float | None = None
    reach: float | None = None


def fit_correction(
    parts_ms: Sequence[Mapping[str, float]],
    layers: Sequence[int],
    wholes_ms: Sequence[float],
    widths: Sequence[int] = (),
    *,
    noise: float = NOISE,
) -> Correction:
    """The correction that errs least, relative to the measurements, and strays little from the plain sum.

    `parts_ms` are the sums of a network's parts by family, `widths` the networks' d_model, if widths are to
    have factors of their own. Least squares with a prior, all in units of a network's own time: measurements
    and parts are worth a relative `noise`; the scale is 1 up to 25 %, the factors of families and widths up
    to 5 % more, and the offsets 0 up to 10 % of a typical network. A few networks of like depth cannot tell
    the coefficients apart, and with the prior they need not.
    """
    if not wholes_ms:
        return Correction()
    families = sorted({name for sums in parts_ms for name in sums})
    by_family = np.array([[sums.get(name, 0.0) for name in families] for sums in parts_ms])
    depths, wholes = np.asarray(layers, dtype=float), np.asarray(wholes_ms, dtype=float)
    typical, depth = float(np.median(wholes)), max(1.0, float(np.median(depths)))
    wide = np.asarray(widths, dtype=int)
    known = sorted(set(wide.tolist()))
    by_width = [by_family.sum(1) * (wide == width) for width in known]
    columns = [by_family.sum(1), np.ones_like(wholes), depths, *by_width, *by_family.T]
    rows = np.stack(columns, axis=1) / (noise * wholes[:, None])
    spans = [SCALE_PRIOR, OFFSET_PRIOR * typical, OFFSET_PRIOR * typical / depth]
    spans += [WIDTH_PRIOR] * len(known) + [FACTOR_PRIOR] * len(families)
    prior = np.diag(1 / np.array(spans))
    expected = np.zeros(len(prior))
    expected[0] = 1.0
    target = np.concatenate([np.full(len(wholes), 1 / noise), prior @ expected])
    scale, offset, per_layer, *more = _least_squares(np.concatenate([rows, prior]), target)
    names = [*map(str, known), *families]
    factors = [
        (name, max(LEAST_FACTOR, rounded(1 + extra / scale, 6)))
        for name, extra in zip(names, more, strict=True)
    ]
    return Correction(
        rounded(scale, 6),
        rounded(offset, 6),
        rounded(per_layer, 6),
        factors=dict(factors[len(known) :]),
        widths=dict(factors[: len(known)]),
    )


def _least_squares(rows: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """The solution whose first value, the scale, is not below its bound: more work never takes less time."""
    found: list[float] = np.linalg.lstsq(rows, target, rcond=None)[0].tolist()
    if found[0] >= LEAST_FACTOR:
        return found
    rest = np.linalg.lstsq(rows[:, 1:], target - LEAST_FACTOR * rows[:, 0], rcond=None)[0]
    return [LEAST_FACTOR, *rest.tolist()]


def expected_error(own: float) -> float:
    """The relative error expected of a sum of parts that is itself known up to `own`."""
    return math.hypot(BASE_ERROR, own)


def reach_of(scores: Sequence[float]) -> float | None:
    """The conformal quantile: what a further score stays below with a chance of 90 %.

    Fewer than nine scores cannot say; then it is the largest, raised by as much as they fall short.
    """
    if not scores:
        return None
    rank = math.ceil((len(scores) + 1) * LEVEL)
    if rank <= len(scores):
        return sorted(scores)[rank - 1]
    return max(scores) * rank / len(scores)


def accuracy(
    predicted: Sequence[float],
    measured: Sequence[float],
    expected: Sequence[float] | None = None,
    *,
    seed: int = 0,
) -> Accuracy:
    """How well `predicted` agrees with `measured`; `expected` are the relative errors beforehand."""
    if not measured:
        return Accuracy(0)
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    off = (guess - truth) / truth
    figures = np.abs(off).mean(), np.sqrt((off**2).mean()), off.mean()
    tau = _tau(guess, truth, seed)
    mape, rms, bias = (round(float(value), 6) for value in figures)
    return Accuracy(
        n=len(truth),
        mape=mape,
        rms=rms,
        bias=bias,
        tau=tau[0],
        tau_low=tau[1],
        tau_high=tau[2],
        reach=_reach(guess, truth, expected),
    )


def _reach(
    guess: NDArray[np.float64], truth: NDArray[np.float64], expected: Sequence[float] | None
) -> float | None:
    """Relative to the prediction, because that is what an interval is put around."""
    if expected is None:
        expected = [expected_error(0.0)] * len(truth)
    off = np.abs(truth / guess - 1) / np.asarray(expected, dtype=float)
    found = reach_of(off.tolist())
    return found if found is None else round(found, 6)


def _tau(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], seed: int
) -> tuple[float | None, float | None, float | None]:
    """Kendall's tau with its interval; None where it is not defined (fewer than two different values)."""
    tau = tau_with_interval(predicted, measured, seed=seed, resamples=RESAMPLES)
    value, low, high = (
        round(end, 6) if math.isfinite(end) else None for end in (tau.value, tau.low, tau.high)
    )
    return value, low, high
