"""Spaces by name or by file: what `SPACE` means on the command line."""

from __future__ import annotations

import inspect
import re
import sys
from contextlib import redirect_stdout
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from foundation.errors import SpaceError, UnknownName
from foundation.registry import nearest
from nas.study.user_files import in_words, run_file
from search_spaces.language.space import Space, as_space
from search_spaces.network.size_limits import check_size
from search_spaces.spaces import spaces

FILE = re.compile(r"(?P<path>.*[^/\\]\.py)(:(?P<name>[^:/\\]*))?", re.DOTALL)
"""A file and a name in it. What comes before is the user's: folders and drives may have colons."""


def load_space(source: str) -> Space:
    """A ready-made space by its name, or `FILE.py[:NAME]` with a `Space` or a function that makes one.

    A file needs no name when it defines one space, or one called `space`. It is run like `python FILE.py`,
    so it may import what lies beside it.

    Raises:
        UnknownName: no such space, or no such name in the file.
        SpaceError: the file cannot be run, or the name is no space, or it is larger than can be built.
    """
    parts = FILE.fullmatch(source)
    if parts is None:
        return _ready_made(source)
    path = Path(parts["path"])
    return _space_in(run_file(path), parts["name"] or "", path)


def spaces_in(module: ModuleType) -> dict[str, Space]:
    """The spaces that a file defines, by the names that `FILE.py:NAME` finds them under."""
    things = vars(module).items()
    return {key: thing for key, thing in things if isinstance(thing, Space) and not key.startswith("_")}


def absolute_source(source: str) -> str:
    """A space's source that can be found from any folder."""
    parts = FILE.fullmatch(source)
    if parts is None:
        return source
    return f"{Path(parts['path']).resolve()}{parts[2] or ''}"


def _ready_made(name: str) -> Space:
    if name not in spaces and (not name or Path(name).exists() or set(name) & set("/\\:")):
        raise UnknownName(f"{name!r} is no space: give the name of one, or FILE.py, or FILE.py:NAME")
    return spaces[name]()


def _space_in(module: ModuleType, name: str, path: Path) -> Space:
    public = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    spaces = spaces_in(module)
    if not name:
        name = "space" if "space" in public else next(iter(spaces), "")
        if len(spaces) > 1 and name != "space":
            raise SpaceError(f"{path} defines {', '.join(spaces)}: name one, as {path}:{name}")
    if not name:
        raise SpaceError(f"{path} defines no Space: write space = Space(...), or import a ready-made one")
    if name not in public:
        raise UnknownName(f"{path} has no {name!r}; {nearest(name, public)}")
    return _as_space(public[name], name, path)


def _as_space(thing: Any, name: str, path: Path) -> Space:
    """A space, what makes one, or an open configuration."""
    where = f"{path}:{name}"
    if isinstance(thing, type):
        raise SpaceError(f"{where} is the class {thing.__name__}: write {thing.__name__}(...)")
    if callable(thing) and (needed := _needs(thing)):
        raise SpaceError(f"{where} needs {', '.join(needed)}: a function that makes a space takes nothing")
    with in_words(path), redirect_stdout(sys.stderr):
        made = thing() if callable(thing) else thing
    if inspect.iscoroutine(made):
        made.close()  # or Python complains that nobody awaited it
    if isinstance(made, type) or not (isinstance(made, Space) or is_dataclass(made)):
        article = "an" if type(made).__name__[0] in "aeiou" else "a"
        raise SpaceError(f"{where} is {article} {type(made).__name__}, not a Space")
    with in_words(path):
        space = as_space(made)
        check_size(space.root)
    return space


def _needs(function: Any) -> list[str]:
    """The arguments that a function cannot be called without."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in optional
    ]
