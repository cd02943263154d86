"""How a corpus is prepared: its text is read, and a tokenizer is run over it.

corpus = prepare("my/texts", Preparation(tokenizer="train:8000"))
corpus.folder                       # what `--data` takes
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from evaluators.corpus import Corpus, is_corpus, move, open_corpus
from evaluators.tokens.documents import read_corpus
from evaluators.tokens.token_corpus import is_prepared, prepared, trained_tokenizer
from evaluators.tokens.tokenizer import Tokenizer
from foundation.cache import ADVICE
from foundation.errors import DataError, SettingError
from foundation.files import require_room
from foundation.scratch import scratch_folder
from foundation.settings import MANY, Settings, setting
from foundation.wording import argument
from search_spaces.network.model_files import TOKENIZER

BYTES = "bytes"
TRAIN = "train:"

LEAST, MOST = 257, 2**20
"""Tokens of a tokenizer that is trained: every byte and the end of a document, and the largest vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Preparation(Settings):
    """What the tokens are, and where the text of documents stands."""

    title = "corpus"

    tokenizer: str = setting(
        BYTES,
        help="What tokens are: bytes; a tokenizer.json of Hugging Face's, or a folder that has one;"
        f" train:SIZE learns a byte-level BPE of so many tokens ({LEAST} to {MOST:,}) from the training"
        " part.",
        metavar="bytes|FILE|train:SIZE",
    )
    text_field: str | None = setting(
        None, help="Of documents: the field with the text.", metavar="NAME", shown="text"
    )
    documents: int | None = setting(
        None, help="Of documents: read so many, from the first.", least=1, most=MANY, shown="all"
    )

    @property
    def trained_size(self) -> int | None:
        """Tokens of a tokenizer that is to be trained; None where it is not.

        Raises:
            SettingError: the size is out of range.
        """
        if not self.tokenizer.startswith(TRAIN):
            return None
        size = self.tokenizer.removeprefix(TRAIN)
        if not (size.isascii() and size.isdecimal() and len(size) < 9 and LEAST <= int(size) <= MOST):
            given = argument("tokenizer", self.tokenizer)
            raise SettingError(f"{given}: the size must be a number from {LEAST} to {MOST:,}")
        return int(size)


def prepare(
    data: str, settings: Preparation, folder: Path | None = None, *, cache: Path | None = None
) -> Corpus:
    """The corpus of a text, of bytes or of tokens, in a folder or in the cache; made once.

    `data` are files of text or documents (`evaluators.tokens.documents`).

    Raises:
        DataError: the text cannot be used, or the folder cannot be written.
        FileError: the tokenizer cannot be read.
        SettingError: a setting makes no sense here; a library is not installed; the folder holds something
            else.
    """
    size = settings.trained_size
    if folder is not None and not is_prepared(folder):
        require_room(folder, "a corpus")
    whole = None if size or settings.tokenizer == BYTES else Tokenizer.read(_file_of(settings.tokenizer))
    if is_prepared(data):
        raise SettingError(f"{data} is a corpus that was prepared already: name the text that it was made of")
    text = read_corpus(data, field=settings.text_field, most=settings.documents, cache=cache)
    if size:
        whole = trained_tokenizer(text, size, cache=cache)
    if whole is not None:
        return prepared(text, whole, folder, cache=cache)
    return text if folder is None else _copied(text, folder)


def _file_of(path: str) -> Path:
    """A tokenizer's file; in a folder, that of the model or corpus there."""
    return Path(path, TOKENIZER) if Path(path).is_dir() else Path(path)


def _copied(text: Corpus, folder: Path) -> Corpus:
    """A corpus of bytes in a folder of its own."""
    if is_corpus(folder, open_corpus) and open_corpus(folder).digest == text.digest:
        return open_corpus(folder)
    require_room(folder, "a corpus")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder.parent) as scratch:
            shutil.copytree(text.folder, scratch / "corpus")
            move(scratch / "corpus", folder, open_corpus)
    except OSError as error:
        raise DataError(
            f"cannot write {text.name} to {folder}: {error.strerror or error}; {ADVICE}"
        ) from error
    return open_corpus(folder)
