"""The best choice of one option per place, under budgets: an integer program, solved to a proven optimum.

    minimise    sum over places p and options o of score[p, o] x[p, o]
    such that   sum over o of x[p, o] = 1                        one option per place
                sum over p, o of cost[p, o] x[p, o] <= budget    for every budget
                x[p, o] <= sum over answers a allowed by o of y[g, a]    for every gene g that o hangs on
                sum over a of y[g, a] = 1                        one answer per gene

Genes tie places together: bits that two halves of a layer share, one width for all layers, a depth that makes
all later layers absent. An option names the answers under which it may stand (`Option.when`); x and y are 0
or 1. The tying rows are summed over all options of a place whose answers lie within the same set, which
leaves the relaxation as little room as possible.

Scores and costs may be of any size and sign. The solver (HiGHS, by `scipy.optimize.milp`) keeps budgets up to
a millionth only: what it finds is added up again, and cut off where it really breaks a budget.

Choosing blocks by additive scores and an integer program is Puzzle's (Bercovich et al. 2024,
arXiv:2411.19146).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from foundation.errors import SettingError, SpaceError

Budgets: TypeAlias = "Mapping[str, float]"
"""The most that a cost may add up to, by the name of the cost."""

Picks: TypeAlias = tuple[int, ...]
"""The number of the chosen option at each place."""

SECONDS = 60.0
"""How long one solution may take."""

REPAIRS = 50
"""How many solutions in a row may be forbidden, or break a budget by less than the solver can see."""

SIZE = 1e3
"""What the largest score is scaled to, because the solver stops at an absolute gap of a millionth."""


_C = ctypes.CDLL(None if os.name == "posix" else "msvcrt")
_MUTING = Lock()


class Unreachable(SpaceError):
    """No choice keeps the budgets; `least` is the smallest that each cost can be by itself."""

    def __init__(self, message: str, least: Mapping[str, float]) -> None:
        super().__init__(message)
        self.least = dict(least)


class Unsolved(SpaceError):
    """No choice was found in time, or none that is allowed among the best."""


@dataclass(frozen=True)
class Option:
    """One way to fill a place: what it adds to the score and to each cost, and when it may stand there.

    `when` gives, by gene, the answers under which it may stand; a gene that is not named does not matter. A
    cost that is not named is zero.
    """

    name: Hashable
    score: float
    costs: Mapping[str, float] = field(default_factory=dict)
    when: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Somewhere one of several options must stand."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Chosen:
    """One option per place, the answers of the genes, and what they add up to.

    `proven` says that nothing better exists; it is false where the time was over first.
    """

    picks: Picks
    answers: Mapping[str, int]
    score: float
    costs: Mapping[str, float]
    proven: bool = True


class Choice:
    """Places with their options, checked; each question is a call.

    What `allows` says no to is never the best: it is cut off, one choice at a time, so a rule that forbids
    much should be a budget or a gene.

    Raises:
        SettingError: a place without options, two places of one name, or a number that is not finite.
    """

    def __init__(
        self, places: Sequence[Place], *, allows: Callable[[Picks], bool] = lambda picks: True
    ) -> None:
        self.places, self.allows = tuple(places), allows
        names = [place.name for place in self.places]
        if not names or len(set(names)) != len(names):
            raise SettingError(f"places need names of their own, got {', '.join(names) or 'none'}")
        self.costs = tuple(dict.fromkeys(c for p in self.places for o in p.options for c in o.costs))
        self.genes: dict[str, tuple[int, ...]] = {}
        for place in self.places:
            _check(place)
            for option in place.options:
                for gene, allowed in option.when.items():
                    self.genes[gene] = tuple(sorted({*self.genes.get(gene, ()), *allowed}))

    def best(
        self, budgets: Budgets | None = None, *, without: Iterable[Picks] = (), seconds: float = SECONDS
    ) -> Chosen:
        """The choice of the least score that keeps the budgets, other than those in `without`.

        Raises:
            Unreachable: there is none; the message says what can be reached.
            Unsolved: none was found in `seconds`.
            SettingError: no option has such a cost.
        """
        budgets, cut = self._checked(budgets), list(without)
        for _ in range(REPAIRS):
            found = self._solve("", budgets, cut, seconds)
            if found is None:
                raise self._unreachable(budgets, bool(cut), seconds)
            if not _broken(found, budgets) and self.allows(found.picks):
                return found
            cut.append(found.picks)
        raise Unsolved(
            f"the {REPAIRS} best choices under {_told(budgets)} are forbidden: make the rule a budget"
        )

    def best_few(
        self, count: int, budgets: Budgets | None = None, *, seconds: float = SECONDS
    ) -> list[Chosen]:
        """The `count` best choices, best first; fewer where there are no more.

        Raises:
            Unreachable: there is none at all.
        """
        found: list[Chosen] = []
        while len(found) < count:
            try:
                found.append(self.best(budgets, without=[one.picks for one in found], seconds=seconds))
            except Unreachable:
                if not found:
                    raise
                break
        return found

    def least(self, cost: str, budgets: Budgets | None = None, *, seconds: float = SECONDS) -> Chosen:
        """The choice of the least `cost` that keeps the other budgets.

        Raises:
            Unreachable: no choice keeps them.
        """
        budgets = self._checked({**(budgets or {}), cost: math.inf})
        found = self._solve(cost, budgets, [], seconds)
        if found is None:
            raise self._unreachable(budgets, False, seconds)
        return found

    def totals(self, picks: Sequence[int]) -> tuple[float, dict[str, float]]:
        """Score and costs of a choice."""
        options = [place.options[i] for place, i in zip(self.places, picks, strict=True)]
        costs = {c: math.fsum(option.costs.get(c, 0.0) for option in options) for c in self.costs}
        return math.fsum(option.score for option in options), costs

    def allowed(self, picks: Sequence[int]) -> bool:
        """Whether these options may stand together."""
        left = {gene: frozenset(answers) for gene, answers in self.genes.items()}
        for place, i in zip(self.places, picks, strict=True):
            for gene, allowed in place.options[i].when.items():
                left[gene] &= allowed
        return all(left.values())

    def _checked(self, budgets: Budgets | None) -> dict[str, float]:
        for name, bound in (budgets or {}).items():
            if name not in self.costs:
                raise SettingError(
                    f"no option has a cost {name!r}; the costs are {', '.join(self.costs) or 'none'}"
                )
            if math.isnan(bound):
                raise SettingError(f"the budget of {name} must be a number, got {bound}")
        return dict(budgets or {})

    def _solve(self, cost: str, budgets: Budgets, cut: Sequence[Picks], seconds: float) -> Chosen | None:
        """The least score, or `cost` where one is named; None where nothing keeps the budgets."""
        bounded = {name: bound for name, bound in budgets.items() if bound < math.inf}
        program = _Program(self, cost, bounded, cut)
        found = program.run(seconds)
        if found.status == 2:
            return None
        if found.x is None:
            raise Unsolved(f"no choice was found in {seconds:g} s: {found.message}")
        picks, answers = program.read(found.x)
        return Chosen(picks, answers, *self.totals(picks), proven=found.status == 0)

    def _unreachable(self, budgets: Budgets, cut: bool, seconds: float) -> Unreachable:
        """Why there is no choice: the costs that are too large by themselves, or all of them together."""
        if self._solve("", {}, [], seconds) is None:
            return Unreachable("no options may stand together: their genes exclude each other", {})
        least = {name: self.least(name, seconds=seconds).costs[name] for name in budgets}
        over = [name for name, bound in budgets.items() if least[name] > bound]
        if over:
            told = ", ".join(
                f"{name} is at least {least[name]:.6g}, not {budgets[name]:.6g}" for name in over
            )
            return Unreachable(f"no choice keeps the budgets: {told}", least)
        if cut and self._solve("", budgets, [], seconds) is not None:
            return Unreachable(f"no further choice keeps the budgets {_told(budgets)}", least)
        told = "; ".join(self._least_beside(name, budgets, seconds) for name in budgets)
        return Unreachable(f"no choice keeps the budgets {_told(budgets)} together: {told}", least)

    def _least_beside(self, name: str, budgets: Budgets, seconds: float) -> str:
        others = {other: bound for other, bound in budgets.items() if other != name}
        found = self._solve(name, others, [], seconds)
        return (
            f"{name} is at least {found.costs[name]:.6g} beside the others"
            if found
            else f"not even without {name}"
        )


class _Program:
    """The integer program of one question: its columns, its rows, and the way back."""

    def __init__(self, choice: Choice, cost: str, budgets: Budgets, cut: Sequence[Picks]) -> None:
        self.choice = choice
        self.columns: list[tuple[int, int]] = []  # place and option of each x
        self.kept: list[list[int]] = []  # columns by place
        wanted = (cost, *budgets)
        for p, place in enumerate(choice.places):
            options = _worth(place, wanted, len(cut) + 1)
            self.kept.append([len(self.columns) + i for i in range(len(options))])
            self.columns += [(p, o) for o in options]
        self.option = [choice.places[p].options[o] for p, o in self.columns]
        self.start: dict[str, int] = {}  # first y of each gene
        self.size = len(self.columns)
        for gene, answers in choice.genes.items():
            self.start[gene] = self.size
            self.size += len(answers)
        self.rows: list[dict[int, float]] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._fill(budgets, cut)
        self.aim = _scaled(np.array([_cost(o, cost) for o in self.option]), self.size)

    def run(self, seconds: float) -> Any:
        """What the solver says."""
        entries = [(i, j, v) for i, row in enumerate(self.rows) for j, v in row.items()]
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
        picks = tuple(self.columns[max(kept, key=lambda j: x[j])][1] for kept in self.kept)
        answers = {}
        for gene, known in self.choice.genes.items():
            first = self.start[gene]
            answers[gene] = known[int(np.argmax(x[first : first + len(known)]))]
        return picks, answers

    def _fill(self, budgets: Budgets, cut: Sequence[Picks]) -> None:
        for kept in self.kept:
            self._row(dict.fromkeys(kept, 1.0), 1.0, 1.0)
        for gene, answers in self.choice.genes.items():
            self._row({self.start[gene] + i: 1.0 for i in range(len(answers))}, 1.0, 1.0)
        for kept in self.kept:
            self._tie(kept)
        for name, bound in budgets.items():
            values = {j: _cost(option, name) for j, option in enumerate(self.option)}
            size = max(abs(bound), max(map(abs, values.values())), 1e-300)
            self._row({j: value / size for j, value in values.items() if value}, -np.inf, bound / size)
        number = {column: j for j, column in enumerate(self.columns)}
        for picks in cut:
            found = [number[p, o] for p, o in enumerate(picks) if (p, o) in number]
            self._row(dict.fromkeys(found, 1.0), -np.inf, len(picks) - 1.0)

    def _tie(self, kept: list[int]) -> None:
        """Options stand only under the answers that they allow."""
        for gene in dict.fromkeys(gene for j in kept for gene in self.option[j].when):
            allowed = {j: self.option[j].when.get(gene) for j in kept}
            known = self.choice.genes[gene]
            for answers in dict.fromkeys(a for a in allowed.values() if a is not None):
                row = {j: 1.0 for j, a in allowed.items() if a is not None and a <= answers}
                row |= {self.start[gene] + known.index(a): -1.0 for a in answers}
                self._row(row, -np.inf, 0.0)

    def _row(self, row: dict[int, float], low: float, high: float) -> None:
        self.rows.append(row)
        self.low.append(low)
        self.high.append(high)


def _worth(place: Place, wanted: Sequence[str], enough: int) -> list[int]:
    """The options that may be in one of the `enough` best choices.

    An option that `enough` others under the same answers match or beat in everything that is asked is in none
    of them, or can be exchanged.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, option in enumerate(place.options):
        groups.setdefault(frozenset(option.when.items()), []).append(i)
    kept: list[int] = []
    for group in groups.values():
        values = np.array([[_cost(place.options[i], name) for name in wanted] for i in group])
        below = (values[:, None] <= values[None]).all(-1)  # [i, j]: i matches or beats j
        equal = below & below.T
        first = np.triu(np.ones(below.shape, dtype=bool), 1)  # of equal ones the first beats the others
        beaten = (below & (~equal | first)).sum(0)
        kept += [i for i, count in zip(group, beaten, strict=True) if count < enough]
    return sorted(kept)


@contextmanager
def _muted() -> Iterator[None]:
    """Nothing goes to standard output meanwhile.

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


def _cost(option: Option, name: str) -> float:
    """A cost of an option; its score where the name is empty."""
    return option.costs.get(name, 0.0) if name else option.score


def _scaled(aim: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    largest = float(np.abs(aim).max())
    padded = np.zeros(size)
    padded[: len(aim)] = aim * (SIZE / largest if largest else 1.0)
    return padded


def _broken(found: Chosen, budgets: Budgets) -> bool:
    return any(found.costs[name] > bound for name, bound in budgets.items())


def _told(budgets: Budgets) -> str:
    if not budgets:
        return "no budget"
    return ", ".join(f"{name}<={bound:.6g}" for name, bound in budgets.items())


def _check(place: Place) -> None:
    if not place.options:
        raise SettingError(f"{place.name}: there must be an option at least")
    for option in place.options:
        for what, value in (("score", option.score), *option.costs.items()):
            if not math.isfinite(value):
                raise SettingError(f"{place.name}: {what} of {option.name!r} must be finite, got {value}")
        for gene, allowed in option.when.items():
            if not allowed:
                raise SettingError(f"{place.name}: {option.name!r} may stand under no answer of {gene}")
