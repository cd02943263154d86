"""A layer whose two sublayers read the same x, instead of one after the other.

    x = x + sequence_mixer(norm(x)) + channel_mixer(norm'(x))

GPT-J and GPT-NeoX (Black et al. 2022, arXiv:2204.06745), PaLM, Falcon, Phi. Each half has a norm of its own;
where a model has one for both, they are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from foundation.errors import IllegalArchitecture
from search_spaces.network.options.base import LayerOption


@dataclass(frozen=True)
class ParallelHalves(LayerOption):
    """The field holds whether the layer's halves stand side by side."""

    not_additive: ClassVar[str] = "has its halves side by side"
    not_relaxable: ClassVar[str] = ""

    @classmethod
    def of(cls, value: Any) -> ParallelHalves | None:
        """From true; with false they stand one after the other.

        Raises:
            IllegalArchitecture: neither true nor false.
        """
        if not isinstance(value, bool):
            raise IllegalArchitecture(f"parallel must be true or false, got {value!r}")
        return cls() if value else None

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """True."""
        return (True,)

    def __str__(self) -> str:
        return "halves side by side"
