"""The decode state at 8 or 4 bits: integers and one bfloat16 scale per row (`StateShape`).

Every write rounds a value by at most 1/250 (8 bits) or 1/13 (4 bits) of the largest value of its row. Cache
rows are written once; a recurrent state is rounded anew at each token, so its error is bounded by that of one
write over (1 - decay). At 16 bits nothing is quantized: the state is kept in the model's dtype and counted as
two bytes a value; running sums (`exact`) are kept in float32 and counted as four.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.blocks.base import State, StateShape
from search_spaces.quantization.packing import SCALE_SUFFIX, codes_from_bytes, codes_to_bytes
from search_spaces.quantization.rounding import largest_scale, nearest_codes


class StateCodec:
    """Stores the state of one mixer at `bits` between tokens; at 16 bits it does nothing."""

    def __init__(self, shapes: Mapping[str, StateShape], bits: int) -> None:
        self.shapes, self.bits = dict(shapes), bits

    def empty(self, state: State) -> State:
        """The stored form of a fresh state."""
        return state if self.bits == 16 else self._store(state)

    def read(self, stored: State, dtype: torch.dtype) -> State:
        """The state in floating point, as its mixer reads it."""
        if self.bits == 16:
            return stored
        return {name: self._dequantized(name, stored, dtype) for name in self.shapes}

    def _dequantized(self, name: str, stored: State, dtype: torch.dtype) -> Tensor:
        shape = self.shapes[name]
        if shape.exact:
            dtype = torch.promote_types(dtype, torch.float32)
        codes = codes_from_bytes(stored[name], self.bits, shape.shape[-1])
        return codes.to(dtype) * stored[name + SCALE_SUFFIX].to(dtype)

    def write(self, state: State, stored: State, position: int | Tensor, count: int) -> State:
        """Store what `count` tokens from `position` on changed in `stored`."""
        if self.bits == 16:
            return state
        kept = self._store({name: state[name] for name, shape in self.shapes.items() if not shape.per_token})
        for name, shape in self.shapes.items():
            if shape.per_token:
                kept.update(self._write_rows(name, state[name], stored, position, count))
        return {name: kept[name] for name in stored}  # programs pass a state on in its order

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
        codes, scale = nearest_codes(tensor, largest_scale(tensor, top), -top, top)
        return codes_to_bytes(codes.to(torch.int8), self.bits), scale
