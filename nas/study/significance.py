"""Whether the qualities of two networks differ significantly.

All networks are scored on the same validation windows, so most of the standard error is common to both and
cancels in the difference: the test is on the difference, window by window.
"""

from __future__ import annotations

import math

import numpy as np

from nas.study.trial import Value

SIGNIFICANT = 1.96
"""Standard errors of a difference that is significant at the 5 % level."""


def standardised_difference(first: Value, second: Value) -> float | None:
    """The absolute difference of two values in units of its standard error; None where no error is on record.

    Paired over the samples where both have them, else from the two errors, taken as independent.
    """
    gap, error = paired(first, second)
    if error is None:
        return None
    if error > 0:
        return abs(gap) / error
    return math.inf if gap else 0.0


def paired(first: Value, second: Value) -> tuple[float, float | None]:
    """The first less the second, and the standard error of that; see `standardised_difference`."""
    if len(first.samples) == len(second.samples) >= 2:
        differences = np.asarray(first.samples) - np.asarray(second.samples)
        return float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    gap = first.value - second.value
    if first.error is None or second.error is None:
        return gap, None
    return gap, math.hypot(first.error, second.error)


def tied(first: Value, second: Value) -> bool:
    """Whether the difference of two values is not significant."""
    difference = standardised_difference(first, second)
    return difference is not None and difference < SIGNIFICANT
