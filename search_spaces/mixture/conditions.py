"""Which answers lead to a part of a space, and how likely they are when every gene has its own distribution.

A condition names genes and, for each, the options that it allows; it holds when every one of these genes is
answered by an allowed option. With independent genes its chance is a product of sums: exactly so, because a
shared choice is one gene however often it is used, and appears once in a condition.

    closings_if(node, path)        every closed value of a part, each with the condition that leads to it
    Chances(genes, conditions)     all their probabilities at once, differentiable

"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from itertools import product
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.language.choices import OneOf, field_names, join
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Gene, Space

Condition: TypeAlias = Mapping[str, frozenset[int]]
"""Allowed options (their indices) by path; empty where everything is allowed."""

Value = TypeVar("Value", bound=Hashable)

ALWAYS: Condition = {}


def both(one: Condition, other: Condition) -> Condition | None:
    """What holds when both do; None where they exclude each other."""
    if not one or not other:
        return one or other
    joined = dict(one)
    for path, allowed in other.items():
        left = joined.get(path, allowed) & allowed
        if not left:
            return None
        joined[path] = left
    return joined


def closings_if(node: Any, path: str) -> Iterator[tuple[Any, Condition]]:
    """Every closed value of a part of a space that stands at `path`, with the condition that leads to it."""
    if isinstance(node, OneOf):
        own = node.own_path(path)
        for index, label in enumerate(node.labels):
            here = {own: frozenset((index,))}
            for value, inner in closings_if(node.labelled(label), node.inner_path(own, label)):
                condition = both(here, inner)
                if condition is not None:
                    yield value, condition
    elif isinstance(node, tuple):
        parts = [tuple(closings_if(part, join(path, i))) for i, part in enumerate(node)]
        for values, condition in _joined(parts):
            yield tuple(values), condition
    elif is_dataclass(node) and not isinstance(node, type):
        names = field_names(type(node))
        parts = [tuple(closings_if(getattr(node, name), join(path, name))) for name in names]
        for values, condition in _joined(parts):
            yield type(node)(**dict(zip(names, values, strict=True))), condition
    else:
        yield node, ALWAYS


def _joined(parts: Sequence[Sequence[tuple[Any, Condition]]]) -> Iterator[tuple[list[Any], Condition]]:
    for combination in product(*parts):
        condition: Condition | None = ALWAYS
        for _, inner in combination:
            condition = both(condition, inner) if condition is not None else None
        if condition is not None:
            yield [value for value, _ in combination], condition


def options_if(node: Any, path: str) -> Iterator[tuple[Any, str, Condition]]:
    """The options of an open value with the paths of their inner questions, or the value itself, open."""
    if not isinstance(node, OneOf):
        yield node, path, ALWAYS
        return
    own = node.own_path(path)
    for index, label in enumerate(node.labels):
        yield node.labelled(label), node.inner_path(own, label), {own: frozenset((index,))}


def gathered(
    found: Iterable[tuple[Value, Condition]], genes: Mapping[str, int]
) -> dict[Value, list[Condition]]:
    """Values with all the conditions that lead to them, as few as merging finds; `genes` are option counts.

    Conditions of one value that differ in one gene only become one; a gene of which all options are allowed
    no longer matters.
    """
    by_value: dict[Value, list[Condition]] = {}
    for value, condition in found:
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


@dataclass(frozen=True)
class OpenLayer:
    """One way to fill a place of the stack: a layer, open inside, the path of its questions, and when."""

    index: int
    layer: Any
    path: str
    condition: Condition


def open_layers(decoder: Any, path: str) -> Iterator[OpenLayer]:
    """Every layer that may stand at each index of a decoder whose own questions live at `path`."""
    stacks, where = decoder.layers, join(path, "layers")
    if isinstance(stacks, OneOf) and stacks.is_repeat:
        own, depths = stacks.own_path(where), [len(option) for option in stacks.options]
        for index, node in enumerate(stacks.options[depths.index(max(depths))]):
            deep = frozenset(i for i, depth in enumerate(depths) if depth > index)
            yield from _layers_at(index, node, own, {own: deep})
        return
    for stack, inner, condition in options_if(stacks, where):
        for index, node in enumerate(stack):
            yield from _layers_at(index, node, inner, condition)


def _layers_at(index: int, node: Any, path: str, condition: Condition) -> Iterator[OpenLayer]:
    for layer, inner, here in options_if(node, join(path, index)):
        joined = both(condition, here)
        if joined is not None:
            yield OpenLayer(index, layer, inner, joined)


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
        for i, known in enumerate(gene.labels):
            if type(known) is type(label) and known == label:
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
        found = shares.new_ones(self.index.shape[0])
        for column in self.index.to(shares.device).unbind(1):
            found = found * atoms.index_select(0, column)
        return found
