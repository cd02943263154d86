"""JSON lines: an object in each line, one of whose fields is the text of a document."""

from __future__ import annotations

from collections.abc import Iterator

from evaluators.tokens.sources.base import Source, sources, text_in
from foundation.errors import DataError, FileError
from foundation.files import opened, parse_json

LINE_BYTES = 2**26
"""The longest line that is read."""


@sources.add
class JsonLines(Source):
    """Files with a document in each line."""

    name = "json_lines"
    suffixes = (".jsonl", ".ndjson")

    @classmethod
    def documents(cls, what: str, field: str) -> Iterator[str]:
        """The texts of the lines; blank lines are left out."""
        try:
            with opened(what, at_most=2**63) as file:
                number = 0
                while line := file.readline(LINE_BYTES + 1):
                    number += 1
                    if text := _text(line, field, f"{what}, line {number:,}"):
                        yield text
        except FileError as error:
            raise DataError(str(error)) from None


def _text(line: bytes, field: str, where: str) -> str:
    if len(line) > LINE_BYTES:
        raise DataError(f"{where} is too long: at most {LINE_BYTES:,} bytes are read")
    if not line.strip():
        return ""
    try:
        fields = parse_json(line.decode("utf-8"))
    except ValueError as error:  # also of the decoding
        raise DataError(f"{where} is damaged or not JSON: {error}") from None
    return text_in(fields, field, where)
