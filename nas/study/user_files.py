"""A user's own Python file: run as `python FILE.py` runs it, so that it can import what lies beside it.

    module = run_file(Path("spaces/mine.py"))

Every run is fresh: the file, and the modules beside it, are executed again. So two files may have one stem,
and modules beside them one name. Afterwards the folder stays at the end of `sys.path`, for imports inside
functions that are called later.

What goes wrong in a user's code is one `SpaceError` that names the line, whatever was raised.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path, PurePosixPath
from types import ModuleType

import torch

from foundation.error_text import cut_line, told
from foundation.errors import NasError, SettingError, SpaceError
from foundation.registry import make_way
from nas.signals import watched_signals

USER_FILE = "space_file_"
"""How the modules that come from a user's files are named."""

MOST_LETTERS = 500
"""A longer complaint is cut."""

_beside: dict[str, ModuleType] = {}
"""The modules that lie beside the files that were run, by name."""

_running: set[str] = set()
"""The names of the modules that are being run."""

_folders_run: list[Path] = []
"""The folders of the files that are being run, the latest last."""

_loaded: set[str] = set()
"""The names of all modules when the last file had been run: what came later may lie beside a file, too."""

_folders: dict[str, None] = {}
"""The folders of the files that were run, the latest last."""


def run_file(path: Path) -> ModuleType:
    """The module that a file defines. What it prints goes to standard error.

    Raises:
        SpaceError: there is no such file, or it cannot be run.
    """
    if not path.is_file():
        raise SpaceError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with _running_in(path.resolve().parent):
        return _run(path)


def run_files(folder: Path, files: Iterable[str], scripts: Collection[str] = ()) -> dict[str, ModuleType]:
    """The modules of these files in a folder, run together, so that what imports another finds the same.

    All are imported by their names, but the `scripts`, which are run as by `run_file`.

    Raises:
        SpaceError: one cannot be run, or a module of its name was imported from elsewhere.
    """
    modules = {}
    with _running_in(folder.resolve()):
        for file in files:
            if file in scripts:
                modules[file] = _run(folder / file)
                continue
            name = module_of(file)
            with in_words(folder / file):
                modules[file] = importlib.import_module(name)
                require_from(folder, [name])
    return modules


def module_of(file: str) -> str:
    """The dotted name of a file, by its path in the folder that it is imported from."""
    path = PurePosixPath(file).with_suffix("")
    return ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)


def require_no_reading() -> None:
    """Raise `SettingError` where a user's file is being run for what it defines: no search begins then."""
    if _folders_run:
        raise SettingError(
            "a search cannot begin while its file is read for what it defines: put it under `if __name__ =="
            ' "__main__":`'
        )


@contextmanager
def _running_in(folder: Path) -> Iterator[None]:
    """What running a user's file may not change, and where it imports from."""
    make_way([name for name in sys.modules if name.startswith(USER_FILE)])
    _folders_run.append(folder)
    try:
        with _torch_as_it_was(), _beside_it(folder), redirect_stdout(sys.stderr):
            yield
    finally:
        _folders_run.pop()


def _run(path: Path) -> ModuleType:
    module = _empty_module(path)
    if module.__name__ in _running:
        raise SpaceError(f'{path} reads itself: put what calls nas under `if __name__ == "__main__":`')
    _running.add(module.__name__)
    make_way([name for name, known in list(sys.modules.items()) if _is_of_user(name, known, path)])
    sys.modules[module.__name__] = module  # so that what it defines can be found again, by dataclasses too
    try:
        with in_words(path):
            code = compile(path.read_bytes(), str(path.resolve()), "exec", dont_inherit=True)
            exec(code, vars(module))
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    finally:
        _running.discard(module.__name__)
    make_way([module.__name__])  # for a program that imports the file by its own name later
    return module


def user_modules() -> list[ModuleType]:
    """What was run from users' files, and from beside them: other processes cannot import it by its name."""
    ran = [module for name, module in list(sys.modules.items()) if name.startswith(USER_FILE)]
    return ran + [module for name, module in _beside.items() if sys.modules.get(name) is module]


def require_from(folder: Path, names: Iterable[str]) -> None:
    """Raise `SpaceError` where a module of this process is not the one that lies in this folder."""
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is not None and not (file and Path(file).resolve().is_relative_to(folder.resolve())):
            raise SpaceError(
                f"{name} was imported already, from {file or 'elsewhere'}, and not from {folder}: do this in"
                " a process of its own"
            )


def is_imported_elsewhere(name: str, folder: Path) -> bool:
    """Whether a module of this name was imported for something else than a user's file in this folder."""
    module = sys.modules.get(name)
    return module is not None and _beside.get(name) is not module and str(folder) not in _origins(module)


def user_folders() -> list[str]:
    """The folders of users' files that were run."""
    return list(_folders)


def files_beside() -> list[Path]:
    """The files of the modules that the last file imported from beside it."""
    files = [getattr(module, "__file__", None) for module in _beside.values()]
    return [Path(file) for file in files if file]


def move_folder(folder: Path, copy: Path) -> None:
    """Import, from functions that are called later, from a copy of a folder that a file was run in."""
    before, after = str(folder.resolve()), str(copy.resolve())
    if before in _folders:
        del _folders[before]
        _folders[after] = None
        sys.path[:] = [after if entry == before else entry for entry in sys.path]


def add_folders(folders: Collection[str]) -> None:
    """Let this process import, from its functions, what lies in these folders."""
    sys.path += [folder for folder in folders if folder not in sys.path]


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn whatever a user's code raises into a `SpaceError` that names their line.

    Ctrl-C is no error of theirs, and passes.
    """
    with watched_signals() as signals:
        try:
            yield
        except BaseException as error:  # a user's file may raise anything; it is their line that helps them
            if not signals:
                raise SpaceError(f"{_place(error, path)}: {_what_ended(error)}") from error
    if signals:  # also where the file caught what the handler had raised
        raise KeyboardInterrupt


def _what_ended(error: BaseException) -> str:
    """What ended a file, on one line."""
    if isinstance(error, NasError):
        return str(error)
    if isinstance(error, SystemExit):
        return "sys.exit() ended the file before its space was there"
    return "KeyboardInterrupt was raised" if isinstance(error, KeyboardInterrupt) else _complaint(error)


def _is_of_user(name: str, module: ModuleType, path: Path) -> bool:
    """Whether a module was run from a user's file, or was imported from this one."""
    file = getattr(module, "__file__", None)
    return name.startswith(USER_FILE) or (file is not None and Path(file) == path.resolve())


def _empty_module(path: Path) -> ModuleType:
    whole = str(path.resolve())
    name = f"{USER_FILE}{path.stem}_{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, whole)
    if spec is None:
        raise SpaceError(f"{path}: not a Python file")
    return importlib.util.module_from_spec(spec)


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """A file's own defaults of torch are not those of the whole search."""
    dtype, device, gradients = (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
    )
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


@contextmanager
def _beside_it(folder: Path) -> Iterator[None]:
    """Import from this folder first; afterwards last, the working folder as it was."""
    for place in _folders if _loaded else ():
        _beside.update(_found_in(Path(place), _loaded))
    make_way(_beside)
    for name, module in _beside.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
    _beside.clear()
    known, where, paths = set(sys.modules), os.getcwd(), [p for p in sys.path if p != str(folder)]
    sys.path[:] = [str(folder), *paths]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        _beside.update(_found_in(folder, known))
        os.chdir(where)
        added = [entry for entry in sys.path if entry not in paths and entry != str(folder)]
        sys.path[:] = [*paths, *added, str(folder)]
        _folders.pop(str(folder), None)
        _folders[str(folder)] = None
        _loaded.clear()
        _loaded.update(sys.modules)


def _found_in(folder: Path, known: Collection[str]) -> dict[str, ModuleType]:
    """The modules that are new, and whose file or whose package lies in this folder."""
    there = [each for each in list(sys.modules.items()) if not each[0].startswith(USER_FILE)]
    new = {name: module for name, module in there if name not in known}
    tops = {name.partition(".")[0] for name in new} - set(known)
    found = {top for top in tops if top in new and str(folder) in _origins(new[top])}
    return {name: module for name, module in new.items() if name.partition(".")[0] in found}


def _origins(module: ModuleType) -> list[str]:
    """The folders that a module or package lies in."""
    packages = [str(Path(entry).parent) for entry in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    return packages or ([str(Path(file).parent)] if file else [])


def _place(error: BaseException, path: Path) -> str:
    """The last line of the user's own code that an error came through: of the file, or of one beside it."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((Path(error.filename), error.lineno))
    own = [(file.name, line) for file, line in frames if file.parent == path.resolve().parent]
    if not own:
        return str(path)
    name, line = own[-1]
    return f"{path.with_name(name)}:{line}" if line else str(path.with_name(name))


def _complaint(error: BaseException) -> str:
    """The kind of an exception and what it says, on one line."""
    if isinstance(error, SyntaxError):
        return cut_line(f"{type(error).__name__}: {error.msg}", MOST_LETTERS)
    return told(error, most=MOST_LETTERS)
