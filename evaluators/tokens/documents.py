"""A corpus of bytes from documents: Parquet, JSON lines, a data set of the hub; or from files of text.

    corpus = read_corpus("shards/", field="text")
    corpus = read_corpus("hf:org/name", most=100_000)

Documents are divided by the hash of their text, so equal ones stay on one side, and each stays on its side
when others come or go.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from evaluators.corpus import Corpus, corpus_of, load_corpus
from evaluators.reading import Progress
from evaluators.texts import Piece, Texts, files_of
from evaluators.tokens.sources.base import FIELD, Source, sources
from foundation.cache import ADVICE, cache_folder
from foundation.errors import DataError, SettingError
from foundation.scratch import scratch_folder
from foundation.wording import argument

SHELVES = 256
"""Files that documents are sorted into; whole ones are for training or for validation."""


def read_corpus(
    what: str, *, field: str | None = None, most: int | None = None, cache: Path | None = None
) -> Corpus:
    """The corpus of bytes of files of text, or of documents with their text in a `field`, at most so many.

    In a folder with files of documents all others are left out.

    Raises:
        DataError: it cannot be read, or holds too little text.
        SettingError: `field` or `most` is given, and these are no documents; a library is not installed.
    """
    named = next((kind for kind in sources.values() if kind.prefix and what.startswith(kind.prefix)), None)
    if named is not None:
        found, skipped = [(named, what)], 0
    else:
        paths = files_of(what).paths
        found = [(kind, str(path)) for path in sorted(paths) if (kind := _kind_of(path)) is not None]
        skipped = len(paths) - len(found)
    if not found:
        for name, value in (("text_field", field), ("documents", most)):
            if value is not None:
                raise SettingError(f"{argument(name, value)} is for documents, and {what} is text")
        return load_corpus(what, cache=cache)
    cache = cache or cache_folder()
    documents = (text for kind, each in found for text in kind.documents(each, field or FIELD))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with scratch_folder(cache) as scratch:
            pieces = _shelved(islice(documents, most), scratch, what)
            return corpus_of(Texts(_name_of(what), pieces, skipped), cache)
    except OSError as error:
        raise DataError(f"cannot copy {what} to the cache {cache}: {error.strerror}; {ADVICE}") from error


def _kind_of(path: Path) -> type[Source] | None:
    """The source that reads a file; None where it is text, or nothing."""
    return next((kind for kind in sources.values() if path.name.lower().endswith(kind.suffixes)), None)


def _shelved(documents: Iterator[str], folder: Path, what: str) -> tuple[Piece, ...]:
    """Documents in files by the hash of their text, with zero bytes between them."""
    progress = Progress(f"reading {what}", None, "documents")
    with ExitStack() as open_files:
        shelves = [
            open_files.enter_context((folder / f"{number:03}").open("wb")) for number in range(SHELVES)
        ]
        for text in documents:
            content = text.encode("utf-8", "replace").replace(b"\0", b"")
            if not content:
                continue
            shelf = shelves[hashlib.sha256(content).digest()[0]]
            shelf.write(b"\0" + content if shelf.tell() else content)
            progress.add(1)
    sizes = {path: path.stat().st_size for path in sorted(folder.iterdir())}
    return tuple(Piece(path.name, path, 0, size) for path, size in sizes.items() if size)


def _name_of(what: str) -> str:
    return os.fsencode(Path(what).name).decode("utf-8", "backslashreplace")
