"""A Hugging Face `tokenizers` file (`tokenizer.json`), read so that each token stands for bytes of the text.

    tokenizer = Tokenizer.read("tokenizer.json")
    tokenizer = Tokenizer.trained(documents, 8000)      # byte-level BPE
    [encoded] = tokenizer.encode([b"some text"])
    encoded.ids, encoded.sizes                          # a token each, and the bytes that it stands for

Bits per byte are nats over the bytes of the text, so what matters is how many bytes tokens stand for:

- Where the tokens give back the text (byte-level tokenizers, and those of SentencePiece that fall back to
  bytes), a token stands for its own bytes, also where several make up one character. A blank that a tokenizer
  puts before a text is no byte of it.
- Elsewhere (it lowers case, normalises, or drops blanks) tokens stand for what they were made of, up to where
  the next begins; `lossless` is false.
- An unknown token tells nothing of its bytes, so it stands for none.
- Bytes that are no UTF-8 have the tokens of single bytes, where there are such.

Words in a text that look like special tokens ("<|endoftext|>") are text.

Byte-level BPE: Radford et al. 2019 (GPT-2), section 2.2; byte fallback: Kudo & Richardson 2018,
arXiv:1808.06226, and its releases since.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.tokens.vocabulary import TextStream, Vocabulary
from foundation.errors import DataError, FileError, NasError
from foundation.extras import require_extra
from foundation.files import read_bytes
from foundation.text import one_line
from search_spaces.checkpoints.byte_level import byte_letters

MOST_BYTES = 2**26
"""The largest file of a tokenizer that is read."""

END = "<|endoftext|>"
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
"""Names that the special token between two documents goes by."""

SINGLE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
NO_TEXT = re.compile("([\udc80-\udcff]+)")
"""Bytes that are no UTF-8, as `surrogateescape` spells them."""

LOST = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Encoded:
    """Tokens of a text [T], the bytes of it that each stands for [T], and whether they give it back."""

    ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    lossless: bool = True

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """One after the other."""
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            all(part.lossless for part in parts),
        )


class Tokenizer(Vocabulary):
    """A tokenizer, from the JSON of its file."""

    def __init__(self, text: str, name: str = "the tokenizer") -> None:
        """Raise `FileError` where the JSON is none of a tokenizer."""
        hf, self.json, self.name = _library(), text, name
        with _refused(FileError, f"{name} is no tokenizer.json"):
            self._hf: Any = hf.Tokenizer.from_str(text)
            self._hf.no_truncation()
            self._hf.no_padding()
            self._hf.encode_special_tokens = True  # what a text quotes is text
            if getattr(self._hf.model, "dropout", None):
                self._hf.model.dropout = None  # equal texts have equal tokens
            self.size = 1 + max(self._hf.get_vocab(with_added_tokens=True).values(), default=-1)
        if self.size < 1:
            raise FileError(f"{name} is no tokenizer.json: its vocabulary is empty")

    @classmethod
    def read(cls, path: str | Path) -> Tokenizer:
        """The tokenizer in a file.

        Raises:
            FileError: there is none, or it is damaged.
            SettingError: the library `tokenizers` is not installed.
        """
        _library()
        try:
            return cls(read_bytes(path, at_most=MOST_BYTES).decode("utf-8"), str(path))
        except UnicodeDecodeError:
            raise FileError(f"{path} is no tokenizer.json: it is not text in UTF-8") from None

    @classmethod
    def trained(cls, documents: Iterable[str], size: int) -> Tokenizer:
        """A byte-level BPE of at most `size` tokens, learned from documents: equal ones give equal tokens.

        It has fewer where the documents hold no more pairs that come twice.
        """
        hf = _library()
        made = hf.Tokenizer(hf.models.BPE())
        made.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = hf.decoders.ByteLevel()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[END],
            initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        )
        made.train_from_iterator(documents, trainer)
        return cls(made.to_str(pretty=True))

    @cached_property
    def digest(self) -> str:
        """12 hex digits of the file's content."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:12]

    @cached_property
    def separator(self) -> Encoded:
        """What stands for the one byte between two documents.

        What the tokenizer itself puts around a document, else its special token for an end, else the tokens
        of a zero byte.
        """
        before, after = self._around
        ends = [self._hf.token_to_id(name) for name in ENDS]
        ids = [*after, *before] or [found for found in ends if found is not None][:1]
        if not ids:
            return self.encode([b"\0"])[0]
        return Encoded(np.array(ids), np.array([1] + [0] * (len(ids) - 1)))

    @cached_property
    def ends(self) -> frozenset[int]:
        """The separator's first token, and all that go by the name of an end."""
        named = (self._hf.token_to_id(name) for name in ENDS)
        return frozenset({*self.separator.ids[:1].tolist(), *(found for found in named if found is not None)})

    def encode(self, documents: Sequence[bytes]) -> list[Encoded]:
        """The tokens of each document, without special ones.

        Raises:
            DataError: the tokenizer is inconsistent, so that some text has no tokens.
        """
        with _refused(DataError, f"{self.name} cannot read a text"):
            return self._encoded(documents)

    def _encoded(self, documents: Sequence[bytes]) -> list[Encoded]:
        texts = [document.decode("utf-8", "surrogateescape") for document in documents]
        parts = [[part for part in NO_TEXT.split(text) if part] for text in texts]
        plain = [part for text in parts for part in text if not NO_TEXT.match(part)]
        encodings = iter(self._hf.encode_batch_fast(plain, add_special_tokens=False))
        return [
            Encoded.joined(
                [
                    self._no_text(part) if NO_TEXT.match(part) else self._sized(part, next(encodings).ids)
                    for part in text
                ]
            )
            for text in parts
        ]

    def prompt(self, text: bytes) -> list[int]:
        """The tokens of a text that is to be continued, after what the tokenizer puts before a document."""
        ids: list[int] = self.encode([text])[0].ids.tolist()
        return [*self._around[0], *ids]

    def stream(self, prompt: Sequence[int]) -> TextStream:
        """Decodes what follows a prompt."""
        return _Stream(self._hf, prompt)

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a document."""
        with _refused(DataError, f"{self.name} cannot read a text"):
            encoding = self._hf.encode("a", add_special_tokens=True)
        own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
        ids: list[int] = encoding.ids
        return (ids[: own[0]], ids[own[-1] + 1 :]) if own else (ids, [])

    def _sized(self, text: str, ids: list[int]) -> Encoded:
        """Tokens of a text in UTF-8, with the bytes that they stand for."""
        pieces, content = self._pieces, text.encode()
        given = b"".join([pieces[token] for token in ids])
        tokens = np.array(ids, np.int64)
        if given == content:
            return Encoded(tokens, self._sizes[tokens])
        if given == b" " + content and pieces[ids[0]].startswith(b" "):
            sizes = self._sizes[tokens]
            sizes[0] -= 1
            return Encoded(tokens, sizes)
        return self._by_offsets(text)

    def _by_offsets(self, text: str) -> Encoded:
        """Tokens of a text that they do not spell, by where the library says that they come from.

        Characters that are no UTF-8 count as the one byte that they are.
        """
        encoding = self._hf.encode(NO_TEXT.sub(_lost, text), add_special_tokens=False)
        width = [1 if "\udc80" <= c <= "\udcff" else len(c.encode()) for c in text]
        places = np.concatenate(([0], np.cumsum(width, dtype=np.int64)))
        ends = np.maximum.accumulate(np.array([0] + [places[end] for _, end in encoding.offsets]))
        ids, sizes = np.array(encoding.ids, np.int64), np.diff(ends)
        if sizes.size:
            sizes[-1] += places[-1] - ends[-1]
        sizes[ids == self._unknown] = 0
        given = self._hf.decode(encoding.ids, skip_special_tokens=False)
        return Encoded(ids, sizes, lossless=given == text)

    def _no_text(self, part: str) -> Encoded:
        """The tokens of bytes that are no UTF-8."""
        found = [self._single_bytes.get(byte) for byte in part.encode("utf-8", "surrogateescape")]
        ids = [token for token in found if token is not None]
        if len(ids) < len(found):
            return self._by_offsets(part)
        return Encoded(np.array(ids, np.int64), np.ones(len(ids), np.int64))

    @cached_property
    def _pieces(self) -> list[bytes]:
        """The bytes that each token spells; none, where it spells none."""
        pieces = [b""] * self.size
        by_bytes = '"ByteLevel"' in json.dumps(json.loads(self.json).get("decoder"))
        letters = byte_letters() if by_bytes else None
        for token, index in self._hf.get_vocab(with_added_tokens=False).items():
            if letters is not None:
                spelled = [letters.get(letter) for letter in token]
                pieces[index] = b"" if None in spelled else bytes(spelled)  # type: ignore[arg-type]
            elif single := SINGLE_BYTE.fullmatch(token):
                pieces[index] = bytes([int(single[1], 16)])
            else:
                pieces[index] = token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()
        for index, added in self._hf.get_added_tokens_decoder().items():
            pieces[index] = b"" if added.special else added.content.encode()
        if self._unknown is not None:
            pieces[self._unknown] = b""
        return pieces

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        return np.array([len(piece) for piece in self._pieces], np.int64)

    @cached_property
    def _single_bytes(self) -> dict[int, int]:
        """The tokens of single bytes that are part of longer characters."""
        return {piece[0]: index for index, piece in enumerate(self._pieces) if len(piece) == 1}

    @cached_property
    def _unknown(self) -> int | None:
        """The token of what has no token."""
        name = getattr(self._hf.model, "unk_token", None)
        found: int | None = self._hf.token_to_id(name) if isinstance(name, str) else None
        return found


class _Stream(TextStream):
    """Text of tokens one by one; a character that is not whole waits for the tokens that complete it."""

    def __init__(self, hf: Any, prompt: Sequence[int]) -> None:
        self._hf, self._waiting = hf, list[int]()
        self.begun: str = hf.decode(list(prompt), skip_special_tokens=True)
        self._decoding = _library().decoders.DecodeStream(ids=list(prompt), skip_special_tokens=False)

    def push(self, token: int) -> str:
        text = self._decoding.step(self._hf, token)
        self._waiting = [*self._waiting, token] if text is None else []
        return text or ""

    def end(self) -> str:
        return self._hf.decode(self._waiting, skip_special_tokens=False) if self._waiting else ""


def _lost(found: re.Match[str]) -> str:
    return LOST * len(found[0])


@contextmanager
def _refused(kind: type[NasError], what: str) -> Iterator[None]:
    """What the library raises about a file that it cannot use, in a line.

    It has no errors of its own, and where its Rust code gives up, it raises what is no `Exception`.
    """
    try:
        yield
    except NasError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what}: {one_line(str(error))}") from None


def _library() -> ModuleType:
    """The library, which is an extra.

    Raises:
        SettingError: it is not installed.
    """
    require_extra("a tokenizer", "hf", "tokenizers")
    import tokenizers

    return tokenizers
