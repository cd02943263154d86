"""What of a layer can be relaxed: blocks, bits, and the options that say so."""

from __future__ import annotations

from dataclasses import fields

from foundation.errors import SpaceError
from search_spaces.language.choices import join
from search_spaces.language.walk import closed_values
from search_spaces.network.decoder import OPTIONS, PLACES, Layer


def check_relaxable(layer: Layer, path: str) -> None:
    """Raise `SpaceError` where a layer, open inside, may have an option that cannot be relaxed."""
    for part in fields(layer):
        value, where = getattr(layer, part.name), join(path, part.name)
        kind = OPTIONS.get(part.name)
        if kind is None:
            if part.name not in (*PLACES, "bits") and value != part.default:
                raise SpaceError(f"{where} cannot be relaxed")
        elif kind.not_relaxable and any(kind.of(v) is not None for v in closed_values(value)):
            raise SpaceError(
                f"{where}: {kind.not_relaxable}; search it with an engine that reads one architecture"
                " at a time"
            )
