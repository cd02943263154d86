"""Byte-level language modelling: say the next byte.

    read      d e f   f ( x
    answer    e f _ f ( x )

Guessing earns 8 bits per byte; `Corpus.reference_points` are the bits of general compressors.
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

from evaluators.corpus import Bytes, Corpus, load_corpus, open_corpus
from evaluators.tasks.base import Task, copied, tasks
from foundation.errors import DataError, SettingError
from search_spaces.devices import memory_of, on_cuda

SHARE = 0.05
"""Of a GPU's memory, for the text."""


@tasks.add
@dataclass(frozen=True)
class ByteLanguageModelling(Task):
    """Windows of `length` bytes of the corpus in `corpus_folder`; `windows` of them are for validation."""

    name: ClassVar[str] = "language"
    unit: ClassVar[str] = "bits per byte"
    score_name: ClassVar[str] = "bits_per_byte"
    score_unit: ClassVar[str] = unit
    score_help: ClassVar[str] = (
        "validation loss of byte-level language modelling; its evaluator says how it was trained"
    )
    nats: ClassVar[float] = math.log(2)

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
    def make(cls, *, data: str | None, length: int | None, windows: int | None) -> ByteLanguageModelling:
        """On the text at `data`, or on the interpreter's own library; both parts must hold such windows."""
        corpus = load_corpus(data)
        task = cls(corpus.folder, length=length or cls.length, windows=windows or cls.windows)
        task.train_batch(0, 0, 1)
        task.validation()
        return task

    def about(self) -> dict[str, Any]:
        """The corpus, and what general compressors earn on it."""
        corpus = self.corpus
        return {
            "name": corpus.name,
            "digest": corpus.digest,
            "train_bytes": corpus.train_bytes,
            "valid_bytes": corpus.valid_bytes,
            "reference": corpus.reference_points(),
        }

    @property
    def vocab(self) -> int:
        """Every byte."""
        return 256

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
        return read[:, :-1].contiguous(), read[:, 1:].contiguous()

    def validation(self) -> tuple[Tensor, Tensor]:
        """Windows that do not overlap, spread evenly over the validation part."""
        valid = self.corpus.valid
        _check_room(self.corpus, "validation", valid.size, self.windows * self.length + 1)
        last = valid.size - self.length - 1
        starts = np.arange(self.windows, dtype=np.int64) * last // (self.windows - 1)
        return _windows(valid, starts, self.length)

    def _starts(self, step: int, seed: int, batch: int) -> npt.NDArray[np.int64]:
        """Where the windows of a step begin [B]."""
        train = self.corpus.train
        _check_room(self.corpus, "training", train.size, self.length + 1)
        return np.random.default_rng((seed, step)).integers(train.size - self.length, size=batch)


@lru_cache(maxsize=8)
def _opened(folder: str) -> Corpus:
    return open_corpus(folder)


@lru_cache(maxsize=2)
def _text_on(folder: str, device: str) -> Tensor | None:
    """The training part as bytes on a GPU; None on a CPU, which has it, and where it would not fit."""
    text, memory = _opened(folder).train, memory_of(device) if on_cuda(device) else None
    if memory is None or text.size > SHARE * memory:
        return None
    return torch.from_numpy(np.array(text)).to(device)


def _windows(text: Bytes, starts: npt.NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
    read = text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    tokens = torch.from_numpy(read)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _check_room(corpus: Corpus, part: str, size: int, needed: int) -> None:
    if size < needed:
        raise DataError(
            f"{corpus.name} is too small: {size:,} bytes for {part}, and these windows need {needed:,}"
        )
