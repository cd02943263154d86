"""Networks as lines over genes and objectives: the genes that alone tell most, then every objective."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.facts.density import is_wide
from dashboards.facts.gene_rows import GeneRows
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.scored import Mask
from foundation.text import significant
from nas.strategies.surrogate.encoding import SILENT, Rows

Array = NDArray[np.float64]

GENES = 6
"""Genes that have an axis."""

BEATEN = 150
"""Lines of networks behind the front."""

NOT_ASKED = "not asked"
SPREAD = 0.05
"""Lines of one answer are spread over so much of an axis, up and down, so that bundles can be seen."""

LONGEST = 22
"""Letters of an answer at an axis."""


@dataclass(frozen=True)
class ParallelAxis:
    """One axis from 0 to 1, with what is written at some places of it; on objectives, upwards is better."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    gene: bool


@dataclass(frozen=True)
class ParallelLine:
    """A network: its place on each axis; `digest` is empty for one that is not compared."""

    places: tuple[float, ...]
    digest: str = ""


@dataclass(frozen=True)
class ParallelFacts:
    """Axes, and lines of beaten networks, of the front, and of those that are compared."""

    axes: tuple[ParallelAxis, ...]
    beaten: tuple[ParallelLine, ...]
    front: tuple[ParallelLine, ...]
    chosen: tuple[ParallelLine, ...]


def parallel(reading: Reading, known: GeneRows, chosen: Sequence[str]) -> ParallelFacts | None:
    """The lines of networks, of which some are `chosen` by their digests; None where none is known."""
    costs = known.costs(reading)
    if not len(known.rows) or not len(reading.objectives):
        return None
    columns = telling(known.rows, costs)
    axes, places = [], []
    for column in columns:
        gene = known.encoding.genes[column]
        axis, at = _gene_axis(gene.path, [str(label) for label in gene.labels], known.rows[:, column])
        offsets = [
            SPREAD * (zlib.crc32(str(digest).encode()) % 201 / 100 - 1) for digest in known.scored.digests
        ]
        axes.append(axis)
        places.append(at + np.array(offsets))
    for of in reading.objectives:
        axis, at = _objective_axis(of, known.scored.values(of.name))
        axes.append(axis)
        places.append(at)
    table = np.column_stack(places)
    digests = [str(digest) for digest in known.scored.digests]
    beaten = np.flatnonzero(~known.on_front)
    if len(beaten) > BEATEN:
        beaten = beaten[np.linspace(0, len(beaten) - 1, BEATEN).astype(np.int64)]
    return ParallelFacts(
        tuple(axes),
        _lines(table, beaten, digests, ()),
        _lines(table, np.flatnonzero(known.on_front), digests, ()),
        tuple(
            line
            for digest in chosen
            if digest in digests
            for line in _lines(table, [digests.index(digest)], digests, chosen)
        ),
    )


def telling(rows: Rows, costs: Array) -> list[int]:
    """The columns of the genes whose answers alone explain most of the variance of some objective, in order.

    The share explained is adjusted for the number of answers (Kelley's epsilon squared). Networks that are
    not asked count as unexplained: what they have in common is told by the gene above.
    """
    found = []
    for column in range(rows.shape[1]):
        asked = rows[:, column] != SILENT
        answers, inverse, counts = np.unique(rows[asked, column], return_inverse=True, return_counts=True)
        if 1 < len(answers) < asked.sum():
            shares = [_explained(values, asked, inverse, counts) for values in costs.T]
            found.append((max(shares), column))
    best = sorted(found, reverse=True)[:GENES]
    return sorted(column for _, column in best)


def _explained(values: Array, asked: Mask, inverse: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 0:
        return 0.0
    some = values[asked]
    means = np.bincount(inverse, weights=some) / counts
    among = float(((some - some.mean()) ** 2).sum())
    within = float(((some - means[inverse]) ** 2).sum())
    return (among - within * (len(some) - 1) / (len(some) - len(counts))) / total


def _lines(
    table: Array, which: Collection[int] | NDArray[np.int64], digests: Sequence[str], named: Collection[str]
) -> tuple[ParallelLine, ...]:
    return tuple(
        ParallelLine(tuple(table[i].tolist()), digests[i] if digests[i] in named else "") for i in which
    )


def _gene_axis(path: str, labels: Sequence[str], answers: NDArray[np.int16]) -> tuple[ParallelAxis, Array]:
    """The answers from below, under them that the gene is not asked where that occurs."""
    silent = bool((answers == SILENT).any())
    texts = [*([NOT_ASKED] if silent else []), *labels]
    steps = max(len(texts) - 1, 1)
    ends = SPREAD, 1 - SPREAD
    at = ends[0] + (ends[1] - ends[0]) * (answers.astype(float) + silent) / steps
    marks = np.linspace(*ends, len(texts)) if len(texts) > 1 else np.array([ends[0]])
    ticks = tuple((float(mark), _cut(text)) for mark, text in zip(marks, texts, strict=True))
    return ParallelAxis(path, ticks, gene=True), at


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _objective_axis(of: Quantity, values: Array) -> tuple[ParallelAxis, Array]:
    """From the worst value below to the best above; logarithmic where values are of many sizes."""
    low, high = float(values.min()), float(values.max())
    logarithmic = is_wide(low, high)
    scaled, ends = (np.log(values), (np.log(low), np.log(high))) if logarithmic else (values, (low, high))
    width = float(ends[1] - ends[0]) or 1.0
    rising = (scaled - ends[0]) / width
    at = rising if of.maximise else 1 - rising
    factor, unit = of.scale([high])
    ticks = []
    for share in (0.0, 0.5, 1.0) if high > low else (0.0,):
        value = ends[0] + share * width
        text = significant((float(np.exp(value)) if logarithmic else value) / factor, 3)
        ticks.append((share if of.maximise else 1 - share, text))
    return ParallelAxis(f"{of.label} ({unit})" if unit else of.label, tuple(ticks), gene=False), at
