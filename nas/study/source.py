"""The source of a space: the file that defines it and what this imports from beside it, as one thing.

    source = source_of("spaces/mine.py:space")      # None for a ready-made space
    kept = source.copied(folder)                    # a copy of its own for a study
    kept.check()                                    # still what its hashes say
    space = kept.load()

The record of a study names the files by their hashes, and where they lay; what is run is the copy in the
study's folder, never a path that a record names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import all_suffixes
from pathlib import Path, PurePosixPath
from typing import Any

from foundation.errors import FileError, SpaceError
from foundation.fields import Field
from foundation.files import read_bytes, write_atomically
from nas.study.source_changes import changed
from nas.study.source_definitions import definitions
from nas.study.source_files import MOST_BYTES, MOST_FILES, files_from, files_of
from nas.study.source_parts import Parts
from nas.study.space_files import FILE, load_space
from nas.study.user_files import files_beside, module_of, require_from
from search_spaces.language.space import Space

FOLDER = "source"
"""Of a study's folder: where its copy lies."""

PARTS = "parts"
"""Their name in a record."""

LONGEST = 4096
"""Characters of a path."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files in a folder by relative path and SHA-256; `entry` is run, and `name` in it is the space.

    `origin` says where the entry lay when the study began: for people, and to notice that it was edited. A
    study that a program began has no file of its space but `parts`, which `run_program` runs; `held` is then
    the content of files of which the source has only the definitions.
    """

    folder: Path
    entry: str
    name: str
    files: Mapping[str, str]
    origin: str
    parts: Parts | None = None
    held: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def check(self) -> None:
        """Hold what lies in the folder to the hashes.

        Raises:
            NoFile: a file is missing.
            FileError: one is another file, or a file that could be imported is none of these.
        """
        for name, digest in self.files.items():
            if sha256(self._read(name)) != digest:
                raise FileError(f"{self.folder / name} is damaged: its SHA-256 is not that of the record")
        if extra := sorted(_importable(self.folder) - set(self.files)):
            raise FileError(f"{self.folder / extra[0]} is not part of the source on record")

    def load(self) -> Space:
        """The space, by running the entry.

        Raises:
            FileError: see `check`.
            SpaceError: it cannot be run, or defines no space.
        """
        self.check()
        space = load_space(f"{self.folder / self.entry}{f':{self.name}' if self.name else ''}")
        require_from(self.folder, [module_of(name) for name in self.files if name != self.entry])
        return space

    def copied(self, folder: Path) -> Source:
        """A copy in this folder, whose content it replaces.

        Raises:
            FileError: a file cannot be read or written, or changed meanwhile.
        """
        contents = self.contents()
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
        copy = replace(self, folder=folder, held={})
        copy.check()
        return copy

    def contents(self) -> dict[str, bytes]:
        """The files as they are now.

        Raises:
            FileError: one cannot be read.
        """
        return {name: self._read(name) for name in self.files}

    def changes(self, later: Source) -> list[str]:
        """What differs in a later version, in words; comments and the name of the entry do not count.

        Raises:
            FileError: a file cannot be read.
        """
        mine, theirs = self.contents(), {self._called(later, n): c for n, c in later.contents().items()}
        shared, script = self._shared(later)
        if script:  # of the program only the definitions count, also where the other has all of it
            names = (self.parts or later.parts or Parts()).names_in(script)
            for contents in (mine, theirs):
                contents[script] = definitions(contents.get(script, b""), names)
        return changed(*({n: c for n, c in each.items() if n in shared} for each in (mine, theirs)))

    def differing(self, other: Source) -> list[str]:
        """The files that another version lacks, has besides, or has with another hash."""
        theirs = {self._called(other, name): digest for name, digest in other.files.items()}
        files = {name for name, _ in set(self.files.items()) ^ set(theirs.items())}
        return sorted(files & self._shared(other)[0])

    def is_like(self, other: Source) -> bool:
        """Whether both are the source of a program, or both that of a file with a space."""
        return (self.parts is None) == (other.parts is None)

    def _shared(self, other: Source) -> tuple[set[str], str]:
        """The files in which both are to agree, and that of them which one of them has in part.

        A program has what its parts need, and the file of a space also the space.
        """
        if self.is_like(other):
            return {*self.files, *(self._called(other, name) for name in other.files)}, ""
        program = self if self.parts is not None else other
        return set(program.files), program.parts.script if program.parts is not None else ""

    def _called(self, other: Source, name: str) -> str:
        renamed = self.is_like(other) and self._is_run() and other._is_run()
        return self.entry if renamed and name == other.entry else name

    def _is_run(self) -> bool:
        """Whether the entry is what people run, whatever they call it."""
        return self.parts is None or self.entry == self.parts.script

    def to_plain(self) -> dict[str, Any]:
        """What a record says of it; see `recorded`."""
        plain = {"entry": self.entry, "name": self.name, "path": self.origin}
        parts = {} if self.parts is None else {PARTS: self.parts.to_plain()}
        return {**plain, **parts, "files": dict(sorted(self.files.items()))}

    def _read(self, name: str) -> bytes:
        return self.held.get(name) or read_bytes(self.folder / name, at_most=MOST_BYTES)


def source_of(space: str) -> Source | None:
    """What `FILE.py[:NAME]`, which was just loaded, consists of; None for the name of a ready-made space.

    Raises:
        FileError: a file cannot be read.
    """
    parts = FILE.fullmatch(space)
    if parts is None:
        return None
    path = Path(parts["path"]).resolve()
    files = {name: sha256(content) for name, content in files_of(path, files_beside()).items()}
    return Source(
        folder=path.parent, entry=path.name, name=parts["name"] or "", files=files, origin=str(path)
    )


def recorded(plain: Any, folder: Path) -> Source:
    """The source that a record names, as its copy in this folder; the record may be somebody else's.

    Raises:
        FileError: it names anything else than Python files inside the folder.
    """
    record = Field(plain, FOLDER)
    files = hashes_in(record["files"])
    if (entry := record["entry"].text()) not in files:
        record["entry"].refuse(f"{entry!r} is none of the files")
    return Source(
        folder=folder,
        entry=entry,
        name=record["name"].text(least=0),
        files=files,
        origin=record["path"].text(least=0, most=LONGEST),
        parts=Parts.from_plain(record[PARTS], files) if PARTS in record.names() else None,
    )


def hashes_in(record: Field) -> dict[str, str]:
    """The hashes of Python files inside a folder by their relative paths, as on record.

    Raises:
        FileError: one is no such path.
    """
    files = {}
    for name, digest in record.items(most=MOST_FILES):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".py" or str(path) != name:
            record.refuse(f"{name!r} is no Python file inside the folder")
        files[name] = digest.text()
    return files


def original_of(source: Source) -> Source | None:
    """What lies now where the source was copied from; None where there is no such file any more.

    Nothing is run: a record may be somebody else's.
    """
    path = Path(source.origin)
    if not path.is_absolute():
        return None
    try:
        if source.parts is not None:
            depth = len(PurePosixPath(source.entry).parts)
            return of_parts(source.parts, path.parents[depth - 1]) if depth <= len(path.parents) else None
        files = {name: sha256(content) for name, content in files_of(path, _also(source, path)).items()}
    except (FileError, SpaceError, OSError):
        return None
    return replace(source, folder=path.parent, entry=path.name, files=files)


def of_parts(parts: Parts, folder: Path) -> Source:
    """The source of a program's parts, as their files are now in this folder.

    Raises:
        FileError: a file cannot be read.
        SpaceError: there are more than anybody writes.
    """
    names, script = parts.names_in(parts.script), parts.script
    contents = files_from(folder, parts.files, {script: lambda content: definitions(content, names)})
    entry = parts.files[-1]
    return Source(
        folder=folder,
        entry=entry,
        name="",
        files={name: sha256(content) for name, content in contents.items()},
        origin=str(folder / entry),
        parts=parts,
        held={script: contents[script]} if script in contents else {},
    )


def sha256(content: bytes) -> str:
    """The hash of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()


def _also(source: Source, path: Path) -> list[Path]:
    """The files of a source that are still there beside this path."""
    there = [path.resolve().parent / name for name in source.files if name != source.entry]
    return [file for file in there if file.is_file()]


def _importable(folder: Path) -> set[str]:
    """What Python could import from a folder, by relative path; not what it caches."""
    found = set()
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        found |= {(Path(at, name)).relative_to(folder).as_posix() for name in names if _is_code(name)}
    return found


def _is_code(name: str) -> bool:
    return name.endswith(tuple(all_suffixes()))
