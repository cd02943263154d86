"""What commands list and explain: the things of one registry, the library's or those that a file adds.

found = catalogue(strategies, source)   # `--from FILE.py`, if it was given
found.print_lines(about)                # one line for each, marked with the file
found.named("Annealing")                # whatever its case; the nearest name is told for another one
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, TypeAlias

import typer
from rich.table import Table

from foundation.registry import Registry, known_name
from nas.commands.output import cell, output_console, print_line

From: TypeAlias = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE.py", help="List what this file adds.", show_default=False),
]
"""The option of every command that lists what a file of the user's may add to."""


@dataclass(frozen=True)
class Catalogue:
    """Things of one kind by name; `origin` is the file that adds them, empty for the library's."""

    kind: str
    things: Mapping[str, Any]
    origin: str = ""

    def named(self, name: str) -> Any:
        """The thing of this name, whatever its case.

        Raises:
            UnknownName: there is none.
        """
        return self.things[self.known(name)]

    def known(self, name: str) -> str:
        """The name itself; see `named`."""
        if name in self.things or (":" in name and isinstance(self.things, Registry)):
            return name  # or of another library, which says itself what it lacks
        return known_name(name, self.things, f"{self.kind} of {self.origin}" if self.origin else self.kind)

    def print_lines(self, about: Callable[[Any], str]) -> None:
        """A line for each thing."""
        mark = f" (from {self.origin})" if self.origin else ""
        for name, thing in self.things.items():
            print_line(f"{name}: {about(thing)}{mark}")

    def print_table(self, titles: Sequence[str], row: Callable[[Any], Sequence[str]]) -> None:
        """A row for each thing, after its name."""
        mark = [self.origin] if self.origin else []
        table = Table(self.kind, *titles, *(["from"] if mark else []), box=None, pad_edge=False)
        for name, thing in self.things.items():
            table.add_row(*map(cell, (name, *row(thing), *mark)))
        output_console().print(table)


def catalogue(
    registry: Registry[Any],
    source: str | None,
    defined: Callable[[ModuleType], Mapping[str, Any]] = lambda module: {},
) -> Catalogue:
    """What a registry holds or, where a file is named, what that adds; see `file_additions.additions`.

    Raises:
        SpaceError: the file cannot be run, or adds nothing of this kind.
    """
    if source is None:
        return Catalogue(registry.kind, registry)
    from nas.study.file_additions import additions

    return Catalogue(registry.kind, additions(source, registry, defined), source)


def text_of(thing: Any) -> str:
    """What a class or function is: the text of its module; in a file of the user's own, rather its own."""
    from nas.study.source_files import is_of_project

    module = sys.modules.get(thing.__module__)
    texts = [module and module.__doc__, thing.__doc__]
    if not is_of_project(thing.__module__):
        texts.reverse()
    return inspect.cleandoc(next(filter(None, texts), "no description"))


def first_line(thing: Any) -> str:
    """The first line of the same."""
    return text_of(thing).partition("\n")[0]
