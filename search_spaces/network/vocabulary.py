"""Spaces with another vocabulary than they were written for: a tokenizer decides how many tokens exist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from foundation.errors import SettingError
from foundation.wording import argument
from search_spaces.language.choices import OneOf
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder


def with_vocab(space: Space, vocab: int | None) -> Space:
    """The space whose networks have so many tokens; itself without a number.

    Raises:
        SettingError: it is no space of decoders.
    """
    if vocab is None:
        return space
    root = _sized(space.root, vocab)
    return Space(root, constraints=space.constraints, name=space.name, defaults=space.defaults)


def _sized(root: Any, vocab: int) -> Any:
    if isinstance(root, OneOf):
        return replace(root, options=tuple(_sized(option, vocab) for option in root.options))
    if not isinstance(root, Decoder):
        raise SettingError(f"{argument('vocab', vocab)} needs a space of Decoder")
    return replace(root, vocab=vocab)
