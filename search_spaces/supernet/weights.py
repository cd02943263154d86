"""The shared parameters of a supernet: their values, their rates and their gradients.

A subnet reads leading slices of them (`Binding`), and adds its gradients to the same slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from search_spaces.network.scaling import ELEMENTWISE, Role
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.packing import unpack
from search_spaces.quantization.rounding import round_to_bits

Weights: TypeAlias = dict[str, Tensor]
"""Parameters of one subnet by their names in its model."""

Slice: TypeAlias = tuple[str, tuple[int, ...], WeightFormat]
"""A leading slice of a parameter at a format: its key, its shape and how it is stored."""

ALIGNED = 32
"""Values that lie in one piece with others begin at multiples of so many, 64 bytes or more: kernels that copy
whole vectors ask for 16."""


@dataclass(frozen=True)
class Binding:
    """Where one parameter of a subnet lives: a leading slice of the supernet's `key`, at `bits`."""

    name: str
    key: str
    index: tuple[slice, ...]
    bits: WeightFormat | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the slice."""
        return tuple(each.stop for each in self.index)

    @property
    def plain(self) -> bool:
        """Whether it is stored at 16 bits."""
        return self.bits is not None and self.bits.bits == 16


class SharedWeights:
    """Parameters by key, with the training rate and the role of each; all of them are on one device.

    `own_rates` are those of the kinds of blocks, at the base width. `prepared` are slices in their stored
    form (`quantization.packing`) whose values are others than those of the parameter, rounded to nearest:
    what was rounded with a look at its inputs, or made of several parts of a trained network.

    `name` is that of the space, for messages.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.weights: dict[str, nn.Parameter] = {}
        self.rates: dict[str, float] = {}
        self.roles: dict[str, Role] = {}
        self.own_rates: dict[str, float] = {}
        self.prepared: dict[Slice, Mapping[str, Tensor]] = {}
        self._sixteen: Weights = {}
        self._gradients: Tensor | None = None
        self._gradient_of: dict[str, Tensor] = {}
        self._written: set[str] = set()

    def add(self, key: str, values: Tensor, rate: float, role: Role = ELEMENTWISE) -> None:
        """A further parameter."""
        self.weights[key] = nn.Parameter(values)
        self.rates[key] = rate
        self.roles[key] = role

    def slice_at(self, key: str, shape: tuple[int, ...], bits: WeightFormat | None) -> Tensor:
        """A leading slice at a format: as it was prepared, or to nearest; as it is where there is no format.

        Gradients pass straight through into the parameter; there are none of what was prepared.
        """
        weight = self.weights[key]
        if bits is not None and (stored := self.prepared.get((key, shape, bits))) is not None:
            return unpack(stored, bits, shape[-1], weight.dtype)
        return at_bits(weight[leading(shape)], bits)

    def learning_rates(self, by_kind: Mapping[str, float]) -> dict[str, float]:
        """The rate of every parameter; `by_kind` are rates of kinds of blocks in the place of their own."""
        factors = {kind: by_kind[kind] / own for kind, own in self.own_rates.items() if kind in by_kind}
        return {key: rate * factors.get(_kind_of(key), 1.0) for key, rate in self.rates.items()}

    def parameters(self) -> list[nn.Parameter]:
        """Every shared parameter, in a fixed order."""
        return list(self.weights.values())

    def zero_grad(self) -> None:
        """Drop all gradients; a parameter that no subnet uses afterwards has none."""
        for weight in self.weights.values():
            weight.grad = None
        if self._gradients is not None and self._written:
            self._gradients.zero_()
            self._written.clear()

    def add_gradients(self, bindings: Iterable[Binding], leaves: Weights) -> None:
        """Add the gradients of a subnet's leaves (see `Subnet.leaves`) to the shared parameters.

        Adding into the slice costs the subnet's size; autograd through the slicing would make a dense
        gradient of the largest shape for every view.
        """
        for binding in bindings:
            grad = leaves[binding.name].grad
            if grad is None:
                continue
            weight = self.weights[binding.key]
            if weight.grad is None and grad.shape == weight.shape:
                weight.grad = grad
                continue
            if weight.grad is None:
                weight.grad = self._zeroed(binding.key)
            weight.grad[binding.index].add_(grad)

    def want_gradients(self, keys: Iterable[str]) -> None:
        """Give the parameters of these keys a gradient of zeros where they have none."""
        for key in keys:
            if self.weights[key].grad is None:
                self.weights[key].grad = self._zeroed(key)

    @torch.no_grad()
    def at_sixteen(self) -> Weights:
        """Every shared parameter rounded to bfloat16, by its key, as it is now; valid until the next call.

        Each value is rounded by itself, so slices of these are the rounded slices: once for all subnets of a
        step (see `Subnet.leaves`), in a few operations. A second copy of all weights, which share one dtype.
        """
        if list(self._sixteen) != list(self.weights):
            self._rounded = self._in_one_piece()
            self._sixteen = dict(zip(self.weights, self._cut(self._rounded), strict=True))
        torch._foreach_copy_(list(self._sixteen.values()), list(self.weights.values()))
        self._rounded.copy_(self._rounded.to(torch.bfloat16))
        return self._sixteen

    def _in_one_piece(self) -> Tensor:
        """Zeros for all parameters, each aligned."""
        weights = list(self.weights.values())
        return weights[0].new_zeros(sum(_aligned_size(weight.shape) for weight in weights))

    def _cut(self, flat: Tensor) -> list[Tensor]:
        """Values that lie in one piece, in the shapes of the parameters, each aligned."""
        shapes = [weight.shape for weight in self.weights.values()]
        parts = flat.split([_aligned_size(shape) for shape in shapes])
        return [part[: shape.numel()].view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _zeroed(self, key: str) -> Tensor:
        """A gradient of zeros. All gradients lie in one piece, which is zeroed at once (`zero_grad`)."""
        if self._gradients is None:
            self._gradients = self._in_one_piece()
            self._gradient_of = dict(zip(self.weights, self._cut(self._gradients), strict=True))
        if key in self._written:  # whoever trains dropped the gradients without `zero_grad`
            self._gradient_of[key].zero_()
        self._written.add(key)
        return self._gradient_of[key]


def _kind_of(key: str) -> str:
    """The kind of block whose parameter has this key (`layers.0.sequence_mixer:Attention.mixer.wq`)."""
    return key.partition(":")[2].partition(".")[0]


def _aligned_size(shape: torch.Size) -> int:
    return shape.numel() + -shape.numel() % ALIGNED


def at_bits(values: Tensor, bits: WeightFormat | None) -> Tensor:
    """Values rounded to a format, gradients passing straight through; as they are without one."""
    return values if bits is None else round_to_bits(values, bits)


def leading(shape: Iterable[int]) -> tuple[slice, ...]:
    """The index of the leading slice of this shape."""
    return tuple(slice(size) for size in shape)
