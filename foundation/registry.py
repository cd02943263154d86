"""Registries: how one new file adds a block, a strategy, an objective, a figure.

A registry is a read-only mapping from names to things. It fills itself, on first use, by importing every
module of its folder; a module adds what it defines with the decorator `@registry.add`. A second thing of
one name is refused, and an unknown name is answered with the nearest known one.

Modules of users' files are run again, from where they lie or from a copy: what they added makes way.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from foundation.errors import UnknownName

T = TypeVar("T")


LEAST_ALIKE, LEAST_OF_SAME_BEGINNING = 0.65, 0.5
"""The share of letters that a typing error leaves in place (difflib), and after the same beginning."""

LEAST_PART, MOST_MEANT = 3, 3
"""Letters of a name that tells as a part of others, and how many others it may be a part of."""

MOST_LISTED = 16
"""Names that a message lists."""

_making_way: set[str] = set()
"""Modules that may be run again under another name."""


def make_way(modules: Iterable[str]) -> None:
    """Let what is added from now on take the names of what these modules added, in every registry."""
    _making_way.update(modules)


def nearest(name: object, names: Iterable[str]) -> str:
    """A hint: the known name that is meant, whatever its case; where none is near, what there is.

    Near is a typing error, or else a few names of which this is a part, or that are part of it.
    """
    names, asked = sorted(names), str(name).lower()
    by_lower_case = {known.lower(): known for known in names}
    close = difflib.get_close_matches(asked, by_lower_case, n=1, cutoff=LEAST_OF_SAME_BEGINNING)
    close = [known for known in close if _is_typo(asked, known)]
    if not close:
        parts = [known for known in by_lower_case if min(len(known), len(asked)) >= LEAST_PART]
        close = [known for known in parts if known in asked or asked in known]
    if 0 < len(close) <= MOST_MEANT:
        return f"did you mean {' or '.join(repr(by_lower_case[known]) for known in close)}?"
    return f"known: {_shortened(names)}"


def _is_typo(asked: str, known: str) -> bool:
    """Whether most letters of two names that are somewhat alike are the same, or most of the first ones."""
    shorter = min(len(asked), len(known))
    if asked[: shorter // 2 + 1] == known[: shorter // 2 + 1]:
        return True
    return difflib.SequenceMatcher(None, known, asked).ratio() >= LEAST_ALIKE


def _shortened(names: list[str]) -> str:
    """A list of names, whose end is only counted where there are many."""
    if len(names) <= MOST_LISTED + 1:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:MOST_LISTED])} and {len(names) - MOST_LISTED} more"


def known_name(name: str, names: Iterable[str], kind: str) -> str:
    """The one of these names that is meant, whatever its case.

    Raises:
        UnknownName: there is none.
    """
    names = list(names)
    alike = [known for known in names if known.lower() == name.lower()]
    if name in names or len(alike) == 1:
        return name if name in names else alike[0]
    raise UnknownName(f"unknown {kind} {name!r}; {nearest(name, names)}")


class Registry(Mapping[str, T]):
    """Things of one kind by name; `folder` is the package whose modules add to it."""

    def __init__(self, kind: str, folder: str | None = None) -> None:
        self.kind, self._folder = kind, folder
        self._things: dict[str, T] = {}
        self._added_by: dict[str, str] = {}
        self._filled = folder is None

    def add(self, thing: Any) -> Any:
        """Register `thing` under its `name` (or `__name__`); returns it, so this works as a decorator.

        Raises:
            ValueError: another thing of this kind already has the name.
        """
        module = sys._getframe(1).f_globals.get("__name__", "")
        if not f"{module}.".startswith(f"{self._folder}."):
            self._fill()  # else what a user's file adds could take the name of something that comes later
        returned, thing = thing, self._entry(thing)
        name = getattr(thing, "name", None) or thing.__name__
        taken = self._things.get(name)
        if taken is not None and not self.makes_way(name) and not self._is_same(taken, thing):
            where = self._added_by[name]
            raise ValueError(f"there is another {self.kind} {name!r}, of {where}: choose another name")
        self._things[name] = thing
        self._added_by[name] = module
        return returned

    def added_by(self, modules: Collection[str]) -> list[str]:
        """The names of what these modules added, in the order in which they did."""
        self._fill()
        return [name for name in self._things if self._added_by[name] in modules]

    def makes_way(self, name: str) -> bool:
        """Whether the thing of this name was added by a module that may be run again; see `make_way`."""
        return self._added_by.get(name) in _making_way

    def _entry(self, thing: Any) -> Any:
        """What is registered where `thing` is added."""
        return thing

    def _is_same(self, taken: T, thing: T) -> bool:
        """True when a module was merely executed twice (a space file that is loaded again)."""
        return _definition(taken) == _definition(thing)

    def module_of(self, name: str) -> str:
        """The module that registered the thing of this name.

        Raises:
            UnknownName: there is none.
        """
        self[name]
        return self._added_by[name]

    def __getitem__(self, name: str) -> T:
        self._fill()
        if not isinstance(name, str):  # a file from elsewhere may hold anything
            raise UnknownName(f"{self.kind}: a name is text, got {str(name)[:40]!r}")
        try:
            return self._things[name]
        except KeyError:
            raise UnknownName(f"unknown {self.kind} {name!r}; {nearest(name, self._things)}") from None

    def __contains__(self, name: object) -> bool:
        self._fill()
        return isinstance(name, str) and name in self._things

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted(self._things))

    def __len__(self) -> int:
        self._fill()
        return len(self._things)

    def _fill(self) -> None:
        if self._filled or self._folder is None:
            return
        self._filled = True
        package = importlib.import_module(self._folder)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._folder}.{module.name}")


def _definition(thing: Any) -> tuple[Any, Any]:
    return getattr(thing, "__qualname__", thing), getattr(thing, "__module__", None)
