"""The contract of a source of documents: files of a kind, or a place elsewhere.

A new file in this folder is a new source, of which `nas corpus` makes corpora.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from foundation.errors import DataError
from foundation.registry import Registry
from foundation.text import listed
from foundation.wording import argument

sources: Registry[type[Source]] = Registry("source", folder="evaluators.tokens.sources")

FIELD = "text"
"""The field that holds the text unless another one is named."""


class Source(ABC):
    """Documents by what names them: files with one of the `suffixes`, or words that begin with `prefix`."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def documents(cls, what: str, field: str) -> Iterator[str]:
        """The texts in a field of each document, one after the other; empty ones are left out.

        Raises:
            DataError: it cannot be read, or a document has no text in this field.
            SettingError: the library that reads it is not installed.
        """


def text_in(fields: Any, field: str, where: str) -> str:
    """The text in a field of a document; a null is an empty one.

    Raises:
        DataError: there is none.
    """
    if not isinstance(fields, dict):
        raise DataError(f"{where} is not an object with a field {field!r}")
    if field not in fields:
        raise no_field(field, list(fields), where)
    if not isinstance(fields[field] or "", str):
        raise DataError(f"{where}: the field {field!r} is not text: {one_kind(fields[field])}")
    return fields[field] or ""


def no_field(field: str, fields: list[str], where: str) -> DataError:
    """There is no field of this name."""
    others = listed(map(str, fields[:8])) or "none"
    return DataError(
        f"{where} has no field {field!r}; it has {others}: name one with {argument('text_field', 'NAME')}"
    )


def one_kind(value: Any) -> str:
    """What a value is, for a message."""
    return type(value).__name__
