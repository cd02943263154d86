"""Weights of few bits that a runtime multiplies as integers: which those are, and their codes and scales.

    few = few_bits_of(model, kernels)                # by parameter of the network
    integers = integers_of(rows, parameter, how)     # of the matrix [N, K] that a product multiplies by

Codes and scales are those of `quantization.packing`. What is not multiplied as a matrix stays in floating
point.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from search_spaces.network.model import Model
from search_spaces.network.weight_formats import bits_of, weight_bits
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.kernels import Factors, factors_of
from search_spaces.quantization.packing import SCALE_SUFFIX, pack, unpack_codes


class FewBits(NamedTuple):
    """How a parameter is stored, and the bits of what it is multiplied with."""

    stored: WeightFormat
    activation: int


Few: TypeAlias = Mapping[str, FewBits]
"""The parameters of a network that are to be integers, by name."""


def few_bits_of(model: Model, kernels: frozenset[Factors]) -> dict[str, FewBits]:
    """The parameters of a network whose bits have one of these kernels."""
    return {
        name: FewBits(stored, bits_of(model, name).activation)
        for name, stored in weight_bits(model).items()
        if stored is not None and factors_of(bits_of(model, name)) in kernels
    }


class Integers(NamedTuple):
    """A matrix [N, K] as int8 codes [N, K], and scales [N, groups] of `group` values in a row."""

    codes: Tensor
    scales: Tensor
    group: int

    @property
    def width(self) -> int:
        """K."""
        return self.codes.shape[-1]

    def scales_of(self, block: int) -> Tensor:
        """Scales [N, blocks] in float32 of blocks that do not cross groups; the last may reach beyond K."""
        first = torch.arange(-(-self.width // block)) * block // self.group  # the group that a block lies in
        return self.scales.float()[:, first].contiguous()


def integers_of(rows: Tensor, width: int, stored: WeightFormat) -> Integers | None:
    """The integers of a matrix [N, K], made of whole rows of a parameter, which have this width.

    None where it is no such matrix: several rows in one can only be where each is made of whole groups.
    """
    if rows.ndim != 2 or rows.shape[-1] % width:
        return None
    group = stored.span(width)
    if rows.shape[-1] != width and width % group:
        return None
    stored = stored._replace(group=group)
    packed = pack(rows, stored)
    return Integers(unpack_codes(packed, stored, rows.shape[-1]), packed[SCALE_SUFFIX], group)
