"""Genotypes as rows of whole numbers, so that thousands of them are made and compared at once.

A row has a column for each gene of the space: the index of the answer, or `SILENT` where the gene is not
asked. Whether it is asked follows from the answers of others: it stands in a branch, or in a layer of a stack
that may be shorter. A shared choice is asked where any of its places is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.language.choices import OneOf, field_names, join
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space

Rows = NDArray[np.int16]
"""Shape (N, G): N candidates, G genes."""

SILENT = -1

Place = tuple[int, int]
"""A gene and one of its answers, under which another gene stands."""


def is_ordered(labels: Sequence[Label]) -> bool:
    """Whether the answers are three numbers or more in rising order: neighbours resemble each other."""
    numbers = _numbers(labels)
    return len(numbers) > 2 and all(a < b for a, b in pairwise(numbers))


def _numbers(labels: Sequence[Label]) -> list[float]:
    """The labels where all are numbers, else none."""
    numbers = [label for label in labels if isinstance(label, (int, float)) and not isinstance(label, bool)]
    return numbers if len(numbers) == len(labels) else []


class Encoding:
    """The genes of a space as columns."""

    def __init__(self, space: Space) -> None:
        self.genes = space.genes
        self.columns = {gene.path: column for column, gene in enumerate(self.genes)}
        self.sizes = np.array([len(gene.labels) for gene in self.genes], dtype=np.int16)
        self.ordered = np.array([is_ordered(gene.labels) for gene in self.genes], dtype=bool)
        self.numeric = np.array([bool(_numbers(gene.labels)) for gene in self.genes], dtype=bool)
        self._indices: list[dict[tuple[type, Label], int]] = [
            {(type(label), label): i for i, label in enumerate(gene.labels)} for gene in self.genes
        ]
        self._places: list[set[Place | None]] = [set() for _ in self.genes]
        self._visit(space.root, "", None)

    def _visit(self, node: Any, path: str, place: Place | None) -> None:
        """Note under which answers every gene inside of `node` stands."""
        if isinstance(node, OneOf):
            own = node.own_path(path)
            column = self.columns[own]
            self._places[column].add(place)
            for index, label in enumerate(node.labels):
                self._visit(node.labelled(label), node.inner_path(own, label), (column, index))
        elif isinstance(node, tuple):
            for i, part in enumerate(node):
                self._visit(part, join(path, i), place)
        elif is_dataclass(node):
            for name in field_names(type(node)):
                self._visit(getattr(node, name), join(path, name), place)

    @cached_property
    def _conditions(self) -> list[tuple[list[int], list[tuple[int, NDArray[np.bool_]]]]]:
        """Columns that are asked under the same answers, and which: parents before children."""
        alike: dict[frozenset[Place], list[int]] = defaultdict(list)
        for column, places in enumerate(self._places):
            if None not in places:
                alike[frozenset(place for place in places if place is not None)].append(column)
        above = {
            column: {parent for parent, _ in under} for under, columns in alike.items() for column in columns
        }
        rank = {column: i for i, column in enumerate(TopologicalSorter(above).static_order())}
        conditions = []
        for under, columns in alike.items():
            allowed: dict[int, NDArray[np.bool_]] = {}
            for parent, index in sorted(under):
                allowed.setdefault(parent, np.zeros(self.sizes[parent], bool))[index] = True
            conditions.append((columns, list(allowed.items())))
        # columns of one condition have the same parents, so the first stands for all
        return sorted(conditions, key=lambda condition: max(rank[p] for p, _ in condition[1]))

    def canonical(self, rows: Rows) -> Rows:
        """The rows with `SILENT` wherever a gene is not asked; every gene must have an answer before."""
        # a gene is a row here, since what is read and written at once should lie together
        answers = np.ascontiguousarray(rows.T)
        asked = np.ones(answers.shape, bool)
        for columns, parents in self._conditions:
            any_place = np.zeros(len(rows), bool)
            for parent, allowed in parents:
                any_place |= asked[parent] & allowed[answers[parent]]
            asked[columns] = any_place
        canonical: Rows = np.where(asked.T, rows, SILENT).astype(np.int16)
        return canonical

    def random(self, count: int, chance: np.random.Generator) -> Rows:
        """An answer to every gene, uniformly: (count, G)."""
        # several times as fast as whole numbers below bounds that differ
        drawn: Rows = (chance.random((count, len(self.sizes))) * self.sizes).astype(np.int16)
        return drawn

    def row(self, genotype: Genotype) -> Rows:
        """The row of one genotype, (G,); answers that the space does not know are left out."""
        row = np.full(len(self.genes), SILENT, dtype=np.int16)
        for path, label in genotype.genes.items():
            column = self.columns.get(path)
            if column is not None:
                row[column] = self._indices[column].get((type(label), label), SILENT)
        return row

    def answers(self, row: Sequence[int] | Rows) -> dict[str, Label]:
        """The labels of a row, by path."""
        return {
            gene.path: gene.labels[index]
            for gene, index in zip(self.genes, row, strict=True)
            if index != SILENT
        }
