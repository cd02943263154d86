"""How likely the parts of a space are when every gene has its own distribution.

With independent genes the chance of a condition (`search_spaces.language.walk`) is a product of sums: exactly
so, because a shared choice is one gene however often it is used, and appears once in a condition.

    gathered(closings, counts)     every value with the conditions that lead to it, as few as possible
    Chances(genes, conditions)     all their probabilities at once, differentiable
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Gene, Space
from search_spaces.language.walk import Condition

Value = TypeVar("Value", bound=Hashable)


def gathered(
    closings: Iterable[tuple[Value, Condition]], genes: Mapping[str, int]
) -> dict[Value, list[Condition]]:
    """Values with all the conditions that lead to them, as few as merging finds; `genes` are option counts.

    Conditions of one value that differ in one gene only become one; a gene of which all options are allowed
    no longer matters.
    """
    by_value: dict[Value, list[Condition]] = {}
    for value, condition in closings:
        by_value.setdefault(value, []).append(condition)
    return {value: _merged(conditions, genes) for value, conditions in by_value.items()}


def _merged(conditions: list[Condition], genes: Mapping[str, int]) -> list[Condition]:
    for path in sorted({path for condition in conditions for path in condition}):
        alike: dict[Hashable, tuple[Condition, frozenset[int]]] = {}
        for condition in conditions:
            rest = {name: allowed for name, allowed in condition.items() if name != path}
            allowed = condition.get(path, frozenset(range(genes[path])))
            key = frozenset(rest.items())
            before = alike[key][1] if key in alike else frozenset[int]()
            alike[key] = rest, before | allowed
        conditions = [
            rest if len(allowed) == genes[path] else {**rest, path: allowed}
            for rest, allowed in alike.values()
        ]
    return conditions


class Genes:
    """The genes of a space as one flat vector of options; `start` is where each one's options begin."""

    def __init__(self, space: Space) -> None:
        self.space, self.genes = space, space.genes
        self.counts = {gene.path: len(gene.labels) for gene in self.genes}
        self.start: dict[str, int] = {}
        self.size = 0
        for gene in self.genes:
            self.start[gene.path] = self.size
            self.size += len(gene.labels)
        rows = [i for i, gene in enumerate(self.genes) for _ in gene.labels]
        columns = [j for gene in self.genes for j in range(len(gene.labels))]
        self.rows, self.columns = torch.tensor(rows), torch.tensor(columns)
        self.widest = max(self.counts.values(), default=1)

    def table(self, values: Tensor, fill: float) -> Tensor:
        """Flat values as one row per gene, short rows padded: [G, most options]."""
        padded = values.new_full((len(self.genes), self.widest), fill)
        where = self.rows.to(values.device), self.columns.to(values.device)
        return padded.index_put(where, values)

    def flat(self, table: Tensor) -> Tensor:
        """The inverse of `table`."""
        return table[self.rows.to(table.device), self.columns.to(table.device)]

    def shares(self, logits: Tensor) -> Tensor:
        """A softmax per gene, flat."""
        return self.flat(self.table(logits, float("-inf")).softmax(-1)) if self.size else logits

    def one_hot(self, genotype: Genotype, dtype: torch.dtype = torch.float32) -> Tensor:
        """All weight on the answers of a genotype; genes that it does not ask get equal shares.

        Raises:
            SpaceError: an answer to no gene of this space.
        """
        shares = torch.empty(self.size, dtype=dtype)
        for gene in self.genes:
            shares[self.slice(gene)] = 1 / len(gene.labels)
        for path, label in genotype.genes.items():
            gene = self.gene(path)
            shares[self.slice(gene)] = 0.0
            shares[self.start[path] + self.index(gene, label)] = 1.0
        return shares

    def slice(self, gene: Gene) -> slice:
        """Where the options of a gene stand in the flat vector."""
        return slice(self.start[gene.path], self.start[gene.path] + len(gene.labels))

    def gene(self, path: str) -> Gene:
        """The gene of this path.

        Raises:
            SpaceError: there is none.
        """
        for gene in self.genes:
            if gene.path == path:
                return gene
        raise SpaceError(f"{self.space.name} has no gene {path!r}")

    @staticmethod
    def index(gene: Gene, label: Any) -> int:
        """The number of an option.

        Raises:
            SpaceError: there is none of this label.
        """
        for i, option in enumerate(gene.labels):
            if type(option) is type(label) and option == label:
                return i
        raise SpaceError(f"{gene.path}: {label!r} is not among {gene.labels}")


class Chances:
    """Probabilities of many conditions at once, from the flat shares of all genes."""

    def __init__(self, genes: Genes, conditions: Sequence[Condition]) -> None:
        atoms: dict[tuple[str, frozenset[int]], int] = {}
        rows = [[atoms.setdefault(item, len(atoms) + 1) for item in c.items()] for c in conditions]
        longest = max(map(len, rows), default=0)
        # atom 0 is certain: it pads short conditions
        self.index = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long)
        self.index = self.index.reshape(len(rows), longest)
        self.members = torch.zeros(len(atoms), genes.size)
        for (path, allowed), number in atoms.items():
            for option in allowed:
                self.members[number - 1, genes.start[path] + option] = 1.0

    def __call__(self, shares: Tensor) -> Tensor:
        """The probability of each condition [C]."""
        atoms = torch.cat((shares.new_ones(1), self.members.to(shares) @ shares))
        chances = shares.new_ones(self.index.shape[0])
        for column in self.index.to(shares.device).unbind(1):
            chances = chances * atoms.index_select(0, column)
        return chances
