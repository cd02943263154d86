"""Values of a file that somebody else may have made, read field by field as what they must be.

    field = Field(read_json(path))
    field["entries"][3]["decode_ms"]["n"].whole(least=1)
    # FileError: entries[3].decode_ms.n must be at least 1, got -1

Every value is asked for by its kind and its range, so nothing that was not looked at gets further, and what
is wrong is named by its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from foundation.errors import FileError
from foundation.registry import nearest

TEXT, LIST = 200, 100_000
"""Characters of a text, and entries of a list or a mapping, at most, unless the reader says otherwise."""

LARGEST = 1e300
"""Numbers beyond it count as infinite: what is computed with them soon is."""

SHOWN = 40
"""Characters of a wrong value that a message shows."""


@dataclass(frozen=True)
class Field:
    """A plain value, and where in its file it stands: `entries[3].decode_ms`; empty for the whole file."""

    plain: Any
    place: str = ""

    def __getitem__(self, name: str | int) -> Field:
        """The field of this name; of a list, the entry of this number.

        Raises:
            FileError: there is none.
        """
        if isinstance(name, int):
            return self.entries()[name]
        self._require(isinstance(self.plain, Mapping), "an object with named values")
        if name not in self.plain:
            raise FileError(f"{self._name} lacks {name!r}")
        return self._child(name, self.plain[name])

    def get(self, name: str, default: Any = None) -> Field:
        """The field of this name, or one that holds the default."""
        self._require(isinstance(self.plain, Mapping), "an object with named values")
        return self._child(name, self.plain.get(name, default))

    def only(self, *names: str) -> Field:
        """The same field, of which it is known that it has no other names than these."""
        for name in self.names():
            if name not in names:
                raise FileError(f"{self._name} has no field {name!r:.{SHOWN}}; {nearest(name, names)}")
        return self

    def names(self, *, most: int = LIST) -> list[str]:
        """The names of its fields."""
        self._require(isinstance(self.plain, Mapping), "an object with named values")
        self._require(
            len(self.plain) <= most, f"an object of at most {most:,} named values", f"{len(self.plain):,}"
        )
        for name in self.plain:
            Field(name, f"a name in {self._name}").text(least=0)
        return list(self.plain)

    def items(self, *, most: int = LIST) -> Iterator[tuple[str, Field]]:
        """Its fields by name."""
        for name in self.names(most=most):
            yield name, self[name]

    def entries(self, *, least: int = 0, most: int = LIST) -> list[Field]:
        """The entries of a list."""
        self._require(isinstance(self.plain, (list, tuple)), "a list")
        count = len(self.plain)
        self._require(count >= least, f"a list of at least {least:,}", f"{count:,} entries")
        self._require(count <= most, f"a list of at most {most:,}", f"{count:,} entries")
        return [Field(entry, f"{self.place}[{i}]") for i, entry in enumerate(self.plain)]

    def number(
        self, *, positive: bool = False, least: float | None = None, most: float | None = None
    ) -> float:
        """A finite number in a range."""
        self._require(_is_number(self.plain), "a number")
        finite = -LARGEST < self.plain < LARGEST
        if positive:
            self._require(finite and self.plain > 0, "positive and finite")
        self._require(finite, "finite")
        self._require_range(least, most)
        return float(self.plain)

    def whole(self, *, least: int | None = None, most: int | None = None) -> int:
        """A whole number in a range."""
        self._require(_is_number(self.plain) and isinstance(self.plain, int), "a whole number")
        self._require_range(least, most)
        return int(self.plain)

    def flag(self) -> bool:
        """True or false."""
        self._require(isinstance(self.plain, bool), "true or false")
        return bool(self.plain)

    def text(self, *, least: int = 1, most: int = TEXT) -> str:
        """Printable characters in one line, so many at least and at most."""
        self._require(isinstance(self.plain, str), "text")
        text = str(self.plain)
        self._require(len(text) >= least, "text, not empty")
        self._require(len(text) <= most, f"text of at most {most:,} characters", f"{len(text):,}")
        self._require(text.isprintable(), "text without control characters")
        return text

    def name(self) -> str:
        """A text that names something, and is no path: it may come to stand in a file's name."""
        text = self.text()
        parts = text.replace("\\", "/").split("/")
        self._require(bool(parts[0]) and not {".", ".."} & set(parts), "a name, not a path")
        return text

    def word(self, words: Collection[str]) -> str:
        """One of these words."""
        known = isinstance(self.plain, str) and self.plain in words
        self._require(known, f"one of {', '.join(words)}")
        return str(self.plain)

    def refuse(self, why: str) -> NoReturn:
        """Raise `FileError` for what is wrong with this value beyond its kind."""
        raise FileError(f"{self._name}: {why}")

    def _child(self, name: str, plain: Any) -> Field:
        return Field(plain, f"{self.place}.{name}" if self.place else name)

    @property
    def _name(self) -> str:
        return self.place or "it"

    def _require(self, holds: bool, rule: str, got: str = "") -> None:
        if not holds:
            raise FileError(f"{self._name} must be {rule}, got {got or _shown(self.plain)}")

    def _require_range(self, least: float | None, most: float | None) -> None:
        if least is not None:
            self._require(self.plain >= least, f"at least {least:g}")
        if most is not None:
            self._require(self.plain <= most, f"at most {most:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A value as messages show it; nothing long is spelled out."""
    if isinstance(value, (list, tuple, Mapping)):
        return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value):,}"
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return "a number of many digits"
    text = repr(value[: SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
