"""What an engine itself predicted of networks, against what came out.

Each engine makes its own claims (`Engine.claims`), from what it left on the study's record and in its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.validation.agreement import Agreement, Pair, agreement
from nas.validation.errors import NothingToCompare


@dataclass(frozen=True, kw_only=True)
class Claims:
    """By what an engine chose (`by`), how that agrees with what came out, and further remarks."""

    engine: str
    by: str
    agreements: tuple[tuple[str, Agreement], ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; of each agreement the pairs are left out."""
        agreements = [
            {"against": against, **found.ranking(), "networks": len(found.pairs)}
            for against, found in self.agreements
        ]
        return {
            "engine": self.engine,
            "by": self.by,
            "agreements": agreements,
            "remarks": list(self.remarks),
        }


def agreements_of(sides: Sequence[tuple[str, Sequence[Pair]]]) -> tuple[tuple[str, Agreement], ...]:
    """By what it is compared with, the agreement of each side that has enough networks, which differ."""
    agreements = []
    for against, pairs in sides:
        try:
            agreements.append((against, agreement(pairs)))
        except NothingToCompare:
            continue
    return tuple(agreements)
