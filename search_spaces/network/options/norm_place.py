"""A layer whose sublayers have their norm at another place than those of the rest of the network.

OLMo hybrid (Ai2 2026): behind attention, as in OLMo 2, and in front of delta nets. The norm itself is that of
the network, and so is its place in front of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from foundation.errors import IllegalArchitecture
from search_spaces.network.norms.base import NORM_PLACES
from search_spaces.network.options.base import LayerOption


@dataclass(frozen=True)
class NormPlace(LayerOption):
    """The field holds the `place`: before, after or both, as in `Norm.place`."""

    place: str

    not_additive: ClassVar[str] = ""
    not_relaxable: ClassVar[str] = "a place of the norm for one layer is not mixed with others"

    @classmethod
    def of(cls, value: Any) -> NormPlace | None:
        """From the name of a place; with None it is that of the network.

        Raises:
            IllegalArchitecture: it is no place.
        """
        if value is None:
            return None
        if value not in NORM_PLACES:
            raise IllegalArchitecture(
                f"norm_place must be one of {', '.join(NORM_PLACES)} or None, got {value!r}"
            )
        return cls(value)

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """All places."""
        return NORM_PLACES

    def __str__(self) -> str:
        return {"before": "norm in front", "after": "norm behind", "both": "norms around"}[self.place]
