"""How large a configuration may be, open or closed: limits far above any language model.

A tree of a few hundred bytes can stand for gigabytes (`repeat`, which shares its part), and what walks a tree
visits every copy. So copies and options are counted before they are made, and values before they are walked.
"""

from __future__ import annotations

import math
from typing import Any

from foundation.errors import SpaceError
from foundation.text import shown
from search_spaces.language.choices import OneOf
from search_spaces.language.walk import children

MOST_VALUES = 2**18
"""Values, options and parts in a tree, every copy of a repeated part counted."""

MOST_LEVELS = 64
"""Parts inside each other."""

LONGEST_NAME = 200
"""Characters of a space's name."""

LARGEST_NUMBER = 2**40
"""The largest magnitude of a number in a configuration."""


def count_values(node: Any) -> int:
    """The values in an open or closed tree, every copy of a repeated part counted; each part is visited once.

    Raises:
        SpaceError: it has more than `MOST_LEVELS` levels.
    """
    return _count(node, {}, MOST_LEVELS)


def check_values(node: Any) -> None:
    """Raise `SpaceError` for more than `MOST_VALUES` values or `MOST_LEVELS` levels, or what is never read.

    That are numbers beyond `LARGEST_NUMBER` and halves of characters, which could be written all the same.
    """
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
    if abs(value) > LARGEST_NUMBER or not math.isfinite(value):
        shown = (
            f"{value:.6g}"
            if abs(value) < 2**1000 or isinstance(value, float)
            else "one of hundreds of digits"
        )
        raise SpaceError(f"a number must be finite and within ±2^40, got {shown}")


def check_text(text: str) -> None:
    """Raise `SpaceError` for text that no file holds."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SpaceError(f"text must be Unicode, got half of a character: {text[error.start]!a}") from None


def check_name(name: Any) -> None:
    """Raise `SpaceError` where a space's name is not a line of printable text, as tables hold it."""
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise SpaceError(
            f"the name of a space is printable text of at most {LONGEST_NAME} characters, got {shown(name)}"
        )


def _check_leaf(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, (int, float)):
        check_number(value)


def _count(node: Any, counted: dict[int, int], left: int) -> int:
    key = id(node)
    if key not in counted:
        check_levels(left)
        check_count(len(node) if isinstance(node, tuple) else 0)
        _check_leaf(node)
        parts = node.options if isinstance(node, OneOf) else [part for _, part in children(node)]
        counted[key] = 1 + sum(_count(part, counted, left - 1) for part in parts)
    return counted[key]
