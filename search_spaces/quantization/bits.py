"""Bits of weights, activations and decode state of a layer: what may be chosen, and the bytes it takes.

Weights. A matrix (last axis of at least 8; the last axis is the input axis by contract) is cut into groups of
`group` values along its last axis, each with one bfloat16 scale s and codes c; the values are s * c:

    8, 6, 4   c from -t to t, t = 2^(bits-1) - 1;  s = largest / t
    3, 2      c from -2^(bits-1) to 2^(bits-1) - 1;  s is the best of a short list of ratios to the largest
              value, by squared error, and has the sign that gives the largest value the longer side
    1.58      c in -1, 0, 1;  s = mean |w|  (BitNet b1.58, Ma et al. 2024, arXiv:2402.17764)

16 bits is bfloat16. Vectors and short convolutions are small and stay in 32 bits. With `numbers="float"` 8
bits are float8 (e4m3: 4 bits of exponent, 3 of mantissa; Micikevicius et al. 2022, arXiv:2209.05433) instead
of integers: one scale for each row, s = largest / 448, as hardware multiplies them.

`rounding` rounds weights to these values for training and search, `packing` stores them in an exported model,
`activations` rounds activations, `decode_state` stores the decode state, `kernels` runs packed weights.
Blocks need no code for any of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, StateShape
from search_spaces.language.serialization import parts

TERNARY = 1.58
WEIGHT_BITS = (16, 8, 6, 4, 3, 2, TERNARY)
ACTIVATION_BITS = (16, 8)
STATE_BITS = (16, 8, 4)
GROUPS = tuple(2**power for power in range(5, 17))
NUMBERS = ("int", "float")
FLOAT8, FLOAT8_LARGEST = torch.float8_e4m3fn, 448.0
LEAST_INPUTS = 8
"""The last axis of a matrix, at least, that is stored at the layer's bits."""

EXACT_BYTES = 4
"""Of a value that is not stored at the layer's bits."""

TRITS = 5
"""Ternary codes in a byte: 3^5 = 243."""


class WeightFormat(NamedTuple):
    """How the weights of a layer are stored: bits per weight, how many share a scale, and what 8 bits are."""

    bits: float = 16
    group: int = 64
    numbers: str = "int"

    @property
    def is_float8(self) -> bool:
        """Whether the codes are float8, with one scale for each row."""
        return self.bits == 8 and self.numbers == "float"

    def span(self, width: int) -> int:
        """How many values of a row of this width share a scale; the last ones may be fewer."""
        return width if self.is_float8 else min(self.group, width)


@parts.add
@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits per weight, per activation and per value of the decode state, for one layer.

    `group` weights share a scale; where a row is shorter, the row has one. A weight of 1.58 bits is -1, 0 or
    1 times its scale. With `numbers="float"` weights and activations of 8 bits are float8, a row of weights
    and a token each with one scale.
    """

    weight: float = 16
    activation: int = 16
    state: int = 16
    group: int = 64
    numbers: str = "int"

    def check(self) -> None:
        """Raise `IllegalArchitecture` for a width without a format."""
        for name, legal in (
            ("weight", WEIGHT_BITS),
            ("activation", ACTIVATION_BITS),
            ("state", STATE_BITS),
            ("group", GROUPS),
            ("numbers", NUMBERS),
        ):
            value = getattr(self, name)
            if value not in legal:
                what = "numbers" if name == "numbers" else "widths"
                raise IllegalArchitecture(f"Bits({name}={value!r}): known {what} are {legal}")
        if self.numbers == "float" and (
            self.weight not in (8, 16) or 8 not in (self.weight, self.activation) or self.group != Bits.group
        ):
            raise IllegalArchitecture(
                f"{self!r}: float8 is for weights or activations of 8 bits, beside 16, and has a scale for"
                " each row: otherwise use numbers='int', and do not set group"
            )

    @property
    def stored(self) -> WeightFormat:
        """The format of the weights."""
        return WeightFormat(self.weight, self.group, self.numbers if self.weight == 8 else "int")

    @property
    def rounding(self) -> str:
        """The numbers that activations are rounded to; empty where they are not."""
        return self.numbers if self.activation == 8 else ""

    def __str__(self) -> str:
        """E.g. `w4/s8 bits`; activations and groups only where they are not the defaults."""
        activation = f"/a{self.activation}" if self.activation != Bits.activation else ""
        group = f" in groups of {self.group}" if self.group != Bits.group else ""
        numbers = ", products in float8" if self.numbers == "float" else ""
        return f"w{self.weight}{activation}/s{self.state} bits{group}{numbers}"


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape has rows that are long enough for few bits."""
    return len(shape) >= 2 and shape[-1] >= LEAST_INPUTS


def takes_few_bits(block: Block | None, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a parameter is stored at the bits of its layer, and not in 32: `name` is that within its block.

    Of a block these are matrices, but for what it keeps exact (`Block.stays_exact`); elsewhere all matrices.
    """
    return is_matrix(shape) and not (block is not None and block.stays_exact(name))


def weight_bytes(shape: tuple[int, ...], stored: WeightFormat) -> int:
    """Bytes of a parameter as an exported model stores it, scales included."""
    values = torch.Size(shape).numel()
    if not is_matrix(shape):
        return EXACT_BYTES * values
    if stored.bits == 16:
        return 2 * values
    width = shape[-1]
    return values // width * (row_bytes(width, stored.bits) + 2 * -(-width // stored.span(width)))


def state_bytes(shape: StateShape, bits: int, context: int) -> int:
    """Bytes of one state tensor for a batch of one after `context` tokens, scales included."""
    values = torch.Size(shape.allocated(1, context)).numel()
    if bits == 16:
        return (4 if shape.exact else 2) * values
    width = shape.shape[-1]
    return values // width * (row_bytes(width, bits) + 2)


def row_bytes(width: int, bits: float) -> int:
    """Bytes of a row of `width` codes; every row starts at a byte."""
    return -(-width // TRITS) if bits == TERNARY else -(-width * int(bits) // 8)
