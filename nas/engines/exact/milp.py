"""The mixed-integer linear program of one question to a choice problem, and its solver (HiGHS)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from nas.engines.exact.slots import Budgets, Picks, Slot

Genes: TypeAlias = "Mapping[str, tuple[int, ...]]"
"""The answers of every gene."""

LARGEST_SCORE = 1e3
"""What the largest score is scaled to, because the solver stops at an absolute gap of a millionth."""

_C = ctypes.CDLL(None if os.name == "posix" else "msvcrt")
_MUTING = Lock()


class Program:
    """Columns, rows and the way back; `objective` names the cost to minimise, or is empty for the score.

    Choices in `excluded` are cut off.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        genes: Genes,
        objective: str,
        budgets: Budgets,
        excluded: Sequence[Picks],
    ) -> None:
        self.genes = genes
        self.columns: list[tuple[int, int]] = []  # slot and option of each x
        self.columns_of: list[list[int]] = []  # by slot
        for number, slot in enumerate(slots):
            options = undominated(slot, (objective, *budgets), len(excluded) + 1)
            self.columns_of.append([len(self.columns) + i for i in range(len(options))])
            self.columns += [(number, option) for option in options]
        self.options = [slots[number].options[option] for number, option in self.columns]
        self.first: dict[str, int] = {}  # the first y of each gene
        self.size = len(self.columns)
        for gene, answers in genes.items():
            self.first[gene] = self.size
            self.size += len(answers)
        self.rows: list[dict[int, float]] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._add_rows(budgets, excluded)
        self.aim = _scaled(np.array([option.amount(objective) for option in self.options]), self.size)

    def solve(self, seconds: float) -> Any:
        """The solver's result."""
        entries = [(i, j, value) for i, row in enumerate(self.rows) for j, value in row.items()]
        rows, columns, values = zip(*entries, strict=True)
        matrix = csr_array((values, (rows, columns)), shape=(len(self.rows), self.size))
        with _muted():
            return milp(
                self.aim,
                constraints=LinearConstraint(matrix, self.low, self.high),
                integrality=np.ones(self.size),
                bounds=Bounds(0, 1),
                options={"mip_rel_gap": 0.0, "time_limit": seconds},
            )

    def read(self, x: NDArray[np.float64]) -> tuple[Picks, dict[str, int]]:
        """Chosen options and answers."""
        picks = tuple(self.columns[max(own, key=lambda j: x[j])][1] for own in self.columns_of)
        answers = {}
        for gene, possible in self.genes.items():
            first = self.first[gene]
            answers[gene] = possible[int(np.argmax(x[first : first + len(possible)]))]
        return picks, answers

    def _add_rows(self, budgets: Budgets, excluded: Sequence[Picks]) -> None:
        for own in self.columns_of:
            self._add_row(dict.fromkeys(own, 1.0), 1.0, 1.0)
        for gene, answers in self.genes.items():
            self._add_row({self.first[gene] + i: 1.0 for i in range(len(answers))}, 1.0, 1.0)
        for own in self.columns_of:
            self._tie_to_genes(own)
        for name, bound in budgets.items():
            values = {j: option.amount(name) for j, option in enumerate(self.options)}
            size = max(abs(bound), max(map(abs, values.values())), 1e-300)
            self._add_row({j: value / size for j, value in values.items() if value}, -np.inf, bound / size)
        number = {column: j for j, column in enumerate(self.columns)}
        for picks in excluded:
            kept = [number[column] for column in enumerate(picks) if column in number]
            self._add_row(dict.fromkeys(kept, 1.0), -np.inf, len(picks) - 1.0)

    def _tie_to_genes(self, columns: Sequence[int]) -> None:
        """Options of a slot are chosen only under the answers that they allow."""
        for gene in dict.fromkeys(gene for j in columns for gene in self.options[j].when):
            allowed = {j: self.options[j].when.get(gene) for j in columns}
            possible = self.genes[gene]
            for answers in dict.fromkeys(a for a in allowed.values() if a is not None):
                row = {j: 1.0 for j, a in allowed.items() if a is not None and a <= answers}
                row |= {self.first[gene] + possible.index(answer): -1.0 for answer in answers}
                self._add_row(row, -np.inf, 0.0)

    def _add_row(self, row: dict[int, float], low: float, high: float) -> None:
        self.rows.append(row)
        self.low.append(low)
        self.high.append(high)


def undominated(slot: Slot, amounts: Sequence[str], enough: int) -> list[int]:
    """The options that may be in one of the `enough` best choices.

    An option that `enough` others under the same answers match or beat in all these amounts is in none of
    them, or can be exchanged.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, option in enumerate(slot.options):
        groups.setdefault(frozenset(option.when.items()), []).append(i)
    kept: list[int] = []
    for group in groups.values():
        values = np.array([[slot.options[i].amount(name) for name in amounts] for i in group])
        below = (values[:, None] <= values[None]).all(-1)  # [i, j]: i matches or beats j
        equal = below & below.T
        first = np.triu(np.ones(below.shape, dtype=bool), 1)  # of equal ones the first beats the others
        beaten = (below & (~equal | first)).sum(0)
        kept += [i for i, count in zip(group, beaten, strict=True) if count < enough]
    return sorted(kept)


def _scaled(aim: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    largest = float(np.abs(aim).max())
    padded = np.zeros(size)
    padded[: len(aim)] = aim * (LARGEST_SCORE / largest if largest else 1.0)
    return padded


@contextmanager
def _muted() -> Iterator[None]:
    """Nothing is written to standard output meanwhile.

    HiGHS prints a line for some solutions though its output is off: from C, past `sys.stdout`, and into what
    may be somebody's JSON. One at a time; what other threads print meanwhile is lost.
    """
    with _MUTING, ExitStack() as after:
        try:
            kept = os.dup(1)
        except OSError:  # there is no standard output
            yield
            return
        after.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        after.callback(os.close, nowhere)
        if sys.stdout is not None:
            sys.stdout.flush()
        _C.fflush(None)  # what was printed before is no part of it
        os.dup2(nowhere, 1)
        after.callback(os.dup2, kept, 1)
        after.callback(_C.fflush, None)  # or it comes out later, when the buffer is full
        yield
