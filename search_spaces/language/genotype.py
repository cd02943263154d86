"""A genotype: the answers that turn a space into one architecture, and its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Label: TypeAlias = "str | int | float | bool | None"
"""What tells the options of an open value apart: a plain value, or the name of a branch."""


@dataclass(frozen=True, eq=False)
class Genotype:
    """Answers by path: hashable, printable, storable.

    A genotype that came from `draw` is canonical: it holds the questions that were asked, and no others. So
    equal architectures of one space have equal genotypes, and equal digests on every machine.
    """

    genes: Mapping[str, Label]

    @cached_property
    def digest(self) -> str:
        """The architecture's name: 12 hex digits of the SHA-256 of the sorted JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Compact JSON with sorted paths."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return json.dumps(dict(self.genes), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """The genotype written by `to_json`."""
        return cls(json.loads(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Genotype) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.digest)
