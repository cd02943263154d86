"""Text to learn from, as bytes: a training part and a validation part, memory-mapped from a cache.

    corpus = load_corpus()                 # the sources of the running interpreter's standard library
    corpus = load_corpus("my/texts")       # a folder of text files, or one file of text
    corpus.train, corpus.valid             # uint8, read-only

Files are divided by the hash of their relative path, so a file stays on its side when others come or go. The
digest names the contents of both parts: compare scores under one digest only.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import lzma
import os
import platform
import sysconfig
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError

Bytes: TypeAlias = "npt.NDArray[np.uint8]"

VALIDATION_SHARE = 0.05
VALIDATION_BYTES = 8_200  # 64 windows of 128 bytes, and the byte after the last
MINIMUM_BYTES = 20_000
REFERENCE_BYTES = 2**20
HEAD_BYTES = 2**16
CHUNK_BYTES = 2**20

NOT_LIBRARY = frozenset(
    """site-packages dist-packages _bundled __pycache__ test tests
    idlelib turtledemo pydoc_data lib2to3 encodings""".split()  # noqa: SIM905  # one word a line is a long list
)
"""Folders of the standard library that are not its code: tests, data, tables and other people's packages."""


@dataclass(frozen=True)
class Corpus:
    """Two parts of one body of text, as bytes in `folder`; plain values, so it may travel to workers.

    `skipped` counts the files that were left out because they are not text or cannot be read.
    """

    name: str
    digest: str
    folder: str
    train_bytes: int
    valid_bytes: int
    train_files: int
    valid_files: int
    skipped: int = 0

    @property
    def train(self) -> Bytes:
        """The bytes to learn from."""
        return _mapped(str(Path(self.folder, "train.bin")))

    @property
    def valid(self) -> Bytes:
        """The bytes to be judged on."""
        return _mapped(str(Path(self.folder, "valid.bin")))

    def reference_points(self) -> dict[str, float]:
        """Bits per byte of zlib, bz2 and xz on the validation part (at most its first MiB)."""
        return _read_meta(Path(self.folder))["reference_points"]


@dataclass(frozen=True)
class _Piece:
    """A stretch of one file, with the file's name inside its folder."""

    name: str
    path: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def rank(self) -> float:
        """A number in [0, 1) that depends on the name alone."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:6], "big") / 2**48

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk


@dataclass(frozen=True)
class _Source:
    """The text files that were found, by name, and how many files were left out."""

    name: str
    pieces: tuple[_Piece, ...]
    skipped: int = 0


def load_corpus(data: str | Path | None = None, *, cache: Path | None = None) -> Corpus:
    """The corpus in `data`, a folder or a file of text; by default the standard library's own sources.

    Folders are read recursively; hidden files, links and binary files are left out. About 5 % of the files
    (by the hash of their path) are for validation, of a single file the end. The cache is `$NAS_CACHE`, or
    `~/.cache/nas`.

    Raises:
        DataError: there is no text, too little of it, or the cache cannot be written.
    """
    source = _standard_library() if data is None else _given(Path(data))
    train, valid = _split(source)
    cache = cache or Path(os.environ.get("NAS_CACHE") or Path.home() / ".cache" / "nas")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as temporary:
            folder = _store(source, train, valid, Path(temporary, "corpus"), cache)
    except OSError as error:
        raise DataError(f"cannot copy {source.name} to the cache {cache}: {error}") from error
    return replace(open_corpus(folder), name=source.name)


def open_corpus(folder: str | Path) -> Corpus:
    """The corpus that `load_corpus` left in `folder`.

    Raises:
        DataError: the folder holds no corpus, or its contents are not those of its digest.
    """
    folder = Path(folder)
    meta = _read_meta(folder)
    del meta["reference_points"]
    try:
        found = _digest(_hash(folder / part).digest() for part in ("train.bin", "valid.bin"))
    except OSError as error:
        raise DataError(f"{folder} holds no corpus: {error}") from None
    if found != meta["digest"]:
        raise DataError(f"{folder} is damaged: its digest should be {meta['digest']}, but is {found}")
    return Corpus(folder=str(folder), **meta)


def _standard_library() -> _Source:
    root = Path(sysconfig.get_path("stdlib"))
    name = f"Python {platform.python_version()} standard library"
    paths = [
        path
        for path in _walk(root, NOT_LIBRARY)
        if path.suffix == ".py" and not path.name.startswith("_sysconfigdata")
    ]
    if not paths:
        raise DataError("this Python comes without .py sources to learn from; give a text with --data PATH")
    return _readable(name, root, paths)


def _given(data: Path) -> _Source:
    if not data.exists():
        raise DataError(f"{data}: no such file or folder")
    root = data.resolve()
    if root.is_dir():
        paths = list(_walk(root))
        if not paths:
            raise DataError(f"{data}: the folder holds no files (hidden files and links are left out)")
        source = _readable(root.name, root, paths)
        if not source.pieces:
            raise DataError(f"{data}: none of its {len(paths)} files is text that can be read")
        return source
    source = _readable(root.name, root.parent, [root])
    if source.skipped:
        raise DataError(f"{data} is not text that can be read (NUL bytes, or no UTF-8)")
    return source


def _walk(root: Path, without: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every regular file under `root`, leaving out hidden ones, links, and folders named in `without`."""
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".") and name not in without]
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _readable(name: str, root: Path, paths: Iterable[Path]) -> _Source:
    pieces, skipped = [], 0
    for path in paths:
        if _is_text(path):
            piece = _Piece(path.relative_to(root).as_posix(), path, 0, path.stat().st_size)
            pieces += [piece] if piece.size else []
        else:
            skipped += 1
    return _Source(name, tuple(sorted(pieces, key=_by_name)), skipped)


def _is_text(path: Path) -> bool:
    """Whether the head of a file can be read, has no NUL byte and is mostly UTF-8."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    replaced = head.decode("utf-8", errors="replace").count("\ufffd")
    return b"\0" not in head and replaced <= 0.3 * len(head)


def _split(source: _Source) -> tuple[list[_Piece], list[_Piece]]:
    """Training and validation: by file, or by position where the files are too few or too uneven for that."""
    total = _size(source.pieces)
    if total < MINIMUM_BYTES:
        raise DataError(
            f"{source.name} is too small: {total:,} bytes of text, and at least {MINIMUM_BYTES:,} are needed"
        )
    train = sorted(source.pieces, key=lambda piece: piece.rank)
    valid: list[_Piece] = []
    while len(train) > 1 and (train[0].rank < VALIDATION_SHARE or _size(valid) < VALIDATION_BYTES):
        valid.append(train.pop(0))
    if _size(valid) < VALIDATION_BYTES or 2 * _size(train) < total:
        return _cut(source.pieces, total - max(VALIDATION_BYTES, int(VALIDATION_SHARE * total)))
    return sorted(train, key=_by_name), sorted(valid, key=_by_name)


def _cut(pieces: Iterable[_Piece], at: int) -> tuple[list[_Piece], list[_Piece]]:
    """The first `at` bytes, and the rest."""
    before: list[_Piece] = []
    after: list[_Piece] = []
    for piece in pieces:
        middle = min(piece.stop, piece.start + at)
        before += [replace(piece, stop=middle)] if middle > piece.start else []
        after += [replace(piece, start=middle)] if middle < piece.stop else []
        at -= middle - piece.start
    return before, after


def _by_name(piece: _Piece) -> str:
    return piece.name


def _size(pieces: Iterable[_Piece]) -> int:
    return sum(piece.size for piece in pieces)


def _store(source: _Source, train: list[_Piece], valid: list[_Piece], new: Path, cache: Path) -> Path:
    """Write both parts into the folder `new` and move it to where its digest says; the final folder."""
    new.mkdir()
    digest = _digest(_write(part, new / name) for name, part in (("train.bin", train), ("valid.bin", valid)))
    folder = cache / digest
    if _is_corpus(folder):
        return folder
    corpus = Corpus(
        name=source.name,
        digest=digest,
        folder="",
        train_bytes=(new / "train.bin").stat().st_size,
        valid_bytes=(new / "valid.bin").stat().st_size,
        train_files=len(train),
        valid_files=len(valid),
        skipped=source.skipped,
    )
    meta = {**asdict(corpus), "reference_points": _reference_points(new / "valid.bin")}
    del meta["folder"]
    (new / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    _move(new, folder)
    return folder


def _move(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, unless another process was quicker: it wrote the same bytes."""
    try:
        new.rename(folder)
    except OSError:
        if _is_corpus(folder):
            return
        # what stands there is damaged; it goes away with the temporary folder
        folder.rename(new.with_name("damaged"))
        new.rename(folder)


def _write(pieces: Iterable[_Piece], path: Path) -> bytes:
    """Join the pieces with a zero byte between them; the hash of what was written."""
    total = hashlib.sha256()
    with path.open("wb") as file:
        for i, piece in enumerate(pieces):
            for chunk in chain([b"\0"] if i else [], piece.chunks()):
                total.update(chunk)
                file.write(chunk)
    return total.digest()


def _hash(path: Path) -> hashlib._Hash:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _digest(hashes: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(hashes)).hexdigest()[:12]


def _is_corpus(folder: Path) -> bool:
    try:
        open_corpus(folder)
    except DataError:
        return False
    return True


def _reference_points(path: Path) -> dict[str, float]:
    with path.open("rb") as file:
        sample = file.read(REFERENCE_BYTES)
    sizes = {
        "zlib": len(zlib.compress(sample, 9)),
        "bz2": len(bz2.compress(sample, 9)),
        "xz": len(lzma.compress(sample, preset=6)),
    }
    return {name: 8 * size / len(sample) for name, size in sizes.items()}


def _read_meta(folder: Path) -> dict:  # type: ignore[type-arg]  # read from JSON
    try:
        return json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no corpus: {error}") from None


@lru_cache(maxsize=16)
def _mapped(path: str) -> Bytes:
    return np.memmap(path, dtype=np.uint8, mode="r")
