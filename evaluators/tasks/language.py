"""Language modelling: say the next token, which is a byte, or a piece of a tokenizer.

    read      d e f   f ( x
    answer    e f _ f ( x )

Scores are bits per byte, whatever the tokens are: the nats of all tokens that are scored, over the bytes of
text that these stand for (`evaluators.tokens.tokenizer`). So a window scores its bits over the bytes of the
mean window: the mean over windows is then the quotient of both sums, and its error includes that windows of
as many tokens hold more text or less. While training, a token stands for the bytes of the mean token.

Guessing bytes earns 8 bits per byte; `Corpus.reference_points` are the bits of general compressors.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluators.corpus import Corpus, Tokens
from evaluators.tasks.base import Task, copied, tasks
from evaluators.tokens.token_corpus import TokenCorpus, load_data, open_data
from foundation.errors import DataError, SettingError
from foundation.wording import argument
from search_spaces.devices import memory_of, on_cuda

SHARE = 0.05
"""Of a GPU's memory, for the text."""

SIGNED = {"uint16": "int16", "uint32": "int32"}
UNSIGNED = {torch.uint8: 0xFF, torch.int16: 0xFFFF, torch.int32: 0xFFFFFFFF}
"""How tokens lie on a GPU, and the bits of them that count."""


@tasks.add
@dataclass(frozen=True)
class LanguageModelling(Task):
    """Windows of `length` tokens of the corpus in `corpus_folder`; `windows` of them are for validation."""

    name: ClassVar[str] = "language"
    unit: ClassVar[str] = "bits per byte"
    score_name: ClassVar[str] = "bits_per_byte"
    score_unit: ClassVar[str] = unit
    score_help: ClassVar[str] = (
        "validation loss of language modelling, over the bytes of text; its evaluator says how it was trained"
    )
    corpus_folder: str
    length: int = 128
    windows: int = 64

    def __post_init__(self) -> None:
        if self.length < 1 or self.windows < 2:
            raise SettingError(
                "language: length must be at least 1 and windows at least 2,"
                f" got {self.length} and {self.windows}"
            )

    @classmethod
    def make(cls, *, data: str | None, length: int | None, windows: int | None) -> LanguageModelling:
        """On the text or the prepared corpus at `data`, or on the interpreter's own library.

        Both parts must hold such windows.
        """
        corpus = load_data(data)
        task = cls(corpus.folder, length=length or cls.length, windows=windows or cls.windows)
        task.train_batch(0, 0, 1)
        task.validation()
        return task

    def about(self) -> dict[str, Any]:
        """The corpus, and what general compressors earn on it."""
        corpus = self.corpus
        about = {
            "name": corpus.name,
            "digest": corpus.digest,
            "train_bytes": corpus.train_bytes,
            "valid_bytes": corpus.valid_bytes,
            "reference": corpus.reference_points(),
        }
        if not isinstance(corpus, TokenCorpus):
            return about
        return about | {
            "text": corpus.text,
            "tokenizer": corpus.tokenizer,
            "vocab": corpus.vocab,
            "bytes_per_token": corpus.train_bytes_per_token,
            "lossless": corpus.lossless,
        }

    @property
    def vocab(self) -> int:
        """Every byte, or every token of the tokenizer."""
        return self.corpus.vocab

    @property
    def nats(self) -> float:  # type: ignore[override]  # a number of other tasks
        """A bit for each byte that a token of the training part stands for, on average."""
        return math.log(2) * self.corpus.train_bytes_per_token

    def tokenizer_json(self) -> bytes | None:
        """What the tokens mean, as the JSON of a tokenizer's file; None where they are bytes."""
        return self.corpus.tokenizer_json()

    def judge(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The bits of each window over the bytes of the mean window [W]."""
        per_token = _bytes_per_scored_token(self.corpus_folder, self.length, self.windows)
        return super().judge(logits, targets) * (self.corpus.train_bytes_per_token / per_token)

    @property
    def digest(self) -> str:
        """Names the corpus by its contents, wherever it lies."""
        what = f"{self.name}/{self.corpus.digest}/{self.length}/{self.windows}"
        return hashlib.sha256(what.encode()).hexdigest()[:12]

    @property
    def corpus(self) -> Corpus:
        """The text, opened once per process."""
        return _opened(self.corpus_folder)

    def train_batch(self, step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Windows from anywhere in the training part, drawn with replacement."""
        return _windows(self.corpus.train, self._starts(step, seed, batch), self.length)

    def train_batch_on(
        self, device: str | torch.device, step: int, seed: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """The same windows, cut from a copy of the text on a GPU where that takes at most `SHARE` of it."""
        text = _text_on(self.corpus_folder, str(device))
        if text is None:
            return super().train_batch_on(device, step, seed, batch)
        starts = copied(torch.from_numpy(self._starts(step, seed, batch)), device)
        read = text[starts[:, None] + torch.arange(self.length + 1, device=text.device)].long()
        read = read & UNSIGNED[text.dtype]
        return read[:, :-1].contiguous(), read[:, 1:].contiguous()

    def validation(self) -> tuple[Tensor, Tensor]:
        """Windows that do not overlap, spread evenly over the validation part."""
        starts = _validation_starts(self.corpus, self.length, self.windows)
        return _windows(self.corpus.valid, starts, self.length)

    def _starts(self, step: int, seed: int, batch: int) -> npt.NDArray[np.int64]:
        """Where the windows of a step begin [B]."""
        train = self.corpus.train
        _check_room(self.corpus, "training", train.size, self.length + 1)
        return np.random.default_rng((seed, step)).integers(train.size - self.length, size=batch)


@lru_cache(maxsize=8)
def _opened(folder: str) -> Corpus:
    return open_data(folder)


@lru_cache(maxsize=2)
def _text_on(folder: str, device: str) -> Tensor | None:
    """The training part on a GPU; None on a CPU, which has it, and where it would not fit.

    PyTorch gathers no unsigned numbers of 16 or 32 bits there, so they are read as signed (`UNSIGNED`).
    """
    text, memory = _opened(folder).train, memory_of(device) if on_cuda(device) else None
    if memory is None or text.nbytes > SHARE * memory:
        return None
    return torch.from_numpy(np.array(text).view(SIGNED.get(text.dtype.name, text.dtype.name))).to(device)


@lru_cache(maxsize=8)
def _bytes_per_scored_token(folder: str, length: int, windows: int) -> float:
    """The bytes of text that a target of the validation windows stands for, on average."""
    corpus = _opened(folder)
    starts = _validation_starts(corpus, length, windows)
    places = starts[:, None] + np.arange(1, length + 1)
    sizes = int(corpus.valid_sizes(places).sum())
    if not sizes:
        raise DataError(f"{corpus.name}: no token of the validation windows stands for text that is known")
    return sizes / places.size


def _validation_starts(corpus: Corpus, length: int, windows: int) -> npt.NDArray[np.int64]:
    """Where windows begin [W]."""
    _check_room(corpus, "validation", corpus.valid.size, windows * length + 1)
    last = corpus.valid.size - length - 1
    return np.arange(windows, dtype=np.int64) * last // (windows - 1)


def _windows(part: Tokens, starts: npt.NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(part[starts[:, None] + np.arange(length + 1)].astype(np.int64))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _check_room(corpus: Corpus, part: str, size: int, needed: int) -> None:
    if size < needed:
        tokens = "bytes" if corpus.tokenizer_json() is None else "tokens"
        raise DataError(
            f"{corpus.name} is too small: {size:,} {tokens} for {part}, and these windows need {needed:,};"
            f" fewer and shorter windows ({argument('validation_windows')}, {argument('window')}) need less"
        )
