"""The Hugging Face hub: the training split of a data set, streamed (`hf:NAME` or `hf:NAME:CONFIGURATION`).

Nothing that a data set brings along is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evaluators.tokens.sources.base import Source, sources, text_in
from foundation.errors import DataError, NasError
from foundation.extras import require_extra
from foundation.text import one_line

SPLIT = "train"


@sources.add
class Hub(Source):
    """A data set of the hub, where it can be reached."""

    name = "hub"
    prefix = "hf:"

    @classmethod
    def documents(cls, what: str, field: str) -> Iterator[str]:
        """The texts of the training split."""
        require_extra(what, "datasets", "datasets")
        import datasets

        name, _, configuration = what.removeprefix(cls.prefix).partition(":")
        try:
            rows: Any = datasets.load_dataset(name, configuration or None, split=SPLIT, streaming=True)
            for number, row in enumerate(rows):
                if text := text_in(row, field, f"{what}, document {number:,}"):
                    yield text
        except NasError:
            raise
        except Exception as error:  # of the library, of those that it reads with, and of those beneath
            raise DataError(f"{what} cannot be read from the hub: {one_line(str(error))[:300]}") from None
