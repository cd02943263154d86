"""Parquet: a table, one of whose columns is the text of documents."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from evaluators.tokens.sources.base import Source, no_field, sources
from foundation.errors import DataError
from foundation.extras import require_extra
from foundation.text import one_line

ROWS = 1024
"""Rows that are read together."""


@sources.add
class Parquet(Source):
    """Files with a document in each row."""

    name = "parquet"
    suffixes = (".parquet",)

    @classmethod
    def documents(cls, what: str, field: str) -> Iterator[str]:
        """The texts of the rows."""
        arrow = _library()
        try:
            with arrow.parquet.ParquetFile(what) as file:
                schema = file.schema_arrow
                if field not in schema.names:
                    raise no_field(field, schema.names, what)
                kind = schema.field(field).type
                if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
                    raise DataError(f"{what}: the field {field!r} is not text: {kind}")
                for batch in file.iter_batches(batch_size=ROWS, columns=[field]):
                    yield from filter(None, batch.column(0).to_pylist())
        except (OSError, arrow.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{what} cannot be read: {one_line(str(error))}") from None


def _library() -> ModuleType:
    """The library, which is an extra.

    Raises:
        SettingError: it is not installed.
    """
    require_extra("reading Parquet", "hf", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    return pyarrow
