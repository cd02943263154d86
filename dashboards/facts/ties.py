"""Whether two networks' qualities can be told apart.

Scores are taken on the same validation windows, so most of their standard error is common to both and drops
out of the difference: what counts is the spread of the difference, window by window.
"""

from __future__ import annotations

import math

import numpy as np

from nas.study.trial import Value

QUALITY = "bits_per_byte"
CERTAIN = 1.96


def distance(one: Value, other: Value) -> float | None:
    """The difference of two values in its standard errors; None where no error is known.

    Paired over the samples where both have them, else from the two errors as if they were independent.
    """
    if len(one.samples) == len(other.samples) >= 2:
        off = np.asarray(one.samples) - np.asarray(other.samples)
        error = float(off.std(ddof=1)) / math.sqrt(len(off))
        gap = abs(float(off.mean()))
    elif one.error is not None and other.error is not None:
        error, gap = math.hypot(one.error, other.error), abs(one.value - other.value)
    else:
        return None
    if error > 0:
        return gap / error
    return math.inf if gap > 0 else 0.0


def tied(one: Value, other: Value) -> bool:
    """Whether two values differ by no more than chance would make them."""
    found = distance(one, other)
    return found is not None and found < CERTAIN
