"""What a model sees of a genotype: its active genes one by one, and the same summed over like places.

`genes` (N, D) hold for each gene the centred embedding of its answer, zero where it is not asked. Answers
that are names are equally far from each other. Of three numbers or more in rising order, neighbours resemble
each other: the embedding is that of a squared-exponential kernel over their places.

`sums` (N, S) add up those of genes whose paths differ in nothing but whole numbers, as the layers of a stack,
and count how many of them are asked: what a network has, wherever it has it, and how long it is.

`parts` (N, L) name the answers of each part as a whole, a layer say: the genes whose paths are the same up to
their first whole number. Two candidates have the same number where they answer all of them alike, and 0 where
nothing of the part is asked.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.strategies.surrogate.encoding import SILENT, Encoding, Rows, is_ordered
from search_spaces.language.genotype import Label

Array = NDArray[np.float64]

SMOOTHNESS = 0.4
"""Length scale over the places of numeric answers, of which the smallest is 0 and the largest 1."""

KEPT = 1e-2
"""Directions of an embedding with less than this share of its variance are left out."""

_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number whose bits look random: products with it tell rows of answers apart."""

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.:])")


class Features(NamedTuple):
    """The features of N candidates."""

    genes: Array
    sums: Array
    parts: NDArray[np.uint32]

    def take(self, which: NDArray[np.int64]) -> Features:
        """Those of some candidates."""
        return Features(self.genes[which], self.sums[which], self.parts[which])


class Featurizer:
    """Features of rows of one space; `repeats` says whether some of its genes have like places."""

    def __init__(self, encoding: Encoding) -> None:
        embeddings = [_embedding(gene.labels) for gene in encoding.genes]
        kinds = [_NUMBER.sub("*", gene.path) for gene in encoding.genes]
        names = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
        self.repeats = len(names) < len(kinds)
        self._widths = [embedding.shape[1] for embedding in embeddings]
        self._starts = np.concatenate(([0], np.cumsum(self._widths)))
        # for every feature its gene, and where its values begin; the one before is that of a silent gene
        tables = [np.concatenate(([0.0], column)) for embedding in embeddings for column in embedding.T]
        self.gene = np.repeat(np.arange(len(kinds)), self._widths)
        self._values = np.concatenate((*tables, [0.0]))
        self._first = 1 + np.concatenate(([0], np.cumsum([len(table) for table in tables])))[:-1].astype(int)
        self._group = np.array([names[kind] for kind in kinds], dtype=np.int64)
        copies = np.bincount(self._group, minlength=len(names))
        widest = np.zeros(len(names), dtype=np.int64)
        np.maximum.at(widest, self._group, self._widths)
        offsets = np.concatenate(([0], np.cumsum(widest)))
        target = np.concatenate(
            [offsets[g] + np.arange(w) for g, w in zip(self._group, self._widths, strict=True)]
        ).astype(np.int64)
        self._adds = np.zeros((self._starts[-1], offsets[-1]))
        self._adds[np.arange(len(target)), target] = 1 / np.sqrt(np.repeat(copies[self._group], self._widths))
        varying = [i for i in range(len(names)) if copies[i] > 1]
        self._counts = np.zeros((len(kinds), len(varying)))
        for column, i in enumerate(varying):
            self._counts[self._group == i, column] = 2 / copies[i]
        parts: dict[str, list[int]] = {}
        for i, gene in enumerate(encoding.genes):
            whole = _NUMBER.search(gene.path)
            parts.setdefault(gene.path[: whole.end()] if whole else "", []).append(i)
        # a part with fewer genes than another is filled up by a column behind all, in which no answer stands
        longest = max(map(len, parts.values()), default=0)
        filled = [columns + [len(kinds)] * (longest - len(columns)) for columns in parts.values()]
        self._parts = np.array(filled, dtype=np.int64).reshape(len(parts), longest).T

    def __call__(self, rows: Rows) -> Features:
        """The features of canonical rows (N, G)."""
        genes = self._values[rows[:, self.gene] + self._first]
        sums = np.hstack((genes @ self._adds, (rows >= 0) @ self._counts - 1))
        return Features(genes, sums, self._named(rows).T)

    def _named(self, rows: Rows) -> NDArray[np.uint32]:
        """A number for the answers of each part, (L, N), equal for equal ones; 0 where none is given."""
        answers = np.vstack((rows.T, np.full(len(rows), SILENT, rows.dtype)))
        code = np.zeros((self._parts.shape[1], len(rows)), np.uint64)
        asked = np.zeros(code.shape, bool)
        for columns in self._parts:  # the first gene of all parts, then the second
            mine = answers[columns]
            code += mine.astype(np.uint64)
            code += np.uint64(2)
            code *= _MIXER
            code ^= code >> np.uint64(29)
            asked |= mine >= 0
        names = (code >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
        return np.where(asked, names, np.uint32(0))


def _embedding(labels: tuple[Label, ...]) -> Array:
    """Centred vectors of the answers to one question, (labels, rank), of mean squared length one."""
    count = len(labels)
    similar = np.eye(count)
    if is_ordered(labels):
        place = np.arange(count) / (count - 1)
        similar = np.exp(-((place[:, None] - place[None, :]) ** 2) / (2 * SMOOTHNESS**2))
    centring = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(centring @ similar @ centring)
    kept = values > KEPT * max(values.sum(), 1e-12)
    embedding: Array = vectors[:, kept] * np.sqrt(values[kept])
    scale = np.sqrt((embedding**2).sum() / count)
    return embedding / scale if scale > 0 else embedding
