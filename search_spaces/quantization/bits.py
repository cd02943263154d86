"""Bit-widths of weights and of the decode state: transforms outside the blocks, which know of none.

Weights. A matrix (last axis of at least 8; the last axis is the input axis by contract) is cut into groups of
`group` values along its last axis, each with one bfloat16 scale s and codes c; the values are s * c:

    8, 6, 4   c from -t to t, t = 2^(bits-1) - 1;  s = largest / t
    3, 2      c from -2^(bits-1) to 2^(bits-1) - 1;  s is the best of a short list of ratios to the largest
              value, by squared error, and has the sign that gives the largest value the longer side
    1.58      c in -1, 0, 1;  s = mean |w|  (BitNet b1.58, Ma et al. 2024, arXiv:2402.17764)

16 bits is bfloat16. Vectors and short convolutions are small and stay in 32 bits. `round_to_bits` is what
training and search see (gradients pass straight through, Bengio et al. 2013, arXiv:1308.3432); `pack` and
`unpack` are the real thing in an exported model, and give the same values bit for bit.

With `numbers="float"` 8 bits are float8 (e4m3: 4 bits of exponent, 3 of mantissa; Micikevicius et al. 2022,
arXiv:2209.05433) instead of integers: one scale for each row, s = largest / 448, as hardware multiplies them.

Activations are the matter of `search_spaces.quantization.activations`.

State. 16 means not quantized: kept in the model's dtype and counted as two bytes, but running sums (`exact`)
in float32 and counted as four. 8 and 4 keep integers and one bfloat16 scale per row (`StateShape`); every
write rounds a value by at most 1/250 (8 bits) or 1/13 (4 bits) of the largest value of its row. Cache rows
are written once; a recurrent state is rounded anew at each token, so its error is bounded by that of one
write over (1 - decay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import State, StateShape
from search_spaces.language.serialization import parts

TERNARY = 1.58
WEIGHT_BITS = (16, 8, 6, 4, 3, 2, TERNARY)
ACTIVATION_BITS = (16, 8)
STATE_BITS = (16, 8, 4)
GROUPS = tuple(2**power for power in range(5, 17))
SCALE_SUFFIX = ".scale"
NUMBERS = ("int", "float")
FLOAT8, FLOAT8_LARGEST = torch.float8_e4m3fn, 448.0
TIGHTER = (1.0, 1.15, 1.3, 1.5, 1.7, 1.95, 2.25)
"""How far below the largest value the range of 3 and 2 bits may end, as the ratio of both."""

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

    LATER: ClassVar[tuple[str, ...]] = ("numbers",)
    """What spaces of before did not say: it is not written where it says nothing new, so their names stay."""

    def check(self) -> None:
        """Raise `IllegalArchitecture` for a width without a format."""
        for name, known in (
            ("weight", WEIGHT_BITS),
            ("activation", ACTIVATION_BITS),
            ("state", STATE_BITS),
            ("group", GROUPS),
            ("numbers", NUMBERS),
        ):
            value = getattr(self, name)
            if value not in known:
                what = "numbers" if name == "numbers" else "widths"
                raise IllegalArchitecture(f"Bits({name}={value!r}): known {what} are {known}")
        if self.numbers == "float" and (
            self.weight not in (8, 16) or 8 not in (self.weight, self.activation) or self.group != Bits.group
        ):
            raise IllegalArchitecture(
                f"{self!r}: float8 is for weights or activations of 8 bits, beside 16, and has a scale for"
                " each row: elsewhere leave numbers='int', and leave group alone"
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
        """Such as `w4/s8 bits`; activations and groups only where they are not the usual ones."""
        activation = f"/a{self.activation}" if self.activation != Bits.activation else ""
        group = f" in groups of {self.group}" if self.group != Bits.group else ""
        numbers = ", products in float8" if self.numbers == "float" else ""
        return f"w{self.weight}{activation}/s{self.state} bits{group}{numbers}"


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape is stored at the layer's bits, rather than in 32."""
    return len(shape) >= 2 and shape[-1] >= 8


def weight_bytes(shape: tuple[int, ...], stored: WeightFormat) -> int:
    """Bytes of a parameter as an exported model stores it, scales included."""
    values = torch.Size(shape).numel()
    if not is_matrix(shape):
        return 4 * values
    if stored.bits == 16:
        return 2 * values
    width = shape[-1]
    return values // width * (_row_bytes(width, stored.bits) + 2 * -(-width // stored.span(width)))


def state_bytes(shape: StateShape, bits: int, context: int) -> int:
    """Bytes of one state tensor for a batch of one after `context` tokens, scales included."""
    values = torch.Size(shape.allocated(1, context)).numel()
    if bits == 16:
        return (4 if shape.exact else 2) * values
    width = shape.shape[-1]
    return values // width * (_row_bytes(width, bits) + 2)


def pack(weight: Tensor, stored: WeightFormat) -> dict[str, Tensor]:
    """A matrix as what is stored of it: `""` holds bfloat16 values or packed codes, `.scale` the scales."""
    if stored.bits == 16:
        return {"": weight.to(torch.bfloat16)}
    codes, scale = _codes(weight, stored)
    codes = codes.flatten(-2)[..., : weight.shape[-1]].to(FLOAT8 if stored.is_float8 else torch.int8)
    return {"": _to_bytes(codes, stored.bits), SCALE_SUFFIX: scale.squeeze(-1)}


def unpack(packed: Mapping[str, Tensor], stored: WeightFormat, width: int, dtype: torch.dtype) -> Tensor:
    """The matrix, of last axis `width`, that `pack` stored."""
    if stored.bits == 16:
        return packed[""].to(dtype)
    codes = _grouped(unpack_codes(packed, stored, width).to(dtype), stored.span(width))
    scale = packed[SCALE_SUFFIX].unsqueeze(-1).to(dtype)
    return (codes * scale).flatten(-2)[..., :width].contiguous()


def unpack_codes(packed: Mapping[str, Tensor], stored: WeightFormat, width: int) -> Tensor:
    """The codes [..., width] of what `pack` stored: integers, one int8 each, or float8."""
    return _from_bytes(packed[""], stored.bits, width)


def round_to_bits(weight: Tensor, stored: WeightFormat) -> Tensor:
    """A matrix rounded as `unpack(pack(...))` would; the gradient passes straight through."""
    rounded: Tensor = _RoundToBits.apply(weight, stored)
    return rounded


class _RoundToBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, stored: WeightFormat) -> Tensor:
        if stored.bits == 16:
            return weight.to(torch.bfloat16).to(weight.dtype)
        codes, scale = _codes(weight, stored)
        return (codes * scale.to(weight.dtype)).flatten(-2)[..., : weight.shape[-1]].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def round_all(weights: Mapping[str, Tensor], formats: Mapping[str, WeightFormat | None]) -> dict[str, Tensor]:
    """Every matrix as `round_to_bits` rounds it, bit for bit, those of one format together; None leaves it.

    A small matrix costs more in operations than in values, on a GPU in launches: together they take a copy
    each and a dozen operations for all. Those of 3 bits and less, whose groups are summed, and float8 go one
    by one.
    """
    found = dict(weights)
    alike: dict[tuple[WeightFormat, int, torch.dtype], list[str]] = {}
    for name, weight in weights.items():
        stored = formats[name]
        if stored is None:
            continue
        if stored.bits < 4 or stored.bits == 16 or stored.is_float8:
            found[name] = round_to_bits(weight, stored)
        else:
            # groups that differ by less than a factor of two, so that zeros are fewer than values
            octave = (stored.span(weight.shape[-1]) - 1).bit_length()
            alike.setdefault((stored, octave, weight.dtype), []).append(name)
    for (stored, *_), names in alike.items():
        together = _RoundTogether.apply(stored, *(weights[name] for name in names))
        found |= dict(zip(names, together, strict=True))
    return found


class _RoundTogether(torch.autograd.Function):
    """`_RoundToBits` for several matrices of one format, at least 4 bits wide.

    Their groups lie below each other in one matrix, zeros behind those that are not full: the largest of a
    group, and so its scale and its codes, are the same as by itself.
    """

    @staticmethod
    def forward(ctx: Any, stored: WeightFormat, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        group = max(stored.span(weight.shape[-1]) for weight in weights)
        padded = [(*weight.shape[:-1], -(-weight.shape[-1] // group) * group) for weight in weights]
        sizes = [torch.Size(shape).numel() for shape in padded]
        rows = weights[0].new_zeros(sum(sizes) // group, group)
        for weight, shape, part in zip(weights, padded, rows.flatten().split(sizes), strict=True):
            part.view(shape)[..., : weight.shape[-1]].copy_(weight)
        codes, scale = _codes(rows, stored)
        parts = (codes * scale.to(rows.dtype)).flatten().split(sizes)
        return tuple(
            part.view(shape)[..., : weight.shape[-1]].contiguous()
            for weight, shape, part in zip(weights, padded, parts, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *grads


def _grouped(weight: Tensor, group: int) -> Tensor:
    """[..., L] as [..., groups, group], padded with zeros."""
    width = weight.shape[-1]
    if width % group:
        weight = F.pad(weight, (0, group - width % group))
    return weight.unflatten(-1, (-1, group))


def _codes(weight: Tensor, stored: WeightFormat) -> tuple[Tensor, Tensor]:
    """Codes (as floats) [..., groups, group] and bfloat16 scales [..., groups, 1].

    Rounding what was rounded finds the same values again, see the three scales.
    """
    bits = stored.bits
    # in one layout, so that a slice and its copy sum in the same order and find the same scales
    grouped = _grouped(weight.detach().contiguous(), stored.span(weight.shape[-1]))
    if stored.is_float8:
        return _float8(grouped)
    if bits == TERNARY:
        return _nearest(grouped, _mean_scale(grouped, weight.shape[-1]), -1, 1)
    top = 2 ** (int(bits) - 1)
    if bits < 4:
        return _nearest(grouped, _best_scale(grouped, top), -top, top - 1)
    return _nearest(grouped, _scale(grouped, top - 1), 1 - top, top - 1)


def _float8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Values of float8, in the dtype of the rows [..., L], and bfloat16 scales [..., 1].

    The largest value gets the largest code, since a bfloat16 scale is off by less than half a step there: so
    rounding what was rounded finds the same scale and changes nothing.
    """
    scale = _usable(rows.abs().amax(-1, keepdim=True) / FLOAT8_LARGEST)
    return (rows / scale.to(rows.dtype)).to(FLOAT8).to(rows.dtype), scale


def _nearest(rows: Tensor, scale: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    return (rows / scale.to(rows.dtype)).round().clamp(low, high), scale


def _scale(rows: Tensor, top: int) -> Tensor:
    """One bfloat16 scale per row.

    The largest value always gets the top code (a bfloat16 scale is off by at most a quarter of a step there),
    so rounding what was rounded finds the same scale and changes nothing.
    """
    largest = rows.detach().abs().amax(-1, keepdim=True)
    return _usable(largest / top)


def _best_scale(rows: Tensor, top: int) -> Tensor:
    """The scale of the least squared error among one that reaches the largest value and some that do not.

    All give the largest value the code -top, so what was rounded has its largest value there; the first scale
    tried for it is the one it was rounded with, and leaves no error.
    """
    high, low = rows.amax(-1, keepdim=True), rows.amin(-1, keepdim=True)
    largest = torch.where(high >= -low, high, low)
    best, least = None, None
    for tighter in TIGHTER:
        scale = _usable(-largest / (top * tighter))
        codes, _ = _nearest(rows, scale, -top, top - 1)
        error = (codes * scale.to(rows.dtype) - rows).square().sum(-1, keepdim=True)
        if best is None or least is None:
            best, least = scale, error
        else:
            best = torch.where(error < least, scale, best)
            least = torch.minimum(error, least)
    assert best is not None
    return best


def _mean_scale(rows: Tensor, width: int) -> Tensor:
    """The mean of |w| over [..., groups, group], of which `width` values are real, not padding.

    A group that is ternary already keeps its scale: its mean would be another one.
    """
    group, size = rows.shape[-2:]
    real = (width - size * torch.arange(group, device=rows.device)).clamp(max=size)[:, None]
    magnitude = rows.abs()
    largest = magnitude.amax(-1, keepdim=True)
    ternary = ((magnitude == 0) | (magnitude == largest)).all(-1, keepdim=True)
    return _usable(torch.where(ternary, largest, magnitude.sum(-1, keepdim=True) / real))


def _usable(scale: Tensor) -> Tensor:
    """In bfloat16, and one instead of zero, which cannot divide."""
    scale = scale.to(torch.bfloat16)
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _row_bytes(width: int, bits: float) -> int:
    """Bytes of a row of `width` codes; every row starts at a byte."""
    return -(-width // TRITS) if bits == TERNARY else -(-width * int(bits) // 8)


def _to_bytes(codes: Tensor, bits: float) -> Tensor:
    """int8 codes [..., L] packed into bytes, the first code in the lowest bits."""
    if bits == 8:
        return codes
    if bits == 4:
        return _two_per_byte(codes)
    width, bytes_ = codes.shape[-1], _row_bytes(codes.shape[-1], bits)
    if bits == TERNARY:
        digits = F.pad(codes.long() + 1, (0, -width % TRITS)).unflatten(-1, (-1, TRITS))
        return _bytes((digits * _powers(3, TRITS, codes)).sum(-1))
    mask, bits = 2 ** int(bits) - 1, int(bits)
    eight = F.pad(codes.long() & mask, (0, -width % 8)).unflatten(-1, (-1, 8))
    words = (eight << _shifts(bits, 8, codes)).sum(-1, keepdim=True)
    return _bytes(((words >> _shifts(8, bits, codes)) & 0xFF).flatten(-2)[..., :bytes_])


def _from_bytes(packed: Tensor, bits: float, width: int) -> Tensor:
    """The int8 codes [..., width] that `_to_bytes` packed."""
    if bits == 8:
        return packed
    if bits == 4:
        return _one_per_byte(packed)[..., :width]
    bytes_ = packed.view(torch.uint8).long()
    if bits == TERNARY:
        digits = bytes_.unsqueeze(-1) // _powers(3, TRITS, packed) % 3
        return (digits - 1).flatten(-2)[..., :width].to(torch.int8)
    bits = int(bits)
    few = F.pad(bytes_, (0, -packed.shape[-1] % bits)).unflatten(-1, (-1, bits))
    words = (few << _shifts(8, bits, packed)).sum(-1, keepdim=True)
    sign = 2 ** (bits - 1)
    codes = ((words >> _shifts(bits, 8, packed)) & (2 * sign - 1) ^ sign) - sign
    return codes.flatten(-2)[..., :width].to(torch.int8)


def _bytes(values: Tensor) -> Tensor:
    return values.to(torch.uint8).view(torch.int8)


def _shifts(bits: int, count: int, like: Tensor) -> Tensor:
    return bits * torch.arange(count, device=like.device)


def _powers(base: int, count: int, like: Tensor) -> Tensor:
    return torch.tensor([base**i for i in range(count)], device=like.device)


def _two_per_byte(codes: Tensor) -> Tensor:
    if codes.shape[-1] % 2:
        codes = F.pad(codes, (0, 1))
    low, high = codes[..., 0::2], codes[..., 1::2]
    return ((low & 0xF) | (high << 4)).to(torch.int8)


def _one_per_byte(packed: Tensor) -> Tensor:
    low = (packed << 4) >> 4  # arithmetic shifts keep the sign of the low four bits
    return torch.stack([low, packed >> 4], dim=-1).flatten(-2)


class StateCodec:
    """Keeps the state of one mixer at `bits` between tokens; at 16 bits it does nothing."""

    def __init__(self, shapes: Mapping[str, StateShape], bits: int) -> None:
        self.shapes, self.bits = dict(shapes), bits

    def empty(self, state: State) -> State:
        """The stored form of a fresh state."""
        return state if self.bits == 16 else self._store(state)

    def read(self, stored: State, dtype: torch.dtype) -> State:
        """The state as its mixer takes it."""
        if self.bits == 16:
            return stored
        return {name: self._dequantized(name, stored, dtype) for name in self.shapes}

    def _dequantized(self, name: str, stored: State, dtype: torch.dtype) -> Tensor:
        shape = self.shapes[name]
        if shape.exact:
            dtype = torch.promote_types(dtype, torch.float32)
        codes = _from_bytes(stored[name], self.bits, shape.shape[-1])
        return codes.to(dtype) * stored[name + SCALE_SUFFIX].to(dtype)

    def write(self, state: State, stored: State, position: int | Tensor, count: int) -> State:
        """Store what `count` tokens from `position` on changed; `stored` is what was kept before."""
        if self.bits == 16:
            return state
        kept = self._store({name: state[name] for name, shape in self.shapes.items() if not shape.per_token})
        for name, shape in self.shapes.items():
            if shape.per_token:
                kept.update(self._write_rows(name, state[name], stored, position, count))
        return kept

    def _store(self, state: State) -> State:
        kept: State = {}
        for name, tensor in state.items():
            kept[name], kept[name + SCALE_SUFFIX] = self._quantized(tensor)
        return kept

    def _write_rows(
        self, name: str, tensor: Tensor, stored: State, position: int | Tensor, count: int
    ) -> State:
        slots = tensor.shape[-2]
        written, count = count, min(count, slots)
        last = position + written + torch.arange(-count, 0, device=tensor.device)
        index = last.remainder(slots)
        codes, scale = self._quantized(tensor.index_select(-2, index))
        stored[name].index_copy_(-2, index, codes)
        stored[name + SCALE_SUFFIX].index_copy_(-2, index, scale)
        return {name: stored[name], name + SCALE_SUFFIX: stored[name + SCALE_SUFFIX]}

    def _quantized(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Packed codes and one scale for each row."""
        top = 2 ** (self.bits - 1) - 1
        codes, scale = _nearest(tensor, _scale(tensor, top), -top, top)
        return _to_bytes(codes.to(torch.int8), self.bits), scale
