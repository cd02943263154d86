"""Which files a user's Python file consists of: itself, and the modules beside it that it imports.

    files_of(Path("spaces/mine.py"))        # {"mine.py": b"...", "helpers.py": b"...", "lib/ema.py": b"..."}

Imports are read off the text, also those inside functions, so nothing is run. What is installed, and what is
part of this project, belongs to nobody's source.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from foundation.errors import SpaceError
from foundation.files import read_bytes
from nas.study.user_files import is_imported_elsewhere

PACKAGES = ("foundation", "search_spaces", "evaluators", "hw_profiles", "nas", "dashboards")
"""The project's own packages: they lie beside a file in the root of a checkout."""

MAIN = "__main__"
"""The module of the program itself."""

INSTALLED = tuple(
    Path(place).resolve()
    for place in map(sysconfig.get_paths().get, ("stdlib", "purelib", "platlib"))
    if place
)
"""The folders of what is installed."""

NO_CUTS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({})

MOST_FILES = 500
MOST_BYTES = 2**23


class Place(NamedTuple):
    """Where a module is imported from: a folder, and its file in it."""

    folder: Path
    file: str


def files_of(entry: Path, also: Iterable[Path] = ()) -> dict[str, bytes]:
    """The content of a file, and of what it imports from beside it, by their paths relative to its folder.

    `also` are files that are known to be imported, such as by a name that is computed.

    Raises:
        FileError: one cannot be read, or is larger than source is.
        SpaceError: there are more than anybody writes.
    """
    folder = entry.resolve().parent
    names = [path.relative_to(folder).as_posix() for path in also if _is_beside(path, folder)]
    return files_from(folder, [entry.resolve().name, *names])


def files_from(
    folder: Path, names: Iterable[str], cuts: Mapping[str, Callable[[bytes], bytes]] = NO_CUTS
) -> dict[str, bytes]:
    """The same of the files of these names in a folder, see `files_of`; of some only what a cut leaves."""
    waiting = list(names)
    found: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if len(found) == MOST_FILES:
            raise SpaceError(f"{folder / name} imports over {MOST_FILES} files from beside it: install them")
        content = read_bytes(folder / name, at_most=MOST_BYTES)
        found[name] = cuts[name](content) if name in cuts else content
        for module in _imported(found[name], PurePosixPath(name)):
            waiting += _files_beside(folder, module)
    return found


def place_of_module(name: str) -> Place | None:
    """Where a module of this process was imported from; None where that is no Python file of a user's."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py") or not Path(file).is_file():
        return None
    path = Path(file).resolve()
    if any(path.is_relative_to(place) for place in INSTALLED):
        return None
    spec = getattr(module, "__spec__", None)
    dotted = spec.name if name == MAIN and spec is not None else name  # `python -m package.module`
    folder = path.parents[dotted.count(".") + (path.name == "__init__.py" and dotted != MAIN)]
    return Place(folder, path.relative_to(folder).as_posix())


def is_of_project(module: str) -> bool:
    """Whether a module, by its dotted name, is one of this project's."""
    return module.partition(".")[0] in PACKAGES


def _is_beside(path: Path, folder: Path) -> bool:
    return path.suffix == ".py" and path.is_relative_to(folder)


def _imported(content: bytes, name: PurePosixPath) -> Iterator[str]:
    """The dotted names that a file imports; some may be those of functions or classes in a module."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # it fails where it is imported, if it is
        return
    package = name.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *(node.module or "").split(".")]
            yield ".".join(filter(None, base))
            yield from (".".join(filter(None, [*base, alias.name])) for alias in node.names)


def _files_beside(folder: Path, module: str) -> list[str]:
    """The files in this folder that are read to import a module: packages around it, and itself."""
    top = module.partition(".")[0]
    if is_of_project(module) or is_imported_elsewhere(top, folder):
        return []
    found, at = [], PurePosixPath()
    for part in module.split("."):
        at /= part
        found += [f"{at}.py", f"{at}/__init__.py"]
    return [name for name in found if (folder / name).is_file()]
