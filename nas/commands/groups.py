"""The headings of `nas --help`, in their order: what one does with the commands under each."""

from __future__ import annotations

from typing import Any

SEARCH, RESULTS, MODELS, MACHINES, CATALOGUE = GROUPS = (
    "Search",
    "Results",
    "Models",
    "Machines",
    "What there is",
)


def place(group: Any) -> int:
    """The place of a heading among the others; unknown ones come last."""
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)
