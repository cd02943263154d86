"""Errors of what tells candidates apart, where all of them were scored on the same samples.

The standard error of a score is that of a mean over samples, validation windows say. Most of it is how much
easier one window is than another, for every candidate alike: whose loss is the smaller is known far better
than what either is on other text. What counts is by how much the differences of a candidate to the mean of
all deviate from sample to sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 2
"""Samples of a candidate, and candidates with samples, below which there is no deviation."""


def paired(errors: Array, samples: Sequence[Array | None]) -> Array:
    """The errors (N,) without what candidates with as many samples have in common.

    Where an error is larger than the samples explain, the rest stays: that of a prediction, say.
    """
    errors = errors.copy()
    alike: dict[int, list[int]] = defaultdict(list)
    for i, mine in enumerate(samples):
        if mine is not None and len(mine) >= FEWEST:
            alike[len(mine)].append(i)
    for count, which in alike.items():
        if len(which) < FEWEST:
            continue
        scores = np.array([samples[i] for i in which])
        apart = scores - scores.mean(axis=0)
        whole, rest = scores.var(axis=1, ddof=1) / count, apart.var(axis=1, ddof=1) / count
        errors[which] = np.sqrt(np.maximum(errors[which] ** 2 - whole, 0) + rest)
    return errors
