"""The two calls that a strategy answers: `ask` and `tell`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from random import Random
from typing import Any, ClassVar, TypeVar

from foundation.errors import EvaluationFailed, SettingError
from foundation.registry import Registry
from foundation.settings import Settings
from nas.study.known_costs import NOTHING_KNOWN, KnownCosts
from nas.study.own_code import own_code
from nas.study.seed import Seed
from nas.study.trial import PARENTS, PROPOSER, Trial
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space

SEEDS, SEED = "seeds", "seed"
"""In the memo of a proposal that was given: what proposed it, and the name of where it comes from."""


@dataclass(frozen=True)
class Proposal:
    """A candidate, and what the strategy gets back with its outcome (stored with the trial).

    A `memo` should have in `PARENTS` the numbers of the trials that the candidate was made of, or an empty
    list: `nas lineage` shows them.
    `spec` is the architecture, where the strategy has closed and checked it already.
    """

    genotype: Genotype
    memo: Mapping[str, Any] = field(default_factory=dict)
    spec: Any = None


class Strategy(ABC):
    """Proposes candidates and learns from their outcomes.

    A proposal depends on the space, the seed, the trial's number, what is `known` of candidates and the
    outcomes received so far, and on nothing else. So a search that was stopped, and whose trials are told
    again in their order, asks what it would have asked anyway. `goals` gives, per objective, its name and
    whether it is maximised. `settings_kind` is the class of its settings.
    """

    name: ClassVar[str]
    settings_kind: ClassVar[type[Settings]] = Settings

    use: ClassVar[str] = ""
    """When to use it, after the words "use it": `nas strategies` says so."""

    slow_after_news: ClassVar[bool] = False
    """Whether the first proposal after an outcome takes much longer than those that follow until the next."""

    known: KnownCosts = NOTHING_KNOWN
    """The cheap objectives and constraints of the search, to be computed on any architecture."""

    def __init__(
        self,
        space: Space,
        goals: Sequence[tuple[str, bool]],
        *,
        seed: int,
        settings: Settings | None = None,
    ) -> None:
        self.space, self.goals, self.seed = space, tuple(goals), seed
        self.settings = settings or self.settings_kind()
        self.prepare()

    def prepare(self) -> None:
        """Set up what the strategy keeps; space, goals, seed and settings are there."""

    seeds: tuple[Seed, ...] = ()
    """Candidates of other studies, with what they were worth there: those to be tried first, and others."""

    _given: tuple[Seed, ...] = ()

    def begin_with(self, seeds: Sequence[Seed]) -> None:
        """Hear, before all trials, of candidates of other studies; the first proposals are those marked so.

        A strategy that can may learn from the values of all of them.
        """
        self.seeds = tuple(seeds)
        self._given = tuple(seed for seed in seeds if seed.first)

    def inform(self, known: KnownCosts) -> None:
        """Hear, before all trials, what can be computed of a candidate before it is scored."""
        self.known = known

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """What a user should know before a search of so many trials; empty where that is nothing."""
        return ""

    def ask(self, number: int) -> Proposal:
        """A candidate for trial `number`; outcomes of earlier trials may still be unknown."""
        if number < len(self._given):
            seed = self._given[number]
            return Proposal(seed.genotype, {PARENTS: [], PROPOSER: SEEDS, SEED: seed.source})
        return self.propose(number, Random(f"{self.seed}/{number}"))

    @abstractmethod
    def propose(self, number: int, dice: Random) -> Proposal:
        """A candidate, with `dice` as the only source of chance."""

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """A proposal that broke a constraint, moved by the driver to an architecture that keeps them."""
        return replace(proposal, genotype=genotype, spec=spec)

    def take_up(self, trial: Trial) -> None:
        """Hear of a trial that was being scored when the search stopped, and is scored again."""

    def tell(self, trial: Trial) -> None:
        """Learn from the outcome of a trial, whatever it was."""

    def refine(self, trial: Trial) -> None:
        """Hear of a candidate again, under the number that it was told with: its values are known better now.

        It was trained further, or it is clearer what further training would give. A score is always that of a
        whole training: predicted, with the error of that, or as scored at its end. By default nothing is
        learned from the news; a strategy that minds errors takes them in the place of what it was told.
        """


Family = TypeVar("Family", bound=Callable[[str], type[Strategy]])


class Strategies(Registry[type[Strategy]]):
    """Strategies by name, and those of other libraries as `FAMILY:MEMBER`, e.g. `nni:TPE`.

    Of the latter none is listed: a library may have any number, or not be installed. Installed packages add
    strategies by entry points of the group `nas.strategies`; each is loaded when it is asked for by its name,
    or listed.
    """

    def __init__(self, kind: str, folder: str) -> None:
        super().__init__(kind, folder)
        self.families: dict[str, Callable[[str], type[Strategy]]] = {}

    def add_family(self, name: str) -> Callable[[Family], Family]:
        """Register, as a decorator, a function that gives the strategy of a member's name."""

        def add(family: Family) -> Family:
            self.families[name] = family
            return family

        return add

    def __getitem__(self, name: str) -> type[Strategy]:
        """The strategy of this name.

        Raises:
            UnknownName: there is none.
            SettingError: its library is not installed, or its package is broken.
        """
        self._fill()
        family, colon, member = name.partition(":") if isinstance(name, str) else ("", "", "")
        if colon and family in self.families:
            return self.families[family](member)
        if isinstance(name, str) and name not in self._things and name in self._installed():
            self._load(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted({*self._things, *self._installed()}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _installed(self) -> dict[str, EntryPoint]:
        """What installed packages add, by name; the project's own come first."""
        found = entry_points(group=self._folder or "")
        return {entry.name: entry for entry in found if entry.name not in self._things}

    def _load(self, name: str) -> None:
        """Register what a package adds under this name.

        Raises:
            SettingError: it cannot be imported, is no strategy, or has another name.
        """
        entry = self._installed()[name]
        what = f"the strategy {name} of {entry.dist.name if entry.dist else 'a package'} ({entry.value})"
        try:
            with own_code(what, entry.module):
                kind = entry.load()
        except EvaluationFailed as error:
            raise SettingError(str(error)) from None
        if not (isinstance(kind, type) and issubclass(kind, Strategy)):
            raise SettingError(
                f"{what} is none: it must be a class derived from nas.strategies.base.Strategy"
            )
        if getattr(kind, "name", None) != name:
            raise SettingError(f"{what} calls itself {getattr(kind, 'name', None)!r}: both must be the same")
        self._things[name], self._added_by[name] = kind, kind.__module__

    def module_of(self, name: str) -> str:
        """The module that registered the strategy of this name, or its family.

        Raises:
            UnknownName: there is none.
        """
        return self[name].__module__ if ":" in name else super().module_of(name)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self[name] is not None
        except SettingError:
            return False


strategies: Strategies = Strategies("strategy", folder="nas.strategies")


def make_strategy(
    name: str,
    space: Space,
    goals: Sequence[tuple[str, bool]],
    *,
    seed: int,
    settings: Mapping[str, Any],
) -> Strategy:
    """The strategy of this name with these settings.

    Raises:
        UnknownName: no such strategy, or no such setting of it.
    """
    kind = strategies[name]
    return kind(space, goals, seed=seed, settings=kind.settings_kind.from_plain(settings))
