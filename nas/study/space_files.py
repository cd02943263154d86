"""Spaces by name or by file: what `SPACE` means on the command line."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from foundation.errors import NasError, SpaceError, UnknownName
from foundation.registry import nearest
from search_spaces.language.space import Space, as_space
from search_spaces.spaces import spaces

SPACE_FILE = "space_file_"
"""How the modules that come from space files are named."""


def load_space(source: str) -> Space:
    """A ready-made space by its name, or `FILE.py[:NAME]` with a `Space` or a function that makes one.

    A file needs no name when it defines one space, or one called `space`.

    Raises:
        UnknownName: no such space, or no such name in the file.
        SpaceError: the file cannot be run, or the name is no space.
    """
    path, _, name = source.partition(":")
    if not path.endswith(".py"):
        return spaces[source]()
    module = _run(Path(path))
    return _space_in(module, name, path)


def absolute_source(source: str) -> str:
    """A space's source that can be found from any folder."""
    path, colon, name = source.partition(":")
    return f"{Path(path).resolve()}{colon}{name}" if path.endswith(".py") else source


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{SPACE_FILE}{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SpaceError(f"{path}: no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that what it defines can be found again, by workers too
    try:
        spec.loader.exec_module(module)
    except NasError as error:
        raise SpaceError(f"{_place(error, path)}: {error}") from None
    except Exception as error:  # a user's file may raise anything; it is their line that helps them
        raise SpaceError(f"{_place(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """The last line of the user's own file that an error came through."""
    own = (str(path), str(path.absolute()))
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename in own]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    return f"{path}:{lines[-1]}" if lines else str(path)


def _space_in(module: ModuleType, name: str, path: str) -> Space:
    public = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    spaces = {key: value for key, value in public.items() if isinstance(value, Space)}
    if not name:
        name = "space" if "space" in public else next(iter(spaces), "")
        if len(spaces) > 1 and name != "space":
            raise SpaceError(f"{path} defines {', '.join(spaces)}: name one, as {path}:{name}")
    if not name:
        raise SpaceError(f"{path} defines no Space; write space = Space(...)")
    if name not in public:
        raise UnknownName(f"{path} has no {name!r}; {nearest(name, public)}")
    return _as_space(public[name], f"{path}:{name}")


def _as_space(thing: Any, where: str) -> Space:
    made = thing() if callable(thing) and not isinstance(thing, (Space, type)) else thing
    if isinstance(made, Space) or hasattr(made, "__dataclass_fields__"):
        return as_space(made)
    raise SpaceError(f"{where} is a {type(made).__name__}, not a Space")
