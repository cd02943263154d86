"""Layers that name the same `shared` have one set of weights, and each a decode state of its own.

This is how Zamba uses its one attention layer at many depths (Glorioso et al. 2024, arXiv:2405.16712).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from foundation.errors import IllegalArchitecture
from search_spaces.network.options.base import LayerOption


@dataclass(frozen=True)
class WeightSharing(LayerOption):
    """The `name` under which layers share their weights; the field holds the name itself."""

    not_additive: ClassVar[str] = "shares weights"
    not_relaxable: ClassVar[str] = ""

    name: str

    @classmethod
    def of(cls, value: Any) -> WeightSharing | None:
        """From the name; None shares nothing."""
        return None if value is None else cls(value)

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """A name."""
        return ("attention",)

    def check(self) -> None:
        """Raise `IllegalArchitecture` for what is no name."""
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise IllegalArchitecture(f"shared must be a name such as 'attention', got {self.name!r}")

    def __str__(self) -> str:
        return f"weights shared as {self.name!r}"
