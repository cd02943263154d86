"""One forward pass for several sizes of a block: the largest, its parameters under a soft mask.

Sizes are leading slices. A block of which some parameters are zero beyond a slice often computes what the
smaller block computes; then one pass at the largest size with the parameters

    W = sum over sizes s of q_s (W masked to the slice of s)

is a mixture of all of them. Where zeros are not enough (experts under a softmax, grouped heads, a window),
the sizes get passes of their own and their outputs are mixed. See `mixture.stand_ins` for which is the case.

Bits are mixed by weights too: sum over formats b of r_b round_b(W). Rounding goes by rows of the last axis,
so each last width is rounded by itself, as its slice would be.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.base import Mixed
from search_spaces.mixture.mixed_norms import Use, WeightedNorms, mixed_norm
from search_spaces.mixture.stand_ins import Variant
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.norms.base import Norm
from search_spaces.quantization.activations import RoundedActivations
from search_spaces.quantization.bits import WeightFormat, is_matrix
from search_spaces.quantization.rounding import round_to_bits

Index: TypeAlias = tuple[slice, ...]

Memo: TypeAlias = MutableMapping[Any, Tensor]
"""Rounded weights, kept while the shared parameters do not change."""


@dataclass(frozen=True)
class Shared:
    """The supernet's parameters by key, read in slices.

    A `shift` is added after rounding, so that a small step of the weights does what their straight-through
    gradients say, and is not lost between two codes.
    """

    weights: Mapping[str, Tensor]
    shift: Mapping[str, Tensor] | None = None
    memo: Memo | None = None

    def plain(self, key: str, index: Index) -> Tensor:
        """A slice as it is."""
        view = self.weights[key][index]
        return view if self.shift is None else view + self.shift[key][index]

    def rounded(self, key: str, index: Index, stored: WeightFormat) -> Tensor:
        """A slice as it is stored; as it is where it is no matrix."""
        view = self.weights[key][index]
        if not is_matrix(tuple(view.shape)):
            return self.plain(key, index)
        if self.memo is None:
            values = round_to_bits(view, stored)
        else:
            name = (key, tuple(view.shape), stored)
            if name not in self.memo:
                self.memo[name] = round_to_bits(view.detach(), stored)
            values = self.memo[name]
        return values if self.shift is None else values + self.shift[key][index]


@dataclass(frozen=True)
class Widths:
    """The sizes of a parameter that agree in the last axis: whose, and what they cover of the rest."""

    last: int
    members: tuple[int, ...]
    covered: Tensor | None  # [members, leading axes]; None where all cover everything


class SoftParameter:
    """One parameter of a carrier: a leading slice of the supernet's `key` under a soft mask.

    An `exact` one is stored in 32 bits, whatever the formats.
    """

    def __init__(self, key: str, shapes: Sequence[tuple[int, ...]], *, exact: bool = False) -> None:
        self.key, self.shape, self.exact = key, shapes[0], exact
        self.index = tuple(map(slice, self.shape))
        self.widths: list[Widths] = []
        for last in dict.fromkeys(shape[-1] for shape in shapes if shape):
            members = tuple(i for i, shape in enumerate(shapes) if shape[-1] == last)
            covered = torch.zeros(len(members), *self.shape[:-1])
            for row, i in enumerate(members):
                covered[row][tuple(slice(size) for size in shapes[i][:-1])] = 1.0
            self.widths.append(Widths(last, members, None if bool(covered.all()) else covered))

    def value(self, shared: Shared, sizes: Weighted, formats: Sequence[Format]) -> Tensor:
        """The mixture over sizes, of the mixture over formats."""
        if len(sizes.values) == 1:
            return self._rounded(shared, self.index, formats)
        mixed: Tensor | None = None
        for width in self.widths:
            if not any(sizes.values[i] for i in width.members):
                continue
            chances = sizes.tensor[list(width.members)]
            term = self._rounded(shared, (*self.index[:-1], slice(width.last)), formats)
            if width.covered is None:
                term = chances.sum() * term
            else:
                mask = torch.tensordot(chances, width.covered.to(chances), 1)
                term = mask.unsqueeze(-1) * term
            term = F.pad(term, (0, self.shape[-1] - width.last))
            mixed = term if mixed is None else mixed + term
        assert mixed is not None
        return mixed

    def _rounded(self, shared: Shared, index: Index, formats: Sequence[Format]) -> Tensor:
        if self.exact:
            return shared.plain(self.key, index)
        if len(formats) == 1:
            return shared.rounded(self.key, index, formats[0].stored)
        kept = [f for f in formats if f.value]
        return torch.stack([f.chance * shared.rounded(self.key, index, f.stored) for f in kept]).sum(0)


@dataclass(frozen=True)
class Weighted:
    """Weights as a tensor, and as plain numbers, by which what weighs nothing is left out."""

    tensor: Tensor
    values: list[float]


@dataclass(frozen=True)
class Format:
    """A format of weights with its share."""

    stored: WeightFormat
    chance: Tensor
    value: float


class Carrier:
    """A block at its largest size, which carries the sizes of `variants` that it can stand in for."""

    def __init__(self, site: str, variants: Sequence[Variant], rounding: str) -> None:
        self.block, self.d_model = variants[0]
        self.variants, self.rounding = tuple(variants), rounding
        with torch.device("meta"):
            self.module = self.block.build(self.d_model)
        self.site = site
        shapes = [parameter_shapes(*variant) for variant in variants]
        self.parameters = {
            name: SoftParameter(
                f"{site}.mixer.{name}",
                [shape[name] for shape in shapes],
                exact=self.block.stays_exact(name),
            )
            for name in shapes[0]
        }
        self.slots: list[tuple[dict[str, Any], str, Any, str]] = []
        for path in self.parameters:
            owner, _, name = path.rpartition(".")
            holder: dict[str, Any] = self.module.get_submodule(owner)._parameters
            self.slots.append((holder, name, holder[name], path))
        self.width_members = {
            d_model: [i for i, (_, d) in enumerate(self.variants) if d == d_model]
            for d_model in dict.fromkeys(d for _, d in self.variants)
        }

    def weights(self, shared: Shared, sizes: Weighted, formats: Sequence[Format]) -> dict[str, Tensor]:
        """The parameters of the module."""
        return {name: soft.value(shared, sizes, formats) for name, soft in self.parameters.items()}

    def entered(self, x: Tensor, shared: Shared, sizes: Weighted, norms: WeightedNorms) -> Tensor:
        """What the mixer reads of x [B, T, D], mixed over norms and widths: [B, T, largest width]."""
        return self._mixed(x, shared, sizes, norms, Norm.enter)

    def left(self, y: Tensor, shared: Shared, sizes: Weighted, norms: WeightedNorms) -> Tensor:
        """What the sublayer adds of what its mixer puts out [B, T, largest width], mixed in the same way."""
        if all(norm.leaves_alone for norm, _ in norms):
            return y
        return self._mixed(y, shared, sizes, norms, Norm.leave)

    def _mixed(self, x: Tensor, shared: Shared, sizes: Weighted, norms: WeightedNorms, use: Use) -> Tensor:
        widths: list[tuple[int, Tensor | None]] = [
            (d_model, sizes.tensor[members].sum() if len(self.width_members) > 1 else None)
            for d_model, members in self.width_members.items()
            if len(self.width_members) == 1 or any(sizes.values[i] for i in members)
        ]

        def vector(name: str) -> Tensor:
            return shared.plain(f"{self.site}.{name}", ())

        return mixed_norm(x, norms, widths, vector=vector, padded_to=self.d_model, use=use)

    def __call__(self, x: Tensor, weights: Mapping[str, Tensor]) -> Mixed:
        """The module's output on x [B, T, D] with these parameters."""
        with self._lent(weights), RoundedActivations(self.rounding) if self.rounding else nullcontext():
            mixed: Mixed = self.module(x)
        return mixed

    @contextmanager
    def _lent(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        try:
            for holder, name, _, path in self.slots:
                holder[name] = weights[path]
            yield
        finally:
            for holder, name, empty, _ in self.slots:
                holder[name] = empty
