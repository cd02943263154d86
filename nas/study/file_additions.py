"""What a user's own file adds to a registry, in it or in the modules beside it that it imports.

additions("mine.py", strategies)            # {"annealing": <class Annealing>}
additions("mine.py:Annealing", strategies)  # the same, of this name alone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from foundation.errors import SpaceError, UnknownName
from foundation.registry import Registry, known_name, nearest
from nas.study.space_files import FILE
from nas.study.user_files import USER_FILE, run_file, user_modules

T = TypeVar("T")


def additions(
    source: str, registry: Registry[T], defined: Callable[[ModuleType], Mapping[str, T]] = lambda module: {}
) -> dict[str, T]:
    """Things by name that `FILE.py` adds, those first that are `defined` in it without being registered.

    Raises:
        SpaceError: it cannot be run, or adds nothing of this kind, or not what `FILE.py:NAME` names.
    """
    parts = FILE.fullmatch(source)
    if parts is None:
        raise SpaceError(f"{source!r} is no file: give FILE.py, or FILE.py:NAME")
    path, name = Path(parts["path"]), parts["name"] or ""
    found: dict[str, T] = dict(defined(module := run_file(path)))
    found |= {key: registry[key] for key in registry.added_by(_names(module)) if key not in found}
    if not found:
        raise SpaceError(f"{path} defines no {registry.kind}: {how_to_add(registry)}")
    if not name:
        return found
    try:
        key = known_name(name, found, registry.kind)
    except UnknownName:
        raise SpaceError(f"{path} defines no {registry.kind} {name!r}; {nearest(name, found)}") from None
    return {key: found[key]}


def how_to_add(registry: Registry[Any]) -> str:
    """What makes something in a file a thing of this kind."""
    kind = registry.kind
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"put @{plural}.add on what is one"


def _names(module: ModuleType) -> set[str]:
    """The names of a user's module, and of those beside it that it imports."""
    beside = {each.__name__ for each in user_modules() if not each.__name__.startswith(USER_FILE)}
    return {module.__name__, *beside}
