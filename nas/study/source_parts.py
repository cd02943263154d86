"""What a Python program gives to its study: classes, objectives and rules by their places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foundation.fields import Field


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Of a program's parts, each as `FILE.py:NAME`: classes and objectives by name, the rules in their order.

    `registered` is what the study names, such as a strategy, without a name where a statement of its own
    registers it. Of `script`, the program itself, only the definitions belong to the source.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    script: str = ""

    @property
    def files(self) -> list[str]:
        """The files that define them, the script last: it imports the others."""
        files = {place.partition(":")[0] for place in self._places}
        return sorted(files, key=lambda file: (file == self.script, file))

    def names_in(self, file: str) -> list[str]:
        """What a file defines of them, by its names at the top of the file."""
        found = [name for at, _, name in (place.partition(":") for place in self._places) if at == file]
        return sorted({name.partition(".")[0] for name in found if name})

    @property
    def _places(self) -> list[str]:
        return [*self.kinds.values(), *self.functions.values(), *self.constraints, *self.registered]

    def to_plain(self) -> dict[str, Any]:
        """What a record says of them."""
        return {
            "kinds": dict(sorted(self.kinds.items())),
            "functions": dict(self.functions),
            "constraints": list(self.constraints),
            "registered": list(self.registered),
            "script": self.script,
        }

    @classmethod
    def from_plain(cls, record: Field, files: Iterable[str]) -> Parts:
        """The same as on record, which may be somebody else's; its files are among these.

        Raises:
            FileError: it is malformed.
        """
        known = set(files)
        parts = cls(
            kinds={name: place.text() for name, place in record["kinds"].items()},
            functions={name: place.text() for name, place in record["functions"].items()},
            constraints=tuple(place.text() for place in record["constraints"].entries()),
            registered=tuple(place.text() for place in record["registered"].entries()),
            script=record["script"].text(least=0),
        )
        if foreign := sorted(set(parts.files) - known):
            record.refuse(f"{foreign[0]!r} is none of the files")
        return parts
