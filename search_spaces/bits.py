"""Bit-widths of weights and of the decode state: transforms outside the blocks, which know nothing of them.

Weights. A matrix (last axis of at least 8; the last axis is the input axis by contract) of 8 or 4 bits is
cut into groups of at most 64 values along its last axis, each with one bfloat16 scale, symmetric and rounded
to nearest; 16 bits is bfloat16. Vectors and short convolutions are small and stay in 32 bits. `round_to_bits`
is what training and search see (gradients pass straight through, Bengio et al. 2013, arXiv:1308.3432); `pack`
and `unpack` are the real thing in an exported model, and give the same values bit for bit.

State. 16 means not quantized: kept in the model's dtype and counted as two bytes, but running sums (`exact`)
in float32 and counted as four. 8 keeps int8 values and one bfloat16 scale per row (`StateShape`); every write
rounds a value by at most 1/250 of the largest value of its row. Cache rows are written once; a recurrent
state is rounded anew at each token, so its error is bounded by that of one write over (1 - decay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.base import State, StateShape
from search_spaces.errors import IllegalArchitecture
from search_spaces.serialise import parts

GROUP = 64
WEIGHT_BITS = (16, 8, 4)
STATE_BITS = (16, 8)
SCALE_SUFFIX = ".scale"


@parts.add
@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits per weight and per value of the decode state, for one layer."""

    weight: int = 16
    state: int = 16

    def check(self) -> None:
        """Raise `IllegalArchitecture` for a width without a format."""
        for name, value, known in (
            ("weight", self.weight, WEIGHT_BITS),
            ("state", self.state, STATE_BITS),
        ):
            if value not in known:
                raise IllegalArchitecture(f"Bits({name}={value!r}): known widths are {known}")


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape is stored at the layer's bits, rather than in 32."""
    return len(shape) >= 2 and shape[-1] >= 8


def weight_bytes(shape: tuple[int, ...], bits: int) -> int:
    """Bytes of a parameter as an exported model stores it, scales included."""
    values = torch.Size(shape).numel()
    if not is_matrix(shape):
        return 4 * values
    if bits == 16:
        return 2 * values
    rows = values // shape[-1]
    codes = shape[-1] if bits == 8 else (shape[-1] + 1) // 2
    return rows * (codes + 2 * -(-shape[-1] // GROUP))


def state_bytes(shape: StateShape, bits: int, context: int) -> int:
    """Bytes of one state tensor for a batch of one after `context` tokens, scales included."""
    values = torch.Size(shape.allocated(1, context)).numel()
    if bits == 16:
        return (4 if shape.exact else 2) * values
    return values + 2 * (values // shape.shape[-1])


def pack(weight: Tensor, bits: int) -> dict[str, Tensor]:
    """A matrix as what is stored of it: `""` holds bfloat16 values or integer codes, `.scale` the scales."""
    if bits == 16:
        return {"": weight.to(torch.bfloat16)}
    codes, scale = _codes(weight, bits)
    codes = codes.flatten(-2)[..., : weight.shape[-1]].to(torch.int8)
    return {"": codes if bits == 8 else _two_per_byte(codes), SCALE_SUFFIX: scale.squeeze(-1)}


def unpack(stored: Mapping[str, Tensor], bits: int, width: int, dtype: torch.dtype) -> Tensor:
    """The matrix, of last axis `width`, that `pack` stored."""
    codes = stored[""]
    if bits == 16:
        return codes.to(dtype)
    if bits == 4:
        codes = _one_per_byte(codes)[..., :width]
    scale = stored[SCALE_SUFFIX].unsqueeze(-1).to(dtype)
    grouped = _grouped(codes.to(dtype))
    return (grouped * scale).flatten(-2)[..., :width].contiguous()


def round_to_bits(weight: Tensor, bits: int) -> Tensor:
    """A matrix rounded as `unpack(pack(...))` would; the gradient passes straight through."""
    rounded: Tensor = _RoundToBits.apply(weight, bits)
    return rounded


class _RoundToBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        if bits == 16:
            return weight.to(torch.bfloat16).to(weight.dtype)
        codes, scale = _codes(weight, bits)
        return (codes * scale.to(weight.dtype)).flatten(-2)[..., : weight.shape[-1]].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _grouped(weight: Tensor) -> Tensor:
    """[..., L] as [..., groups, group], padded with zeros."""
    width = weight.shape[-1]
    group = min(GROUP, width)
    if width % group:
        weight = F.pad(weight, (0, group - width % group))
    return weight.unflatten(-1, (-1, group))


def _codes(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integer codes (as floats) [..., groups, group] and bfloat16 scales [..., groups, 1]."""
    top = 2 ** (bits - 1) - 1
    grouped = _grouped(weight)
    scale = _scale(grouped, top)
    codes = (grouped / scale.to(weight.dtype)).round().clamp(-top, top)
    return codes, scale


def _scale(rows: Tensor, top: int) -> Tensor:
    """One bfloat16 scale per row.

    The largest value always gets the top code (a bfloat16 scale is off by at most a quarter of a step there),
    so rounding what was rounded finds the same scale and changes nothing.
    """
    largest = rows.detach().abs().amax(-1, keepdim=True)
    scale = (largest / top).to(torch.bfloat16)
    return torch.where(scale > 0, scale, torch.ones_like(scale))


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
        if self.shapes[name].exact:
            dtype = torch.promote_types(dtype, torch.float32)
        return stored[name].to(dtype) * stored[name + SCALE_SUFFIX].to(dtype)

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
            kept[name], kept[name + SCALE_SUFFIX] = _quantize_rows(tensor)
        return kept

    def _write_rows(
        self, name: str, tensor: Tensor, stored: State, position: int | Tensor, count: int
    ) -> State:
        slots = tensor.shape[-2]
        written, count = count, min(count, slots)
        last = position + written + torch.arange(-count, 0, device=tensor.device)
        index = last.remainder(slots)
        codes, scale = _quantize_rows(tensor.index_select(-2, index))
        stored[name].index_copy_(-2, index, codes)
        stored[name + SCALE_SUFFIX].index_copy_(-2, index, scale)
        return {name: stored[name], name + SCALE_SUFFIX: stored[name + SCALE_SUFFIX]}


def _quantize_rows(tensor: Tensor) -> tuple[Tensor, Tensor]:
    scale = _scale(tensor, 127)
    codes = (tensor / scale.to(tensor.dtype)).round().clamp(-127, 127).to(torch.int8)
    return codes, scale
