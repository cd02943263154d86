"""What tokens mean: bytes, or the pieces of a tokenizer. It reads a prompt, and spells what is written.

vocabulary = ByteVocabulary()
tokens = vocabulary.prompt(b"def ")
stream = vocabulary.stream(tokens)
stream.push(97), stream.end()       # text as far as it is whole, and what never became whole
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Sequence

BYTES = 256


class TextStream(ABC):
    """Text of tokens that come one by one; no character is told before it is whole.

    `begun` is the text of the prompt, as the tokens tell it.
    """

    begun: str

    @abstractmethod
    def push(self, token: int) -> str:
        """The text that one more token completes."""

    @abstractmethod
    def end(self) -> str:
        """What is left: of characters that were not completed, replacement characters."""


class Vocabulary(ABC):
    """The meaning of `size` tokens."""

    size: int

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that stand between two documents: an answer ends before them."""
        return frozenset()

    @abstractmethod
    def prompt(self, text: bytes) -> list[int]:
        """The tokens of a text that is to be continued."""

    @abstractmethod
    def stream(self, prompt: Sequence[int]) -> TextStream:
        """Spells what follows the tokens of a prompt."""


class ByteVocabulary(Vocabulary):
    """Each token is a byte."""

    size = BYTES

    @property
    def ends(self) -> frozenset[int]:
        """The zero byte."""
        return frozenset({0})

    def prompt(self, text: bytes) -> list[int]:
        """The bytes."""
        return list(text)

    def stream(self, prompt: Sequence[int]) -> TextStream:
        """Decodes UTF-8; a prompt may end inside a character."""
        return _ByteStream(prompt)


class _ByteStream(TextStream):
    def __init__(self, prompt: Sequence[int]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.begun = self._decoder.decode(bytes(prompt))

    def push(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)
