"""A corpus that a tokenizer was run over: arrays of tokens, memory-mapped, made once.

    text = load_corpus("my/texts")
    corpus = prepared(text, tokenizer)                  # in the cache, or in a folder of its own
    corpus.train, corpus.valid                          # uint16, or uint32 for a large vocabulary
    corpus.valid_sizes(places)                          # bytes of the text that each token stands for

The parts are those of the text as bytes, so what is for validation does not depend on the tokenizer. The zero
byte between two documents becomes the tokenizer's separator, which stands for that byte. Very long documents
are cut at the end of a line, where tokens could have gone on.

A folder is written whole or not at all; whoever is killed leaves nothing, and begins again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluators.corpus import (
    META,
    Corpus,
    Tokens,
    digest_of,
    is_corpus,
    mapped,
    move,
    opened_corpus,
    write_meta,
)
from evaluators.reading import Progress
from evaluators.tokens.tokenizer import MOST_BYTES, Encoded, Tokenizer
from foundation.cache import ADVICE, cache_folder
from foundation.errors import DataError, FileError
from foundation.files import flush, read_bytes, real_path, require_room, write_atomically
from foundation.scratch import scratch_folder
from search_spaces.network.model_files import TOKENIZER

TRAIN, VALID, SIZES = "train.tokens", "valid.tokens", "valid.sizes"
PARTS = (TRAIN, VALID, SIZES, TOKENIZER)

TRAINED = "tokenizers"
"""The folder of the cache with tokenizers that were trained, by the text and the size."""

LAYOUT = 1
"""Of a folder; another number is another folder."""

DOCUMENT_BYTES = 2**20
"""A longer document is cut."""

BATCH_BYTES = 2**22
"""Bytes that a tokenizer is given together, which it shares among its threads."""


@dataclass(frozen=True, kw_only=True)
class TokenCorpus(Corpus):
    """Two parts of one body of text as tokens below `tokens`, and the digests of the text and the tokenizer.

    `train_counted` are the bytes of the training part that its tokens stand for: all, unless some are
    unknown. Without `lossless`, tokens do not give back all of the text.
    """

    text: str
    tokenizer: str
    tokens: int
    train_tokens: int
    valid_tokens: int
    train_counted: int
    lossless: bool

    @property
    def vocab(self) -> int:
        """How many tokens there are."""
        return self.tokens

    @property
    def train(self) -> Tokens:
        """The tokens to learn from."""
        return mapped(str(Path(self.folder, TRAIN)), kind_for(self.tokens))

    @property
    def valid(self) -> Tokens:
        """The tokens to be judged on."""
        return mapped(str(Path(self.folder, VALID)), kind_for(self.tokens))

    @property
    def train_bytes_per_token(self) -> float:
        """The bytes of text that a token of the training part stands for, on average."""
        return self.train_counted / self.train_tokens

    def valid_sizes(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The bytes of text that tokens of the validation part stand for, by their places."""
        return mapped(str(Path(self.folder, SIZES)), "uint32")[places].astype(np.int64)

    def tokenizer_json(self) -> bytes:
        """The tokenizer, as the JSON of its file."""
        return read_bytes(Path(self.folder, TOKENIZER), at_most=MOST_BYTES)


def kind_for(tokens: int) -> str:
    """The smallest kind of number that holds so many tokens."""
    return "uint16" if tokens <= 2**16 else "uint32"


def load_data(data: str | Path | None) -> Corpus:
    """What `--data` names: a folder that `nas corpus` prepared, or text; see `evaluators.corpus`.

    Raises:
        DataError: it cannot be used.
    """
    from evaluators.corpus import load_corpus

    return open_data(real_path(data)) if data and is_prepared(data) else load_corpus(data)


def is_prepared(data: str | Path) -> bool:
    """Whether a folder was written by `nas corpus`."""
    folder = Path(data)
    return os.path.isfile(folder / META) and any(
        os.path.isfile(folder / part) for part in ("train.bin", TRAIN)
    )


def open_data(folder: str | Path) -> Corpus:
    """The corpus in a folder, of bytes or of tokens.

    Raises:
        DataError: the folder holds no corpus, or its contents are not those of its digest.
    """
    from evaluators.corpus import open_corpus

    return open_tokens(Path(folder)) if os.path.isfile(Path(folder, TRAIN)) else open_corpus(folder)


def open_tokens(folder: Path) -> TokenCorpus:
    """The corpus of tokens in a folder.

    Raises:
        DataError: the folder holds no such corpus, or its contents are not those of its digest.
    """
    corpus = opened_corpus(folder, TokenCorpus, PARTS)
    width = np.dtype(kind_for(corpus.tokens)).itemsize
    wanted = {TRAIN: width * corpus.train_tokens, VALID: width * corpus.valid_tokens}
    wanted[SIZES] = 4 * corpus.valid_tokens
    for name, size in wanted.items():
        if size < 1 or (folder / name).stat().st_size != size:
            raise DataError(f"{folder} is damaged: {name} is not as long as meta.json says")
    if corpus.train_counted < 1 or max(corpus.train.max(), corpus.valid.max()) >= corpus.tokens:
        raise DataError(f"{folder} is damaged: its tokens are not those of a vocabulary of {corpus.tokens:,}")
    return corpus


def prepared(
    text: Corpus, tokenizer: Tokenizer, folder: Path | None = None, *, cache: Path | None = None
) -> TokenCorpus:
    """The tokens of a corpus of bytes, in a folder or in the cache; what is there already is taken.

    Raises:
        DataError: the tokenizer knows nothing of the text, or the folder cannot be written.
        SettingError: the folder holds something else.
    """
    cache = cache or cache_folder()
    place = folder or cache / f"tokens-{_key(text, tokenizer)}"
    if (known := _known(place, text, tokenizer)) is not None:
        return known
    if folder is not None:
        require_room(folder, "a corpus")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(place.parent) as scratch:
            new = scratch / "corpus"
            new.mkdir()
            _write(new, text, tokenizer)
            move(new, place, open_tokens)
        flush(place.parent)
    except (OSError, FileError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot write the tokens of {text.name} to {place}: {why}; {ADVICE}") from error
    return open_tokens(place)


def trained_tokenizer(text: Corpus, size: int, *, cache: Path | None = None) -> Tokenizer:
    """A byte-level BPE of at most `size` tokens, learned from the training part; kept in the cache.

    Raises:
        FileError: the cache cannot be written.
        SettingError: the library `tokenizers` is not installed.
    """
    kept = (cache or cache_folder()) / TRAINED / f"{text.digest}-{size}.json"
    if kept.is_file():
        try:
            return Tokenizer.read(kept)
        except FileError:  # damaged: then it is trained again
            pass
    progress = Progress(f"reading {text.name} for a tokenizer", text.train.size)

    def documents() -> Iterator[str]:
        for document, _ in documents_in(text.train):
            progress.add(len(document))
            yield document.decode("utf-8", "ignore")

    tokenizer = Tokenizer.trained(documents(), size)
    write_atomically(kept, tokenizer.json)
    return tokenizer


def documents_in(text: Tokens) -> Iterator[tuple[bytes, bool]]:
    """The documents of a part, which have zero bytes between them, and whether each ends there.

    One that is longer than `DOCUMENT_BYTES` comes in pieces, of which the last one ends.
    """
    start = 0
    while start < text.size:
        block = text[start : start + DOCUMENT_BYTES].tobytes()
        *whole, rest = block.split(b"\0")
        yield from ((document, True) for document in whole)
        start += len(block) - len(rest)
        if start + len(rest) == text.size:
            yield rest, False
            return
        if not whole:
            cut = _cut(rest)
            yield rest[:cut], False
            start += cut


def _cut(block: bytes) -> int:
    """Where to cut a piece of a document: behind a line, else not inside a character."""
    if line := block.rfind(b"\n") + 1:
        return line
    cut = len(block)
    while cut > len(block) - 4 and block[cut - 1] & 0xC0 == 0x80:
        cut -= 1
    return cut - 1 if cut > 1 and block[cut - 1] >= 0xC0 else len(block)


def _key(text: Corpus, tokenizer: Tokenizer) -> str:
    return hashlib.sha256(f"{LAYOUT}/{text.digest}/{tokenizer.digest}".encode()).hexdigest()[:12]


def _known(place: Path, text: Corpus, tokenizer: Tokenizer) -> TokenCorpus | None:
    """The corpus that is there already; None where it is another one, or damaged."""
    if not is_corpus(place, open_tokens):
        return None
    found = open_tokens(place)
    same = (found.text, found.tokenizer) == (text.digest, tokenizer.digest)
    return found if same else None


def _write(new: Path, text: Corpus, tokenizer: Tokenizer) -> None:
    """All files of a corpus of tokens."""
    progress = Progress(f"tokenizing {text.name}", text.train.size + text.valid.size)
    train = _write_tokens(new / TRAIN, None, text.train, tokenizer, progress)
    valid = _write_tokens(new / VALID, new / SIZES, text.valid, tokenizer, progress)
    for part in (train, valid):
        if not part.counted:
            raise DataError(f"{tokenizer.name} knows nothing of {text.name}: all of its tokens are unknown")
    (new / TOKENIZER).write_text(tokenizer.json, encoding="utf-8")
    about = {field.name: getattr(text, field.name) for field in fields(Corpus)}
    corpus = TokenCorpus(
        **{**about, "digest": digest_of(map(_hash, (new / part for part in PARTS)))},
        text=text.digest,
        tokenizer=tokenizer.digest,
        tokens=tokenizer.size,
        train_tokens=train.tokens,
        valid_tokens=valid.tokens,
        train_counted=train.counted,
        lossless=train.lossless and valid.lossless,
    )
    write_meta(new, corpus, text.reference_points())


@dataclass(frozen=True)
class _Part:
    tokens: int
    counted: int
    lossless: bool


def _write_tokens(
    path: Path, sizes: Path | None, text: Tokens, tokenizer: Tokenizer, progress: Progress
) -> _Part:
    """The tokens of a part in a file, and in another one the bytes that they stand for."""
    kind, tokens, counted, lossless = kind_for(tokenizer.size), 0, 0, True
    with path.open("wb") as file, open(sizes or os.devnull, "wb") as beside:
        for batch in _batches(text):
            encoded = _encoded(batch, tokenizer)
            file.write(encoded.ids.astype(kind).tobytes())
            beside.write(encoded.sizes.astype(np.uint32).tobytes())
            tokens, counted = tokens + encoded.ids.size, counted + int(encoded.sizes.sum())
            lossless = lossless and encoded.lossless
            progress.add(sum(len(document) for document, _ in batch))
    flush(path)
    return _Part(tokens, counted, lossless)


def _encoded(batch: Sequence[tuple[bytes, bool]], tokenizer: Tokenizer) -> Encoded:
    """The tokens of some documents, with separators where they end."""
    parts = list[Encoded]()
    for encoded, (_, ends) in zip(tokenizer.encode([text for text, _ in batch]), batch, strict=True):
        parts += [encoded, tokenizer.separator] if ends else [encoded]
    return Encoded.joined(parts)


def _batches(text: Tokens) -> Iterator[list[tuple[bytes, bool]]]:
    batch, held = list[tuple[bytes, bool]](), 0
    for document in documents_in(text):
        batch.append(document)
        held += len(document[0])
        if held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
