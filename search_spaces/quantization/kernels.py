"""Real kernels for a model that is done: its weights stay packed, and products run on the packed integers.

    model = with_real_kernels(load_model(folder))
    kernels_of(model)               # by parameter: the kernel, or "emulated"
    real_kernels("cuda")            # by bits: what this device has

Training, search and `load_model` emulate narrow weights: floats of the right values, ordinary products. Here
a parameter becomes a `PackedWeight`, a tensor without values of its own that knows its integers and scales,
and `F.linear` on it runs one of the kernels that PyTorch itself brings:

    weights  activations  kernel
    16       any          bfloat16 product
    8        16           torch._weight_int8pack_mm, a group of columns after the other
    8        8            torch._int_mm, likewise; outliers by torch._weight_int8pack_mm
    float8   float8       torch._scaled_mm (on CUDA from compute capability 8.9 on)
    4        any          torch._weight_int4pack_mm_for_cpu, or torch._weight_int4pack_mm on CUDA

All but that of float8 take bfloat16 inputs (or 8-bit ones) and give bfloat16 outputs, so results differ from
the emulated ones by the rounding of bfloat16, about 2^-8 of the largest. PyTorch has no kernels for 6, 3, 2
and 1.58 bits, none for float8 beside other activations, and none for parameters that a block uses otherwise
than by `F.linear`: these stay as they were, and are listed as "emulated". Packed weights do not learn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map_only

from search_spaces.network.model import Model
from search_spaces.network.weight_formats import bits_of, weight_bits
from search_spaces.quantization.activations import activation_codes, float8_activations, round_activations
from search_spaces.quantization.bits import (
    ACTIVATION_BITS,
    FLOAT8,
    NUMBERS,
    SCALE_SUFFIX,
    WEIGHT_BITS,
    Bits,
    WeightFormat,
    pack,
    unpack,
    unpack_codes,
)

EMULATED = "emulated"
INT4_GROUPS = (32, 64, 128, 256)
INT4_ROWS = 16
INT8_COLUMNS = 32
"""The kernel on a CPU reads whole vectors: without padding it reads beyond rows of other widths."""

INT_MM_ROWS, INT_MM_MULTIPLE = 32, 8
"""What torch._int_mm wants on CUDA: more than 16 rows, and sides that are multiples of 8."""

FLOAT8_MULTIPLE = 16
"""What torch._scaled_mm wants of all sides on CUDA."""

Product: TypeAlias = Callable[[Tensor], Tensor]
"""From x [M, K] to y [M, N]."""


@dataclass(frozen=True)
class Rows:
    """A matrix [N, K] of integers; `scale` is [N, K / group], the last group may be short."""

    codes: Tensor
    scale: Tensor
    group: int

    @property
    def groups(self) -> int:
        """Scales of a row."""
        return self.scale.shape[-1]

    def values(self, dtype: torch.dtype) -> Tensor:
        """The matrix in floating point."""
        scale = self.scale.repeat_interleave(self.group, -1)[:, : self.codes.shape[-1]]
        return self.codes.to(dtype) * scale.to(dtype)


def bfloat16_product(weight: Tensor) -> Product:
    """Weights and inputs in bfloat16."""
    weight = weight.to(torch.bfloat16)
    return lambda x: F.linear(x.to(torch.bfloat16), weight)


def int8_product(rows: Rows) -> Product:
    """Weights of 8 bits, inputs in bfloat16; sums over groups in float32."""
    parts = [_padded(part, 1, INT8_COLUMNS) for part in rows.codes.split(rows.group, -1)]
    scales = [scale.contiguous() for scale in rows.scale.to(torch.bfloat16).unbind(-1)]

    def product(x: Tensor) -> Tensor:
        pieces = [_padded(part, 1, INT8_COLUMNS) for part in x.to(torch.bfloat16).split(rows.group, -1)]
        if len(parts) == 1:
            return torch._weight_int8pack_mm(pieces[0], parts[0], scales[0])
        y = x.new_zeros(x.shape[0], rows.codes.shape[0], dtype=torch.float32)
        for piece, part, scale in zip(pieces, parts, scales, strict=True):
            y += torch._weight_int8pack_mm(piece, part, scale)
        return y

    return product


def int8_activation_product(rows: Rows) -> Product:
    """Weights and inputs of 8 bits; outliers among the inputs go by `int8_product`."""
    wide = INT_MM_MULTIPLE if rows.codes.is_cuda else 1
    parts = [_padded(part, wide, wide) for part in rows.codes.split(rows.group, -1)]
    scales = [scale.float().contiguous() for scale in rows.scale.unbind(-1)]
    outlying = int8_product(rows)

    def product(x: Tensor) -> Tensor:
        codes, scale, outlier = activation_codes(x)
        y = codes.new_zeros(x.shape[0], rows.codes.shape[0])
        tall = INT_MM_ROWS if x.is_cuda else 1
        for piece, part, each in zip(codes.to(torch.int8).split(rows.group, -1), parts, scales, strict=True):
            whole = torch._int_mm(_padded(piece, tall, wide), part.T)
            y += whole[: y.shape[0], : y.shape[1]] * each
        y *= scale
        if outlier.any():
            y += outlying(torch.where(outlier, x, 0.0))
        return y

    return product


def int4_product(rows: Rows) -> Product | None:
    """Weights of 4 bits, inputs in bfloat16; None where the groups are none that the kernels know."""
    group = rows.group
    if rows.groups == 1:  # a short row is a group that is not full
        group = next((size for size in INT4_GROUPS if size >= rows.codes.shape[-1]), 0)
    if group not in INT4_GROUPS:
        return None
    count = rows.codes.shape[0]
    codes = _padded(rows.codes, INT4_ROWS, group) + 8
    scale = _padded(rows.scale.to(torch.bfloat16), INT4_ROWS, 1).T
    scale = torch.stack((scale, torch.zeros_like(scale)), dim=-1).contiguous()
    if rows.codes.is_cuda:
        pairs = (codes[:, 0::2] << 4 | codes[:, 1::2]).to(torch.uint8)
        packed = torch._convert_weight_to_int4pack(pairs, 2)
        kernel = torch._weight_int4pack_mm
    else:
        packed = torch._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32), 1)
        kernel = torch._weight_int4pack_mm_for_cpu
    return lambda x: kernel(_padded(x.to(torch.bfloat16), 1, group), packed, group, scale)[:, :count]


def float8_product(codes: Tensor, scale: Tensor) -> Product:
    """Weights [N, K] and inputs in float8, a scale for each of their rows; outputs in float32.

    Sums are as the device makes them: Hopper adds up in fewer bits than float32 has.
    """
    wide = FLOAT8_MULTIPLE if codes.is_cuda else 1
    count, part = codes.shape[0], _padded8(codes, wide)
    scale, one = scale.float().T.contiguous(), scale.new_ones((), dtype=torch.float32)

    def product(x: Tensor) -> Tensor:
        own, each = float8_activations(x)
        whole = torch._scaled_mm(_padded8(own, wide), part.T, one, one, out_dtype=torch.float32)
        return whole[: x.shape[0], :count] * each * scale

    return product


def _padded8(codes: Tensor, multiple: int) -> Tensor:
    """float8 with zeros up to multiples; padding knows integers only, and zero is the same byte."""
    return _padded(codes.view(torch.int8), multiple, multiple).view(FLOAT8)


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """With zeros up to multiples of `rows` and `columns`."""
    below, right = -matrix.shape[0] % rows, -matrix.shape[1] % columns
    return F.pad(matrix, (0, right, 0, below)).contiguous() if below or right else matrix.contiguous()


Factors: TypeAlias = tuple[float, int, str]
"""Bits of weights and of activations, and what 8 of them are (`Bits.numbers`)."""

KERNELS: dict[Factors, tuple[str, str]] = {
    (16, 16, "int"): ("bfloat16", "bfloat16"),
    (16, 8, "int"): ("bfloat16", "bfloat16"),
    (16, 8, "float"): ("bfloat16", "bfloat16"),
    (8, 16, "int"): ("torch._weight_int8pack_mm", "torch._weight_int8pack_mm"),
    (8, 8, "int"): ("torch._int_mm", "torch._int_mm"),
    (8, 8, "float"): ("torch._scaled_mm", "torch._scaled_mm"),
    (4, 16, "int"): ("torch._weight_int4pack_mm_for_cpu", "torch._weight_int4pack_mm"),
    (4, 8, "int"): ("torch._weight_int4pack_mm_for_cpu", "torch._weight_int4pack_mm"),
}
"""The kernel on a CPU and on CUDA."""


FACTORS: tuple[Factors, ...] = tuple(
    (bits, activation, numbers)
    for bits, activation, numbers in itertools.product(WEIGHT_BITS, ACTIVATION_BITS, NUMBERS)
    if numbers == "int" or (bits in (16, 8) and 8 in (bits, activation))
)
"""All that there are."""


def factors_of(bits: Bits) -> Factors:
    """What a layer's products are made of."""
    return bits.weight, bits.activation, bits.numbers


@lru_cache
def _working(device: str) -> dict[Factors, str]:
    """The kernels that compute a small product on this device as they should."""
    found = {}
    for (bits, activation, numbers), names in KERNELS.items():
        name = names[device.startswith("cuda")]
        dice = torch.Generator().manual_seed(0)
        weight, x = (torch.randn(size, 64, generator=dice).to(device) for size in (32, 3))
        x = round_activations(x, numbers) if activation == 8 else x
        stored = WeightFormat(bits, 32, numbers)
        try:
            packed = PackedWeight(pack(weight, stored), stored, Use("", activation), weight)
            y = packed.product(x)
        except (RuntimeError, NotImplementedError, AttributeError):
            continue  # a kernel that this build or this device does not have: listed as emulated
        if y is not None and (y - x @ packed.values().T).norm() < 0.02 * y.norm():
            found[bits, activation, numbers] = name
    return found


def real_kernels(device: str | torch.device) -> Mapping[str, str]:
    """The kernel for each width on this device, such as `w4/a16` or `w8/a8 float`, or "emulated".

    Every kernel is tried on a small product first, so one is listed if it works here.
    """
    working = _working(str(device))
    return {
        f"w{bits}/a{activation}{'' if numbers == 'int' else f' {numbers}'}": working.get(
            (bits, activation, numbers), EMULATED
        )
        for bits, activation, numbers in FACTORS
    }


def real_factors(device: str | torch.device) -> frozenset[Factors]:
    """What has a kernel of its own on this device."""
    return frozenset(_working(str(device)))


@dataclass
class Use:
    """What happened to a packed parameter: views of it share this."""

    name: str
    activation: int
    unpacked: bool = False


@dataclass
class Views:
    """What was made of a packed weight, to be made once only."""

    product: Product | None = None
    tried: bool = False
    others: dict[Any, PackedWeight] = field(default_factory=dict)


class PackedWeight(Tensor):
    """A matrix [..., K] as integers and scales. `F.linear` takes it as it is; all else unpacks it."""

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
        """x [..., K] by this matrix [N, K], or None where no kernel takes it."""
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
        rows = Rows(codes, self.packed[SCALE_SUFFIX], self.stored.span(width))
        if self.stored.bits == 8:
            return int8_activation_product(rows) if self.use.activation == 8 else int8_product(rows)
        return int4_product(rows) if self.stored.bits == 4 else None

    def view_of(self, key: Any, shape: tuple[int, ...], stored: WeightFormat, take: Any) -> PackedWeight:
        """A part of another shape, made when first asked for; `take` cuts it out of a stored tensor."""
        if key not in self.views.others:
            packed = {suffix: take(tensor) for suffix, tensor in self.packed.items()}
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
        """Products and the views that blocks take of their weights; everything else unpacks."""
        with torch._C.DisableTorchFunctionSubclass():  # results are ordinary tensors
            taken = _without_unpacking(func, args, kwargs or {})
            return func(*args, **(kwargs or {})) if taken is None else taken

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """An operation that knows no packed weights: it gets floating point."""
        if func is torch.ops.aten.detach.default:
            return args[0]
        if func in MAKERS:
            like = torch.empty(0, dtype=args[0].dtype, device=args[0].device)
            return func(like, *args[1:], **(kwargs or {}))
        return func(*tree_map_only(cls, _unpacked, args), **tree_map_only(cls, _unpacked, kwargs or {}))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Without values."""
        return f"PackedWeight({self.use.name}, shape={tuple(self.shape)}, {self.stored})"


MAKERS = {
    getattr(torch.ops.aten, name).default for name in ("new_zeros", "new_ones", "new_empty", "new_full")
}
"""Operations that look at the dtype and the device of a tensor only."""


def _without_unpacking(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | tuple[Tensor, ...] | None:
    """What can be had of a packed weight as it is; None where it must be unpacked."""
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


@torch.no_grad()
def with_real_kernels(model: Model, dtype: torch.dtype = torch.float32) -> Model:
    """A model of the same weights, packed where its device has a kernel for them; for inference.

    `model` holds the values of its bits, as `load_model` and `Subnet.extract` give it. What is left in
    floating point gets `dtype`, and so do all outputs.
    """
    with torch.device("meta"):
        real = Model(model.spec)
    working, formats = _working(str(model.embedding.device)), weight_bits(model)
    for name, weight in model.named_parameters():
        stored, activation = formats[name], bits_of(model, name).activation
        floating = torch.nn.Parameter(weight.detach().to(dtype), requires_grad=False)
        kept: Tensor = floating
        if stored is not None and factors_of(bits_of(model, name)) in working:
            kept = PackedWeight(pack(weight.float(), stored), stored, Use(name, activation), floating)
        _put(real, name, kept)
    real.eval()
    _try(real)
    for name, weight in list(real.named_parameters()):
        if isinstance(weight, PackedWeight) and weight.use.unpacked:
            _put(real, name, torch.nn.Parameter(weight.values(), requires_grad=False))
    return real


def kernels_of(model: Model) -> dict[str, str]:
    """The kernel of each parameter of a model that is stored packed, or "emulated"."""
    working, found = _working(str(model.embedding.device)), {}
    formats = weight_bits(model)
    for name, weight in model.named_parameters():
        stored = formats[name]
        if stored is not None:
            real = isinstance(weight, PackedWeight) and not weight.use.unpacked
            found[name] = working[factors_of(bits_of(model, name))] if real else EMULATED
    return found


def _put(model: Model, name: str, weight: Tensor) -> None:
    owner, _, last = name.rpartition(".")
    held: dict[str, Any] = model.get_submodule(owner)._parameters
    held[last] = weight


def _try(model: Model) -> None:
    """Read and decode a few tokens, to see which weights a product alone will not do for."""
    tokens = torch.arange(3, device=model.embedding.device).remainder(model.spec.vocab)[None].expand(2, -1)
    _, state = model.prefill(tokens)
    model.step(tokens[:, 0], state)
    model(tokens)
