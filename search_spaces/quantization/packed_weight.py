"""A parameter whose values stay packed: `F.linear` multiplies by it as it is, everything else unpacks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map_only

from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.packing import SCALE_SUFFIX, unpack, unpack_codes
from search_spaces.quantization.products import (
    IntegerMatrix,
    Product,
    bfloat16_product,
    float8_product,
    int4_product,
    int8_activation_product,
    int8_product,
)


@dataclass
class Use:
    """How a packed parameter is used, and whether it had to be unpacked; its views share this."""

    name: str
    activation: int
    unpacked: bool = False


@dataclass
class Views:
    """The product and the views of a packed weight, each made once."""

    product: Product | None = None
    tried: bool = False
    others: dict[Any, PackedWeight] = field(default_factory=dict)


class PackedWeight(Tensor):
    """A matrix [..., K] as integers and scales. `F.linear` multiplies by it packed; all else unpacks it."""

    @staticmethod
    def __new__(
        cls, packed: Mapping[str, Tensor], stored: WeightFormat, use: Use, like: Tensor
    ) -> PackedWeight:
        """Of the shape, dtype and device of `like`, which may have no values."""
        tensor: PackedWeight = Tensor._make_wrapper_subclass(
            cls, like.shape, dtype=like.dtype, device=packed[""].device
        )
        return tensor

    def __init__(self, packed: Mapping[str, Tensor], stored: WeightFormat, use: Use, like: Tensor) -> None:
        super().__init__()
        self.packed, self.stored, self.use, self.views = packed, stored, use, Views()

    def values(self) -> Tensor:
        """The emulated matrix."""
        return unpack(self.packed, self.stored, self.shape[-1], self.dtype)

    def product(self, x: Tensor) -> Tensor | None:
        """x [..., K] by this matrix [N, K], or None where no kernel does it."""
        if not self.views.tried:
            self.views.product, self.views.tried = self._product(), True
        if self.views.product is None:
            return None
        y = self.views.product(x.reshape(-1, x.shape[-1]))
        return y.to(x.dtype).view(*x.shape[:-1], self.shape[0])

    def _product(self) -> Product | None:
        if self.ndim != 2:
            return None
        if self.stored.bits == 16:
            return bfloat16_product(self.packed[""])
        if self.stored.is_float8:
            return float8_product(self.packed[""], self.packed[SCALE_SUFFIX])
        width = self.shape[-1]
        codes = unpack_codes(self.packed, self.stored, width)
        matrix = IntegerMatrix(codes, self.packed[SCALE_SUFFIX], self.stored.span(width))
        if self.stored.bits == 8:
            return int8_activation_product(matrix) if self.use.activation == 8 else int8_product(matrix)
        return int4_product(matrix) if self.stored.bits == 4 else None

    def view_of(self, key: Any, shape: tuple[int, ...], stored: WeightFormat, cut: Any) -> PackedWeight:
        """A part of another shape, made when first used; `cut` takes it out of a stored tensor."""
        if key not in self.views.others:
            packed = {suffix: cut(tensor) for suffix, tensor in self.packed.items()}
            like = torch.empty(shape, dtype=self.dtype, device="meta")
            self.views.others[key] = PackedWeight(packed, stored, self.use, like)
        return self.views.others[key]

    def flat(self, start: int, end: int) -> PackedWeight | None:
        """`flatten(start, end)`, where rows stay whole or are joined group by group."""
        start, end = start % self.ndim, end % self.ndim
        shape = (*self.shape[:start], self.shape[start : end + 1].numel(), *self.shape[end + 1 :])
        width, stored = self.shape[-1], self.stored
        joined = end == self.ndim - 1 and start < end
        if joined and stored.is_float8:
            return None  # a joined row has several scales
        if joined and stored.bits != 16:
            group = stored.span(width)
            if width % group or (stored.bits < 8 and width * int(stored.bits) % 8):
                return None
            stored = WeightFormat(stored.bits, group)
        return self.view_of((start, end), shape, stored, lambda tensor: tensor.flatten(start, end))

    def at(self, index: int) -> PackedWeight:
        """`self[index]` along the first axis."""
        return self.view_of(index, self.shape[1:], self.stored, lambda tensor: tensor[index])

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Products and the views that blocks take of their weights stay packed; everything else unpacks."""
        with torch._C.DisableTorchFunctionSubclass():  # results are ordinary tensors
            result = _without_unpacking(func, args, kwargs or {})
            return func(*args, **(kwargs or {})) if result is None else result

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every other operation gets the weight in floating point."""
        if func is torch.ops.aten.detach.default:
            return args[0]
        if func in SHAPE_ONLY:
            like = torch.empty(0, dtype=args[0].dtype, device=args[0].device)
            return func(like, *args[1:], **(kwargs or {}))
        return func(*tree_map_only(cls, _unpacked, args), **tree_map_only(cls, _unpacked, kwargs or {}))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Without values."""
        return f"PackedWeight({self.use.name}, shape={tuple(self.shape)}, {self.stored})"


SHAPE_ONLY = {
    getattr(torch.ops.aten, name).default for name in ("new_zeros", "new_ones", "new_empty", "new_full")
}
"""Operations that read the dtype and the device of a tensor only, and not its values."""


def _without_unpacking(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | tuple[Tensor, ...] | None:
    """The result where a packed weight need not be unpacked for it, else None."""
    if func is F.linear and isinstance(args[1], PackedWeight):
        y = args[1].product(args[0])
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        return y if y is None or bias is None else y + bias
    if func is F.embedding and args[1].stored.bits == 16:
        return F.embedding(args[0], args[1].packed[""], *args[2:], **kwargs).to(args[1].dtype)
    if func is Tensor.flatten and not kwargs:
        start, end = [*args[1:], 0, -1][:2] if len(args) != 2 else (args[1], -1)
        return args[0].flat(start, end)
    if func is Tensor.__getitem__ and isinstance(args[1], int):
        return args[0].at(args[1])
    if func is Tensor.unbind and len(args) == 1 and not kwargs:
        return tuple(map(args[0].at, range(args[0].shape[0])))
    return None


def _unpacked(weight: PackedWeight) -> Tensor:
    weight.use.unpacked = True
    return weight.values()
