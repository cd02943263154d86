"""Matrices of what may stand in a parent, rounded by GPTQ for the inputs that they meet there.

Each block that may stand at a place is read on what the parent's block reads there, on calibration text; the
second moments of its matrices' inputs are collected; and its matrices are rounded to every format that the
space has, each by itself. So what is chosen at one place does not change what was prepared for another.

Shapes: W windows, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.compression.calibration import moments_while, tiled
from evaluators.compression.gptq import DAMP, gptq_at_each, unsupported
from search_spaces.network.decoder import Decoder
from search_spaces.network.sublayers import Sublayer, sublayers_in, sublayers_of
from search_spaces.quantization.bits import Bits, WeightFormat
from search_spaces.quantization.packing import pack
from search_spaces.supernet import Supernet
from search_spaces.supernet.weights import Slice, leading

AT_ONCE = 8
"""Windows that are read at once."""

Prepared = dict[Slice, Mapping[str, Tensor]]
"""Slices in their stored form."""


@dataclass(frozen=True)
class Site:
    """A place of the parent: its own sublayer, what it reads [W, T, D], and what may stand there."""

    own: Sublayer
    inputs: Tensor
    embedding: Tensor
    alternatives: Sequence[Sublayer]


@torch.no_grad()
def sites_of(supernet: Supernet, parent: Decoder, tokens: Tensor) -> Iterator[Site]:
    """The places of a parent where a block stands, in their order, as it reads tokens [W, T].

    The parent is read at 16 bits; what is changed in the supernet before the next place is asked for does not
    change what that reads.
    """
    alternatives = _by_path(supernet, parent)
    embedding = parent.shell.embed(tokens, parent.shell.sliced(supernet.weights))
    x = embedding
    for own in sublayers_of(parent):
        if own.block is None:
            continue
        yield Site(own, x, embedding, alternatives.get(own.path, ()))
        borrowed = BorrowedSublayer(supernet, replace(own, bits=Bits()))
        x = _read(borrowed, x, embedding, borrowed.weights())


@torch.no_grad()
def rounded_at(supernet: Supernet, site: Site, damp: float = DAMP) -> Prepared:
    """The matrices of all that may stand at a place, at each of its formats.

    Left out, and so rounded to nearest, are formats that GPTQ does not know and matrices whose inputs cannot
    be seen.
    """
    prepared: Prepared = {}
    for sublayer, formats in _formats(site.alternatives).items():
        borrowed = BorrowedSublayer(supernet, sublayer)
        matrices = {name: (key, shape) for name, (key, shape, bits) in borrowed.bindings.items() if bits}
        missing = {
            name: (where, [stored for stored in formats if (*where, stored) not in prepared])
            for name, where in matrices.items()
        }
        if not any(wanted for _, wanted in missing.values()):
            continue
        weights = {
            name: supernet.weights[key][leading(shape)].detach().clone()
            for name, (key, shape, _) in borrowed.bindings.items()
        }
        run = partial(_read, borrowed, site.inputs, site.embedding, weights)
        moments = moments_while(run, {name: weights[name] for name in matrices})
        for name, (where, wanted) in missing.items():
            parts = moments.get(name, {})
            if wanted and tiled(weights[name], parts):
                for stored, values in gptq_at_each(weights[name], parts, wanted, damp).items():
                    prepared[*where, stored] = pack(values, stored)
    return prepared


def _read(borrowed: BorrowedSublayer, x: Tensor, embedding: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """x [W, T, D] behind a sublayer, some windows at a time."""
    pieces = zip(x.split(AT_ONCE), embedding.split(AT_ONCE), strict=True)
    return torch.cat([borrowed(some, embedded, weights).y for some, embedded in pieces])


def _by_path(supernet: Supernet, parent: Decoder) -> dict[str, list[Sublayer]]:
    """What may stand at each place at the parent's width, behind its norm."""
    found: dict[str, list[Sublayer]] = {}
    for sublayer in sublayers_in(supernet.space):
        if sublayer.block is None or sublayer.site is None:
            continue
        if sublayer.d_model == parent.d_model and sublayer.norm == parent.norm:
            found.setdefault(sublayer.path, []).append(sublayer)
    return found


def _formats(sublayers: Sequence[Sublayer]) -> dict[Sublayer, list[WeightFormat]]:
    """By sublayer at 16 bits, the formats that it may have and that GPTQ knows."""
    found: dict[Sublayer, list[WeightFormat]] = {}
    for sublayer in sublayers:
        formats = found.setdefault(replace(sublayer, bits=Bits()), [])
        if not unsupported(sublayer.bits.stored) and sublayer.bits.stored not in formats:
            formats.append(sublayer.bits.stored)
    return {sublayer: formats for sublayer, formats in found.items() if formats}
