"""Matrices of what may stand in a parent: made of its weights, and rounded for the inputs that they meet.

Each block that may stand at a place is read on what the parent's block reads there, on calibration text; the
second moments of its matrices' inputs are collected; and its matrices are rounded to every format that the
space has, each by itself. So what is chosen at one place does not change what was prepared for another.

Shapes: W windows, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.compression.calibration import Moments, moments_while, tiled
from evaluators.compression.gptq import DAMP, gptq_at_each, unsupported
from evaluators.trained_parent.reductions import is_reduced, reduced
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
def prepared_at(supernet: Supernet, site: Site, damp: float = DAMP) -> Prepared:
    """The matrices of all that may stand at a place, at each of its formats.

    Left out, and so read as leading slices to nearest, is what keeps 16 bits and the parent's own weights,
    formats that GPTQ does not know, and matrices whose inputs cannot be seen.
    """
    prepared: Prepared = {}
    for sublayer, formats in _formats(site.alternatives).items():
        read = _Read(supernet, sublayer, site)
        changed: dict[str, Tensor] = {}
        if is_reduced(site.own.block, sublayer.block):
            own = _Read(supernet, replace(site.own, bits=Bits()), site)
            changed = reduced(sublayer.block, own.by_own_name, own.moment_of_output, damp)  # type: ignore[arg-type]
        wanted = {
            name: [
                f for f in formats if (*where, f) not in prepared and (name in changed or not unsupported(f))
            ]
            for name, where in read.matrices.items()
        }
        if not any(wanted.values()):
            continue
        read.change(changed)
        for name, some in wanted.items():
            prepared |= {
                (*read.matrices[name], stored): packed for stored, packed in read.packed(name, some, damp)
            }
    return prepared


class _Read:
    """A block as it is read at a place: its weights by name, and the moments of their inputs."""

    def __init__(self, supernet: Supernet, sublayer: Sublayer, site: Site) -> None:
        self.borrowed, self.site = BorrowedSublayer(supernet, sublayer), site
        bindings = self.borrowed.bindings
        self.weights = {
            name: supernet.weights[key][leading(shape)].detach().clone()
            for name, (key, shape, _) in bindings.items()
        }
        names = {name: name.rpartition(".")[2] for name, (_, _, bits) in bindings.items() if bits}
        self.matrices = {own: bindings[name][:2] for name, own in names.items()}
        self._full = {own: name for name, own in names.items()}

    @property
    def by_own_name(self) -> dict[str, Tensor]:
        """The matrices by the names that they have in the block."""
        return {own: self.weights[name] for own, name in self._full.items()}

    def change(self, matrices: Mapping[str, Tensor]) -> None:
        """Take these values, by the names that they have in the block."""
        self.weights |= {self._full[own]: values.contiguous() for own, values in matrices.items()}

    @cached_property
    def moments(self) -> Moments:
        """Of the inputs of the matrices, by the names that they have in the block."""
        run = partial(_read, self.borrowed, self.site.inputs, self.site.embedding, self.weights)
        return moments_while(run, self.by_own_name)

    def moment_of_output(self) -> Tensor:
        """Of what the output matrix `down` multiplies."""
        [moment] = self.moments["down"].values()
        return moment

    def packed(
        self, name: str, formats: Sequence[WeightFormat], damp: float
    ) -> Iterator[tuple[WeightFormat, dict[str, Tensor]]]:
        """A matrix in the stored form of each format: by GPTQ where that can be, else to nearest."""
        weight, rounded = self.by_own_name[name], [f for f in formats if not unsupported(f)]
        parts = self.moments.get(name, {}) if rounded else {}
        if tiled(weight, parts):
            for stored, values in gptq_at_each(weight, parts, rounded, damp).items():
                yield stored, pack(values, stored)
        else:
            rounded = []
        yield from ((stored, pack(weight, stored)) for stored in formats if stored not in rounded)


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
        if sublayer.d_model == parent.d_model and sublayer.norm.is_like(parent.norm):
            found.setdefault(sublayer.path, []).append(sublayer)
    return found


def _formats(sublayers: Sequence[Sublayer]) -> dict[Sublayer, list[WeightFormat]]:
    """By sublayer at 16 bits, the formats that it may have."""
    found: dict[Sublayer, list[WeightFormat]] = {}
    for sublayer in sublayers:
        formats = found.setdefault(replace(sublayer, bits=Bits()), [])
        if sublayer.bits.stored not in formats:
            formats.append(sublayer.bits.stored)
    return found
