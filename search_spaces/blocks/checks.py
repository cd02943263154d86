"""Checks that blocks share, for `Block.check`: what they raise names the block, the field and its value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block


def check_whole_numbers(block: Block, *names: str, at_least: int = 1) -> None:
    """Raise `IllegalArchitecture` unless these fields of a block are whole numbers not below `at_least`."""
    for name in names:
        value = getattr(block, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            rule = "a positive whole number" if at_least == 1 else f"a whole number of at least {at_least}"
            raise IllegalArchitecture(f"{type(block).__name__}: {name} must be {rule}, got {value!r}")


def check_even_numbers(block: Block, *names: str) -> None:
    """Raise `IllegalArchitecture` unless these numbers of channels, which are rotated in pairs, are even."""
    for name in names:
        if getattr(block, name) % 2:
            raise IllegalArchitecture(
                f"{type(block).__name__}: {name} must be even, because channels are rotated in pairs,"
                f" got {getattr(block, name)}"
            )


def check_positive_number(block: Block, name: str) -> None:
    """Raise `IllegalArchitecture` unless this field of a block is a finite number above zero."""
    value = getattr(block, name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        kind = type(block).__name__
        raise IllegalArchitecture(f"{kind}: {name} must be a positive number, got {value!r}")


def check_word(block: Block, name: str, words: Iterable[str]) -> None:
    """Raise `IllegalArchitecture` unless this field of a block is one of these words."""
    if getattr(block, name) not in words:
        raise IllegalArchitecture(
            f"{type(block).__name__}: {name} must be one of {', '.join(words)}, got {getattr(block, name)!r}"
        )


def check_flag(block: Block, name: str) -> None:
    """Raise `IllegalArchitecture` unless this field of a block is true or false."""
    if not isinstance(getattr(block, name), bool):
        raise IllegalArchitecture(
            f"{type(block).__name__}: {name} must be true or false, got {getattr(block, name)!r}"
        )


def check_equal_groups(block: Any, groups: str = "num_kv_heads") -> None:
    """Raise `IllegalArchitecture` unless the heads of a block fall into equal groups that share keys."""
    if block.num_heads % getattr(block, groups):
        raise IllegalArchitecture(
            f"{type(block).__name__}: num_heads={block.num_heads} must be a multiple of"
            f" {groups}={getattr(block, groups)}"
        )


def check_hidden(block: Any, d_model: int, name: str = "expansion") -> None:
    """Raise `IllegalArchitecture` unless `expansion` gives at least one hidden channel at this width.

    Another field may be named that is a width over d_model.
    """
    check_positive_number(block, name)
    if round(getattr(block, name) * d_model) < 1:
        raise IllegalArchitecture(
            f"{type(block).__name__}: {name}={getattr(block, name)} of d_model={d_model} must give"
            " at least one hidden channel"
        )
