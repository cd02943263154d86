"""Exported models with parts that the library lacks: their source goes along, and runs only where asked.

code = code_of(spec)                            # None where the library has all parts
save_model(model, folder, code=code)
model = load(folder, trust_code=True)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from foundation.errors import FileError, SettingError, SpaceError, UnknownName
from foundation.fields import Field
from foundation.files import read_bytes
from foundation.text import listed
from foundation.wording import argument
from nas.study.source import Source, hashes_in, sha256
from nas.study.source_definitions import bound_names, definitions
from nas.study.source_files import MAIN, MOST_BYTES, files_from, is_of_project, place_of_module
from nas.study.user_files import run_files
from search_spaces.language.own_kinds import kinds_in
from search_spaces.language.serialization import NO_KINDS, kind_named
from search_spaces.network.model import Model
from search_spaces.network.model_files import CODE, WAITING_CODE, ModelCode, load_model, read_config


def code_of(spec: Any) -> ModelCode | None:
    """The source of the parts of an architecture that are not this project's; None where there are none.

    Of the program's own file that is its definitions: see `nas.study.source_definitions`.

    Raises:
        SettingError: a part was not defined in a file, or inside a function.
        FileError: a file cannot be read.
    """
    files: dict[str, bytes] = {}
    kinds: dict[str, str] = {}
    own = [kind for kind in kinds_in(spec) if not is_of_project(kind.__module__)]
    typed = [kind.__name__ for kind in own if kind.__module__ == MAIN]
    for kind in own:
        folder, name = _place_of(kind)
        cut = {name: partial(_defining, names=typed)} if kind.__module__ == MAIN else {}
        for each, content in files_from(folder, [name], cut).items():
            if files.setdefault(each, content) != content:
                raise SettingError(f"two files of parts of this network are named {each}: rename one")
        kinds[kind.__name__] = name
    return ModelCode(files, kinds) if kinds else None


def load(
    folder: str | Path, *, device: str = "cpu", trust_code: bool = False, unfinished: bool = False
) -> Model:
    """The exported model in float32, a plain `nn.Module` in evaluation mode.

    A folder may hold the source of blocks that this library lacks. It is Python, and runs only with
    `trust_code`, after its hashes were checked: use that for your own folders, or after reading `code`. A
    folder in which a training or a modifier did not come to its end is refused, unless `unfinished`.

    Raises:
        SettingError: the folder holds no model, an unfinished one, weights that do not fit its architecture,
            or code that is damaged or was not to be trusted.
        SpaceError: its code cannot be run.
    """
    kinds = parts_of(folder, trust_code=trust_code)
    return load_model(folder, device=device, kinds=kinds, unfinished=unfinished)


def parts_of(folder: str | Path, *, trust_code: bool = False) -> Mapping[str, type]:
    """The parts of an exported model that only its own code defines, by name; see `load`.

    Raises:
        SettingError: there is no model, or code that is damaged or was not to be trusted.
        SpaceError: its code cannot be run.
    """
    config = read_config(folder)
    if CODE not in config:
        return NO_KINDS
    try:
        field = Field(config[CODE], CODE)
        hashes = hashes_in(field["files"])
        kinds = {name: file.word(hashes) for name, file in field["kinds"].items()}
    except FileError as error:
        raise SettingError(f"{folder}: what config.json says of its code cannot be read: {error}") from None
    missing = [name for name, file in kinds.items() if _hash_here(name, kinds) != hashes[file]]
    if not missing:  # this process imported the same files itself
        return NO_KINDS
    if not trust_code:
        where = listed(f"{name} of {Path(folder, CODE, kinds[name])}" for name in missing)
        raise SettingError(
            f"{folder} holds blocks of its own: {where}. They are Python that runs with"
            f" {argument('trust_code', True)}: read it first if it comes from somebody else"
        )
    return _run(Path(folder), kinds, hashes)


def _defining(content: bytes, names: Sequence[str]) -> bytes:
    """What of the program's own file defines these parts.

    Raises:
        SettingError: it defines one only as the program.
    """
    kept = definitions(content, names)
    if hidden := sorted(set(names) - bound_names(kept)):
        raise SettingError(
            f"{listed(hidden)} is defined under `if __name__`, so its source cannot go along: move it above"
        )
    return kept


def _run(folder: Path, kinds: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, type]:
    """The kinds that the code of a folder defines, by running it."""
    place = _checked(folder, hashes)
    files = list(dict.fromkeys(kinds.values()))
    modules = run_files(place, files, [file for file in files if "/" not in file])
    found = {name: getattr(modules[file], name, None) for name, file in kinds.items()}
    for name, kind in found.items():
        if not isinstance(kind, type):
            raise SpaceError(f"{place / kinds[name]} defines no {name}")
    return found  # type: ignore[return-value]


def _checked(folder: Path, hashes: Mapping[str, str]) -> Path:
    """Where the code lies that the configuration names: also one that a killed export left waiting."""
    reasons = []
    for place in (folder / CODE, folder / WAITING_CODE):
        try:
            Source(folder=place, entry="", name="", files=hashes, origin="").check()
        except FileError as error:
            reasons.append(str(error))
        else:
            return place
    raise SettingError(f"the code of {folder} is not run: {reasons[0]}")


def _hash_here(name: str, kinds: Mapping[str, str]) -> str:
    """The hash of the file in which this process knows one of these parts; empty where it knows none."""
    try:
        kind = kind_named(name)
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        content = read_bytes(file, at_most=MOST_BYTES) if file else b""
    except (UnknownName, FileError):
        return ""
    if kind.__module__ == MAIN:
        content = definitions(content, [each for each, at in kinds.items() if at == kinds[name]])
    return sha256(content)


def _place_of(kind: type) -> tuple[Path, str]:
    """The folder that a kind is imported from, and its file in it."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if not file or not Path(file).is_file():
        raise SettingError(f"{kind.__name__} was not defined in a file, so its source cannot go along")
    if kind.__qualname__ != kind.__name__:
        raise SettingError(f"{kind.__qualname__} is defined inside something else: define it by itself")
    if kind.__module__ == MAIN and (place := place_of_module(MAIN)) is not None:
        return place
    path = Path(file).resolve()
    depth = kind.__module__.count(".") + (path.name == "__init__.py")
    folder = path.parents[depth]
    return folder, path.relative_to(folder).as_posix()
