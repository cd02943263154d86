"""Text to learn from, as bytes: a training part and a validation part, memory-mapped from a cache.

    corpus = load_corpus()                 # the sources of the running interpreter's standard library
    corpus = load_corpus("my/texts")       # a folder of text files, or one file of text
    corpus.train, corpus.valid             # uint8, read-only

Files are read once: what has the same names, sizes and times as before is taken from the cache.

The digest names the contents of both parts: compare scores under one digest only. See `evaluators.texts` for
what is read, and how it is divided.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from evaluators.reading import Progress, say
from evaluators.texts import Files, Piece, Texts, files_of, size_of, split, texts_of
from foundation.cache import ADVICE, cache_folder
from foundation.errors import DataError, FileError
from foundation.files import flush, opened, read_json, write_json
from foundation.scratch import scratch_folder
from foundation.text import count, size

Tokens: TypeAlias = "npt.NDArray[np.unsignedinteger[Any]]"

PARTS, META = ("train.bin", "valid.bin"), "meta.json"
REFERENCE_BYTES = 2**20

Kind = TypeVar("Kind", bound="Corpus")

REMEMBERED = "texts"
"""The folder of the cache that says which corpus was made of which files."""

SETTLED_SECONDS = 2.0
"""Files that were written to within so many seconds may change again without another time stamp."""


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
    def vocab(self) -> int:
        """How many tokens there are: every byte is one."""
        return 256

    @property
    def train(self) -> Tokens:
        """The tokens to learn from."""
        return mapped(str(Path(self.folder, PARTS[0])), "uint8")

    @property
    def valid(self) -> Tokens:
        """The tokens to be judged on."""
        return mapped(str(Path(self.folder, PARTS[1])), "uint8")

    @property
    def train_bytes_per_token(self) -> float:
        """The bytes of text that a token of the training part stands for."""
        return 1.0

    def valid_sizes(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The bytes of text that tokens of the validation part stand for, by their places."""
        return np.ones(places.shape, np.int64)

    def tokenizer_json(self) -> bytes | None:
        """The tokenizer, as the JSON of its file; None where tokens are bytes."""
        return None

    def reference_points(self) -> dict[str, float]:
        """Bits per byte of zlib, bz2 and xz on the validation part (at most its first MiB)."""
        points: dict[str, float] = read_meta(Path(self.folder), type(self))["reference_points"]
        return points


def load_corpus(data: str | Path | None = None, *, cache: Path | None = None) -> Corpus:
    """The corpus in `data`, a folder or a file of text; by default the standard library's own sources.

    Folders are read recursively; hidden files, links and binary files are left out. About 5 % of the files
    (by the hash of their path) are for validation, of a single file the end. The cache is `$NAS_CACHE`, or
    `~/.cache/nas`.

    Raises:
        DataError: there is no text, too little of it, or the cache cannot be written.
        FileError: there is no place for a cache.
    """
    files, cache = files_of(data), cache or cache_folder()
    with _written(files.name, cache):
        if (known := _known(files, cache)) is not None:
            return known
        corpus = corpus_of(texts_of(files), cache)
        _remember(files, corpus, cache)
    if data is not None:
        _tell(corpus)
    return corpus


def corpus_of(texts: Texts, cache: Path) -> Corpus:
    """The corpus of texts, copied to the cache unless it is there.

    Raises:
        DataError: there is too little text, or the cache cannot be written.
    """
    with _written(texts.name, cache):
        train, valid = split(texts)
        total = Progress(f"reading {texts.name}", 2 * size_of(texts.pieces))
        folder = cache / digest_of(_hash_of_pieces(part, total) for part in (train, valid))
        if not is_corpus(folder, open_corpus):
            folder = _copied(texts, train, valid, cache, total)
        return replace(open_corpus(folder), name=texts.name, skipped=texts.skipped)


@contextmanager
def _written(name: str, cache: Path) -> Iterator[None]:
    """What cannot be written is said of the cache."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"cannot copy {name} to the cache {cache}: {why}; {ADVICE}") from error


def _tell(corpus: Corpus) -> None:
    """What was read."""
    files = count(corpus.train_files + corpus.valid_files, "file")
    without = f"; {count(corpus.skipped, 'file')} left out as no text" if corpus.skipped else ""
    say(f"{corpus.name}: {size(corpus.train_bytes + corpus.valid_bytes)} of text in {files}{without}")


def _known(files: Files, cache: Path) -> Corpus | None:
    """The corpus that was made of these very files before; None where there is none, or no longer."""
    path = cache / REMEMBERED / f"{files.stamp}.json"
    if not path.is_file():
        return None
    try:
        about = read_json(path)
        corpus = open_corpus(cache / str(about["digest"]))
        return replace(corpus, name=files.name, skipped=int(about["skipped"]))
    except (DataError, FileError, TypeError, KeyError, ValueError):  # then it is made again
        return None


def _remember(files: Files, corpus: Corpus, cache: Path) -> None:
    """Note what was made of these files, unless one of them is so new that it may change unnoticed."""
    if time.time() - files.newest > SETTLED_SECONDS:
        folder = cache / REMEMBERED
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{files.stamp}.json", {"digest": corpus.digest, "skipped": corpus.skipped})


def open_corpus(folder: str | Path) -> Corpus:
    """The corpus that `load_corpus` left in `folder`.

    Raises:
        DataError: the folder holds no corpus, or its contents are not those of its digest.
    """
    return opened_corpus(Path(folder), Corpus, PARTS)


def opened_corpus(folder: Path, kind: type[Kind], parts: Sequence[str]) -> Kind:
    """The corpus of a kind in a folder, whose digest is that of the hashes of its parts.

    Raises:
        DataError: the folder holds no such corpus, or its contents are not those of its digest.
    """
    meta = read_meta(folder, kind)
    del meta["reference_points"]
    try:
        digest = digest_of(_hash(folder / part) for part in parts)
    except FileError as error:
        raise DataError(f"{folder} holds no corpus: {error}") from None
    if digest != meta["digest"]:
        raise DataError(f"{folder} is damaged: its digest should be {meta['digest']}, but is {digest}")
    return kind(folder=str(folder), **meta)


def _copied(texts: Texts, train: list[Piece], valid: list[Piece], cache: Path, total: Progress) -> Path:
    """Copy both parts into the cache, whole or not at all; the folder that is named by their digest."""
    cache.mkdir(parents=True, exist_ok=True)
    with scratch_folder(cache) as scratch:
        new = scratch / "corpus"
        new.mkdir()
        # of what was written: the texts may have changed since they were looked at
        digest = digest_of(
            _write(part, new / name, total) for name, part in zip(PARTS, (train, valid), strict=True)
        )
        corpus = Corpus(
            name=texts.name,
            digest=digest,
            folder="",
            train_bytes=(new / PARTS[0]).stat().st_size,
            valid_bytes=(new / PARTS[1]).stat().st_size,
            train_files=len(train),
            valid_files=len(valid),
            skipped=texts.skipped,
        )
        write_meta(new, corpus, _reference_points(new / PARTS[1]))
        move(new, cache / digest, open_corpus)
    flush(cache)
    return cache / digest


def write_meta(folder: Path, corpus: Corpus, reference_points: dict[str, float]) -> None:
    """Write what is said of a corpus beside it."""
    meta = {**asdict(corpus), "reference_points": reference_points}
    del meta["folder"]
    write_json(folder / META, meta)


def move(new: Path, folder: Path, open_it: Callable[[Path], Corpus]) -> None:
    """Put `new` in the place of `folder`, unless another process was quicker: it wrote the same bytes."""
    try:
        new.rename(folder)
    except OSError:
        if is_corpus(folder, open_it):
            return
        # what stands there is damaged; it goes away with the temporary folder
        folder.rename(new.with_name("damaged"))
        new.rename(folder)


def _joined(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The pieces with a zero byte between them."""
    for i, piece in enumerate(pieces):
        yield from chain([b"\0"] if i else [], piece.chunks())


def _write(pieces: Iterable[Piece], path: Path, progress: Progress) -> bytes:
    """Join the pieces in a file, as `_joined`, and wait for the disk; the hash of what was written."""
    total = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in _joined(pieces):
            total.update(chunk)
            file.write(chunk)
            progress.add(len(chunk))
    flush(path)
    return total.digest()


def _hash_of_pieces(pieces: Iterable[Piece], progress: Progress) -> bytes:
    """The hash that `_write` will give."""
    total = hashlib.sha256()
    for chunk in _joined(pieces):
        total.update(chunk)
        progress.add(len(chunk))
    return total.digest()


def _hash(path: Path) -> bytes:
    with opened(path, at_most=2**63) as file:
        return hashlib.file_digest(file, "sha256").digest()


def digest_of(hashes: Iterable[bytes]) -> str:
    """12 hex digits of what has these hashes."""
    return hashlib.sha256(b"".join(hashes)).hexdigest()[:12]


def is_corpus(folder: Path, open_it: Callable[[Path], Corpus]) -> bool:
    """Whether a folder holds a corpus, whole."""
    try:
        open_it(folder)
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


def read_meta(folder: Path, kind: type[Corpus] = Corpus) -> dict[str, Any]:
    """What is said of a corpus: the fields of its kind without its folder, and the reference points.

    Raises:
        DataError: the folder holds no such corpus.
    """
    path = folder / META
    try:
        meta: dict[str, Any] = read_json(path)
    except FileError as error:
        raise DataError(f"{folder} holds no corpus: {error}") from None
    wanted = {field.name: field.type for field in fields(kind)} | {"reference_points": "dict"}
    del wanted["folder"]
    if not isinstance(meta, dict) or {name: type(value).__name__ for name, value in meta.items()} != wanted:
        raise DataError(f"{folder} holds no corpus: {path} is not what describes one")
    if not all(isinstance(value, float) for value in meta["reference_points"].values()):
        raise DataError(f"{folder} holds no corpus: {path} has reference points that are no numbers")
    return meta


def mapped(path: str, kind: str) -> Tokens:
    """The numbers in a file, read-only; mapped once, and again where another file took its place."""
    about = os.stat(path)
    return _mapped(path, kind, (about.st_ino, about.st_mtime_ns))


@lru_cache(maxsize=16)
def _mapped(path: str, kind: str, version: tuple[int, int]) -> Tokens:
    return np.memmap(path, dtype=kind, mode="r")
