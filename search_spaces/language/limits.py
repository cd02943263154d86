"""How large a configuration may be, open or closed: limits far above any language model.

A tree of a few hundred bytes can stand for gigabytes (`repeat`, which shares its part), and what walks a tree
visits every copy. So copies and options are counted before they are made, and values before they are walked.
"""

from __future__ import annotations

import math
from typing import Any

from foundation.errors import SpaceError
from search_spaces.language.choices import OneOf
from search_spaces.language.walk import children

MOST_VALUES = 2**18
"""Values, options and parts in a tree, every copy of a repeated part counted."""

MOST_LEVELS = 64
"""Parts inside each other."""

LARGEST_NUMBER = 2**40
"""The largest magnitude of a number in a configuration that is read."""


def count_values(node: Any) -> int:
    """The values in an open or closed tree, every copy of a repeated part counted; each part is visited once.

    Raises:
        SpaceError: it has more than `MOST_LEVELS` levels.
    """
    return _count(node, {}, MOST_LEVELS)


def check_values(node: Any) -> None:
    """Raise `SpaceError` where a tree has more than `MOST_VALUES` values, or `MOST_LEVELS` levels."""
    check_count(count_values(node))


def check_count(values: int) -> None:
    """Raise `SpaceError` for more than `MOST_VALUES` values."""
    if values > MOST_VALUES:
        raise SpaceError(f"too large: {values:,} values, repeated parts counted, and at most {MOST_VALUES:,}")


def check_levels(left: int) -> None:
    """Raise `SpaceError` where no level is left."""
    if left <= 0:
        raise SpaceError(f"nested too deep: more than {MOST_LEVELS} levels")


def check_number(value: float) -> None:
    """Raise `SpaceError` for a number that no configuration needs: not finite, or beyond `LARGEST_NUMBER`."""
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise SpaceError(f"a number must be finite and within ±2^40, got {value:.6g}")


def _count(node: Any, counted: dict[int, int], left: int) -> int:
    key = id(node)
    if key not in counted:
        check_levels(left)
        check_count(len(node) if isinstance(node, tuple) else 0)
        parts = node.options if isinstance(node, OneOf) else [part for _, part in children(node)]
        counted[key] = 1 + sum(_count(part, counted, left - 1) for part in parts)
    return counted[key]
