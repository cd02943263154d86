"""Children of rows, thousands at once: crossover and mutation of genes that are asked.

A mutation always changes an active gene, so a child differs from its parent in as many answers as intended,
however many genes are silent. What a changed branch or a longer stack asks for the first time is answered at
random. Numeric answers move to a neighbour half of the time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.strategies.surrogate.encoding import SILENT, Encoding, Rows

CROSSED = 0.5
"""Share of children that have two parents."""

CHANGES = (0.5, 0.25, 0.15, 0.1)
"""How often one, two, three, four answers change (one fewer where a child has two parents)."""


class Children(NamedTuple):
    """Canonical rows (N, G), and for each the indices of its parents (N, 2), equal where it has one."""

    rows: Rows
    parents: NDArray[np.int64]


def breed(encoding: Encoding, parents: Rows, count: int, chance: np.random.Generator) -> Children:
    """So many children of canonical rows (P, G), each parent equally often."""
    pairs = chance.integers(0, len(parents), size=(count, 2))
    alone = (chance.random(count) >= CROSSED) | (pairs[:, 0] == pairs[:, 1])
    pairs[alone, 1] = pairs[alone, 0]
    first, second = parents[pairs[:, 0]], parents[pairs[:, 1]]
    fresh = encoding.random(count, chance)
    swapped = (chance.random(first.shape) < 0.5) | (first == SILENT)
    inherited = np.where(swapped & (second != SILENT), second, first)
    rows = np.where(inherited == SILENT, fresh, inherited).astype(np.int16)
    changes = chance.choice(len(CHANGES), size=count, p=CHANGES) + alone
    return Children(encoding.canonical(_mutated(encoding, rows, inherited, changes, chance)), pairs)


def _mutated(
    encoding: Encoding, rows: Rows, inherited: Rows, changes: NDArray[np.int64], chance: np.random.Generator
) -> Rows:
    """The rows with so many of their inherited answers changed."""
    lots = chance.random(rows.shape)
    lots[(inherited == SILENT) | (encoding.sizes < 2)] = np.inf
    most = min(int(changes.max(initial=0)), rows.shape[1])
    if not most:
        return rows
    chosen = np.argpartition(lots, range(most), axis=1)[:, :most]
    which, nth = np.nonzero(np.arange(most)[None, :] < changes[:, None])
    columns = chosen[which, nth]
    drawn = np.isfinite(lots[which, columns])
    which, columns = which[drawn], columns[drawn]
    sizes = encoding.sizes[columns].astype(np.int64)
    before = rows[which, columns].astype(np.int64)
    after = (before + 1 + (chance.random(len(which)) * (sizes - 1)).astype(np.int64)) % sizes
    step = before + np.where(chance.random(len(which)) < 0.5, -1, 1)
    beside = encoding.ordered[columns] & (step >= 0) & (step < sizes) & (chance.random(len(which)) < 0.5)
    mutated = rows.copy()
    mutated[which, columns] = np.where(beside, step, after)
    return mutated
