"""Which spaces can be mixed at all: found from the space alone, before anything is trained."""

from __future__ import annotations

from dataclasses import fields

from foundation.errors import SpaceError
from search_spaces.language.choices import OneOf, join
from search_spaces.language.space import Space
from search_spaces.language.walk import closed_values, open_values
from search_spaces.network.decoder import OPTIONS, PLACES, Layer
from search_spaces.network.sublayers import OpenDecoder, OpenLayer, decoders_in

BITS = ("bits", "channel_bits")
"""The fields of a layer that hold bits."""


def check_space(space: Space) -> None:
    """Raise `SpaceError`, naming a gene by its path, where a mixture over a space does not exist."""
    decoders = list(decoders_in(space.root))
    for decoder in decoders:
        _check_shell(decoder, decoders[0])
        for layer in decoder.layers():
            check_relaxable(layer.layer, layer.path)
            _check_genes(decoder, layer)


def _check_shell(decoder: OpenDecoder, first: OpenDecoder) -> None:
    for name, what in (("norm", "norms"), ("embedding", "embeddings"), ("head", "heads")):
        if any(choice.name for _, choice in open_values(getattr(decoder.decoder, name))):
            where = join(decoder.path, name)
            raise SpaceError(f"{where}: a choice of {what} with a shared name cannot be mixed")
    if isinstance(decoder.decoder.vocab, OneOf) or decoder.decoder.vocab != first.decoder.vocab:
        where = join(decoder.path, "vocab")
        raise SpaceError(f"{where}: vocabularies of different sizes cannot be mixed")


def check_relaxable(layer: Layer, path: str) -> None:
    """Raise `SpaceError` where a layer, open inside, may have an option that cannot be relaxed."""
    for part in fields(layer):
        value, where = getattr(layer, part.name), join(path, part.name)
        kind = OPTIONS.get(part.name)
        if kind is None:
            if part.name not in (*PLACES, *BITS) and value != part.default:
                raise SpaceError(f"{where} cannot be relaxed")
        elif kind.not_relaxable and any(kind.of(v) is not None for v in closed_values(value)):
            raise SpaceError(
                f"{where}: {kind.not_relaxable}; search it with an engine that reads one architecture"
                " at a time"
            )


def _check_genes(decoder: OpenDecoder, layer: OpenLayer) -> None:
    """A layer's place and options, its blocks at their widths, and its bits are mixed one by one."""
    fields = ("shared", "routing", "parallel")
    outer = {*layer.condition, *(gene for field in fields for gene in _genes(layer, field))}
    widths = {path for d in decoder.closings("d_model") for path in d.condition}
    for place in PLACES:
        bits = {path for closing in layer.bits_at(place) for path in closing.condition}
        blocks = [closing for closing in layer.closings(place) if closing.value is not None]
        inner = {path for closing in blocks for path in closing.condition} | (widths if blocks else set())
        common = sorted((outer & inner) | (outer & bits) | (inner & bits))
        if common:
            raise SpaceError(
                f"{layer.path}: the gene {common[0]!r} decides two things of one layer that are mixed one by"
                " one (its place, its blocks, its bits); give them a choice each"
            )


def _genes(layer: OpenLayer, field: str) -> set[str]:
    """The genes that decide the value of a field."""
    return {path for closing in layer.closings(field) for path in closing.condition}
