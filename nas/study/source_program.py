"""What a Python program defined that began a study, from its copy: its classes, objectives and rules.

Of the program's own file the copy has only the definitions (see `nas.study.source_definitions`), so that
running it repeats nothing that the program did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from foundation.errors import SpaceError
from foundation.text import listed
from nas.study.source import Source
from nas.study.source_parts import Parts
from nas.study.user_files import run_files


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a program's source defines: classes and objectives by name, and the rules of its space."""

    kinds: Mapping[str, type]
    functions: Mapping[str, Callable[..., Any]]
    constraints: tuple[Callable[..., Any], ...]


def run_program(source: Source) -> Program:
    """What the source of a program defines, by running its copy.

    Raises:
        FileError: the copy is not what its hashes say.
        SpaceError: it cannot be run, or defines something no more.
    """
    source.check()
    parts = source.parts or Parts()
    alone = [] if "/" in parts.script else [parts.script]  # a script of a package is imported as part of it
    modules = run_files(source.folder, parts.files, alone)

    def things(places: Mapping[str, str]) -> dict[str, Any]:
        return {name: _thing(source, modules, place) for name, place in places.items()}

    kinds = things(parts.kinds)
    if wrong := [name for name, kind in kinds.items() if not isinstance(kind, type)]:
        raise SpaceError(f"{source.folder} defines no class {listed(wrong)}")
    rules = tuple(_thing(source, modules, place) for place in parts.constraints)
    return Program(kinds=kinds, functions=things(parts.functions), constraints=rules)


def _thing(source: Source, modules: Mapping[str, ModuleType], place: str) -> Any:
    file, _, path = place.partition(":")
    thing: Any = modules[file]
    for name in path.split("."):
        thing = getattr(thing, name, None)
    if thing is None:
        raise SpaceError(f"{source.folder / file} defines no {path}")
    return thing
