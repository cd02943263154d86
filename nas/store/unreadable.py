"""Records that cannot be read: damaged, written by a newer nas, or by something else.

One of them does not take the others away. Who reads many records passes what is to happen with such a one; by
default it is refused, because a search must not go on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from foundation.errors import NasError, StoreError
from foundation.text import one_line

T = TypeVar("T")

MALFORMED = (NasError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What reading a malformed record ends in."""

LONGEST = 200
"""Characters of a reason; a damaged record may quote itself."""


@dataclass(frozen=True)
class Unreadable:
    """A record that cannot be read: what it is ("study", "trial 5"), what it is called, and why."""

    what: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} {self.name} cannot be read: {self.reason}"


OnUnreadable: TypeAlias = Callable[[Unreadable], None]


def refuse(unreadable: Unreadable) -> None:
    """Raise `StoreError`."""
    raise StoreError(str(unreadable))


def readable(
    rows: Iterable[Any],
    read: Callable[[Any], T],
    name: Callable[[Any], tuple[str, str]],
    on_unreadable: OnUnreadable = refuse,
) -> Iterator[T]:
    """The records of the rows that can be read; `on_unreadable` hears of the others."""
    for row in rows:
        try:
            record = read(row)
        except MALFORMED as error:
            what, called = name(row)
            on_unreadable(Unreadable(what, one_line(called), reason_of(error)))
            continue
        yield record


def reason_of(error: Exception) -> str:
    """Why a record cannot be read, in a line."""
    text = one_line(str(error))
    if isinstance(error, RecursionError):
        text = "nested too deeply"
    elif isinstance(error, KeyError) and not isinstance(error, NasError):
        text = f"it lacks {text}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
