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


_making_way: set[str] = set()
"""Modules that may be run again under another name."""


def make_way(modules: Iterable[str]) -> None:
    """Let what is added from now on take the names of what these modules added, in every registry."""
    _making_way.update(modules)


def nearest(name: object, names: Iterable[str]) -> str:
    """A hint: the closest known name, whatever its case, or all of them when none is close."""
    names = sorted(names)
    by_lower_case = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower_case, n=1, cutoff=0.5)
    return f"did you mean {by_lower_case[close[0]]!r}?" if close else f"known: {', '.join(names) or 'none'}"


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
