"""Texts to learn from: which files are read, and which part of them is for validation.

The sources of the running interpreter's standard library, or the text files of a user's folder, or one file.
They are divided by the hash of their relative path, so a file stays on its side when others come or go.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from foundation.errors import DataError
from foundation.wording import argument

VALIDATION_SHARE = 0.05
VALIDATION_BYTES = 8_200  # 64 windows of 128 bytes, and the byte after the last
MINIMUM_BYTES = 20_000
HEAD_BYTES = 2**16
CHUNK_BYTES = 2**20

NOT_LIBRARY = frozenset(
    """site-packages dist-packages _bundled __pycache__ test tests
    idlelib turtledemo pydoc_data lib2to3 encodings""".split()  # noqa: SIM905  # one word a line is a long list
)
"""Folders of the standard library that are not its code: tests, data, tables and other people's packages."""


@dataclass(frozen=True)
class Piece:
    """A stretch of one file, with the file's name inside its folder."""

    name: str
    path: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    @property
    def rank(self) -> float:
        """A number in [0, 1) that depends on the name alone."""
        return int.from_bytes(hashlib.sha256(os.fsencode(self.name)).digest()[:6], "big") / 2**48

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, some at a time."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk


@dataclass(frozen=True)
class Texts:
    """Text files by name, and how many files were left out."""

    name: str
    pieces: tuple[Piece, ...]
    skipped: int = 0


@dataclass(frozen=True)
class Files:
    """Files that may be text, under `root`, and what a user called them."""

    name: str
    root: Path
    paths: tuple[Path, ...]
    given: str | Path | None = None

    @property
    def stamp(self) -> str:
        """Changes where a file comes, goes, or is written to; the contents are not read."""
        stamp = hashlib.sha256(os.fsencode(self.root))
        for path in sorted(map(os.fsencode, self.paths)):
            about = os.stat(path)
            stamp.update(path + f"\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
        return stamp.hexdigest()[:24]

    @property
    def newest(self) -> float:
        """When one of them was last written to, in seconds."""
        return max((os.stat(path).st_mtime for path in self.paths), default=0.0)


def files_of(data: str | Path | None) -> Files:
    """The files in a folder, or one file; without either, the sources of the running interpreter's library.

    Raises:
        DataError: there are none.
    """
    return _library() if data is None else _given(data)


def texts_of(files: Files) -> Texts:
    """Those of the files that are text.

    Raises:
        DataError: none is.
    """
    texts = _readable(files)
    if files.given is None or texts.pieces:
        return texts
    if files.paths != (files.root,):
        raise DataError(f"{files.given}: none of its {len(files.paths)} files is text that can be read")
    if texts.skipped:
        raise DataError(f"{files.given} is not text that can be read (NUL bytes, or no UTF-8)")
    return texts


def standard_library() -> Texts:
    """The sources of the running interpreter's library.

    Raises:
        DataError: it comes without them.
    """
    return texts_of(_library())


def given_texts(data: str | Path) -> Texts:
    """The text files in a folder, or one file of text.

    Raises:
        DataError: there is no text.
    """
    return texts_of(_given(data))


def _library() -> Files:
    root = Path(sysconfig.get_path("stdlib"))
    name = f"Python {platform.python_version()} standard library"
    paths = tuple(
        path
        for path in _walk(root, NOT_LIBRARY)
        if path.suffix == ".py" and not path.name.startswith("_sysconfigdata")
    )
    if not paths:
        raise DataError(
            f"this Python comes without .py sources to learn from; give a text with {argument('data')}"
        )
    return Files(name, root, paths)


def _given(data: str | Path) -> Files:
    if data == "":
        raise DataError("the path of the text is empty: name a folder or a file, or leave it out")
    data = Path(data)
    try:
        root = Path(os.path.realpath(data, strict=True))
    except (OSError, ValueError) as error:  # no such file, a loop of links, NUL
        missing = isinstance(error, FileNotFoundError)
        why = "no such file or folder" if missing else getattr(error, "strerror", None) or error
        raise DataError(f"{data}: {why}") from None
    if root.is_dir():
        paths = tuple(_walk(root))
        if not paths:
            raise DataError(f"{data}: the folder holds no files (hidden files and links are left out)")
        return Files(_shown(root.name), root, paths, data)
    if not root.is_file():
        raise DataError(f"{data} is no file and no folder: a text cannot be read from a pipe or a device")
    try:
        root.open("rb").close()
    except OSError as error:
        raise DataError(f"{data} cannot be read: {error.strerror or error}") from None
    return Files(_shown(root.name), root, (root,), data)


def _shown(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: Path, without: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every regular file under `root`, leaving out hidden ones, links, and folders named in `without`."""
    folders = [str(root)]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except OSError:  # may not be entered, or has just gone
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders += [entry.path] if entry.name not in without else []
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _readable(files: Files) -> Texts:
    root = files.root.parent if files.paths == (files.root,) else files.root
    pieces, skipped = [], 0
    for path in files.paths:
        if is_text(path):
            piece = Piece(path.relative_to(root).as_posix(), path, 0, path.stat().st_size)
            pieces += [piece] if piece.size else []
        else:
            skipped += 1
    return Texts(files.name, tuple(sorted(pieces, key=_by_name)), skipped)


def is_text(path: Path) -> bool:
    """Whether the head of a file can be read, has no NUL byte and is mostly UTF-8."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return head.decode("utf-8", errors="replace").count("\ufffd") <= 0.3 * len(head)
    return True


def split(texts: Texts) -> tuple[list[Piece], list[Piece]]:
    """Training and validation: by file, or by position where the files are too few or too uneven for that.

    Raises:
        DataError: there is too little text.
    """
    total = size_of(texts.pieces)
    if total < MINIMUM_BYTES:
        raise DataError(
            f"{texts.name} is too small: {total:,} bytes of text, and at least {MINIMUM_BYTES:,} are needed"
        )
    train = sorted(texts.pieces, key=lambda piece: piece.rank)
    valid: list[Piece] = []
    while len(train) > 1 and (train[0].rank < VALIDATION_SHARE or size_of(valid) < VALIDATION_BYTES):
        valid.append(train.pop(0))
    if size_of(valid) < VALIDATION_BYTES or 2 * size_of(train) < total:
        return _cut(texts.pieces, total - max(VALIDATION_BYTES, int(VALIDATION_SHARE * total)))
    return sorted(train, key=_by_name), sorted(valid, key=_by_name)


def _cut(pieces: Iterable[Piece], at: int) -> tuple[list[Piece], list[Piece]]:
    """The first `at` bytes, and the rest."""
    before: list[Piece] = []
    after: list[Piece] = []
    for piece in pieces:
        middle = min(piece.stop, piece.start + at)
        before += [replace(piece, stop=middle)] if middle > piece.start else []
        after += [replace(piece, start=middle)] if middle < piece.stop else []
        at -= middle - piece.start
    return before, after


def _by_name(piece: Piece) -> str:
    return piece.name


def size_of(pieces: Iterable[Piece]) -> int:
    """Bytes of all of them."""
    return sum(piece.size for piece in pieces)
