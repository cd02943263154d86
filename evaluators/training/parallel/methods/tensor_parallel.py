"""Tensor parallelism: every block is a sum of parts, one for each process (`search_spaces.splitting`).

    y = sum_over_processes part(copy(x))

Two sums a block, one forward and one backward (Shoeybi et al. 2019, arXiv:1909.08053, section 3). What no
block owns (embedding, norms, routers of layers) every process holds and computes alike. The parts are plain
tensors and not DTensors, because scans and kernels take no others; what DTensor would know about them, the
axis that was cut, is in the plan of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.methods.base import Method, Shape, methods
from evaluators.training.parallel.network import PREPARED, Cut, Prepare, Shared
from foundation.errors import SettingError
from foundation.settings import setting
from search_spaces.blocks.base import Block, Mixed, State
from search_spaces.network.decoder import Decoder
from search_spaces.network.layer import DecoderLayer
from search_spaces.ops.shards import Sum, split_into
from search_spaces.quantization.bits import WeightFormat, is_matrix
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.splitting import Split, split_of


@methods.add
@dataclass(frozen=True, kw_only=True)
class TensorParallel(Method):
    """Blocks split by heads, channels or experts' channels, as their layouts say."""

    name: ClassVar[str] = "tp"
    summary: ClassVar[str] = "Tensor parallelism: processes that each compute a part of every block."
    place: ClassVar[int] = 3
    beside: ClassVar[tuple[str, ...]] = ("dp", "fsdp", "pp")

    whole: bool = setting(
        False,
        help="Let every process compute blocks that cannot be split as a whole, instead of refusing them.",
    )

    @property
    def cuts(self) -> bool:
        """Each process holds a part of every block."""
        return True

    def check(self, spec: Decoder) -> None:
        """Every block must be a sum of parts."""
        for number, layer in enumerate(spec.layers):
            if layer.precision is not None and self.degree > 1:
                raise SettingError(
                    f"tp={self.degree}, layers.{number}: leading bits are those of whole rows of a matrix,"
                    " and a process has a part of them: train a network with adaptive precision without tp"
                )
            for place, block in layer.blocks.items():
                try:
                    self.split(block, spec.d_model)
                except SettingError as error:
                    raise SettingError(
                        f"tp={self.degree}, layers.{number}.{place}: {error}. Choose another tp, or"
                        " tp.whole=true, by which every process computes such blocks as a whole"
                    ) from None

    def split(self, block: Block, d_model: int) -> Split | None:
        """The split of a block; None where every process computes it as a whole.

        Raises:
            SettingError: it cannot be split.
        """
        try:
            return _checked(block, d_model, split_of(block, d_model, self.degree))
        except SettingError:
            if self.whole:
                return None
            raise

    def divide(self, network: Shared, grid: Grid) -> None:
        """Keep this process's part of every block."""
        if self.degree == 1:
            return
        sums = _Sums(grid)
        done: set[int] = set()
        for number, layer in network.placed_layers():
            for place, sublayer in layer.sublayers.items():
                split = self.split(sublayer.block, network.spec.d_model)
                if split is None or id(sublayer) in done:
                    continue
                done.add(id(sublayer))
                _cut(layer, f"{place}.mixer", split, sums)
                for name in dict(sublayer.mixer.named_parameters()):
                    path = f"layers.{number}.{place}.mixer.{name}"
                    network.plan.cuts[path] = Cut(split.cuts.get(name), split.count, grid.index("tp"))

    def local(self, spec: Decoder, name: str, shape: Shape, index: int) -> Shape | None:
        """Of a split block, the part of the axis that is cut."""
        parts = name.split(".", 4)
        if len(parts) < 5 or parts[3] != "mixer":
            return shape
        if self.degree == 1:
            return shape
        block = spec.layers[int(parts[1])].blocks[parts[2]]
        split = self.split(block, spec.d_model)
        return shape if split is None else split.shape(parts[4], shape)


def _checked(block: Block, d_model: int, split: Split) -> Split:
    """A split whose parts are matrices where the parameters are: only those decay and are rounded."""
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in block.build(d_model).named_parameters()}
    for name, shape in shapes.items():
        part = split.shape(name, shape)
        if is_matrix(shape) != is_matrix(part):
            kind = type(block).__name__
            raise SettingError(
                f"{kind} cannot be split into {split.count} parts: rows of {name} would be {part[-1]} long"
            )
    return split


def _cut(layer: DecoderLayer, path: str, split: Split, sums: _Sums) -> None:
    """Put the part of this process in the place of a mixer's parameters, and let the mixer compute it."""
    mixer = layer.get_submodule(path)
    prepared: dict[str, Prepare] = dict(getattr(layer, PREPARED, {}))
    for name, weight in list(mixer.named_parameters()):
        holder, _, own = name.rpartition(".")
        module, dim = mixer.get_submodule(holder), split.cuts.get(name)
        if dim is not None:
            module.register_parameter(
                own, nn.Parameter(weight.new_empty(split.shape(name, tuple(weight.shape))))
            )
        prepared[f"{path}.{name}"] = _preparation(sums, dim, last=weight.dim() - 1)
    setattr(layer, PREPARED, prepared)
    mixer.forward = MethodType(_part_forward(split.count, sums), mixer)


def _preparation(sums: _Sums, dim: int | None, *, last: int) -> Prepare:
    """A weight on its way into a part: gradients of what is whole are summed, and rows are rounded whole."""

    def prepare(weight: Tensor, stored: WeightFormat | None) -> Tensor:
        if dim is None:
            weight = sums.copied(weight)
        if stored is None:
            return weight
        if dim == last and stored.bits != 16:  # the scale of a row is that of all its values
            return sums.own_part(round_to_bits(sums.gathered(weight, dim), stored), dim)
        return round_to_bits(weight, stored)

    return prepare


def _part_forward(count: int, sums: _Sums) -> Callable[..., Mixed]:
    """The forward pass of a mixer whose part is computed here."""

    def forward(mixer: Any, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        with split_into(count, sums.of_all):
            mixed: Mixed = type(mixer).forward(mixer, sums.copied(x), state, position)
        # every process adds the same auxiliary loss, and their gradients are summed
        loss = None if mixed.loss is None else sums.shared(mixed.loss / count)
        return Mixed(sums.summed(mixed.y), mixed.state, loss, mixed.metrics)

    return forward


class _Sums:
    """Sums over the processes of an axis, with what their gradients are."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.count, self.index = grid, grid.size("tp"), grid.index("tp")

    def copied(self, x: Tensor) -> Tensor:
        """x, whose gradient is the sum over the parts that read it."""
        if self.grid.mesh is None:  # nobody is there: shapes are looked at
            return x
        copied: Tensor = _Copy.apply(x, self.grid.group("tp"))
        return copied

    def summed(self, x: Tensor) -> Tensor:
        """The sum of the parts, read alike by all processes."""
        if self.grid.mesh is None:
            return x
        total: Tensor = _Sum.apply(x, self.grid.group("tp"))
        return total

    @property
    def of_all(self) -> Sum:
        """The sum of a figure that each part goes on with in its own way."""
        return lambda x: self.copied(self.summed(x))

    def shared(self, loss: Tensor) -> Tensor:
        """The sum of the parts' equal shares of a loss."""
        return self.summed(loss)

    def gathered(self, x: Tensor, dim: int) -> Tensor:
        """All parts along an axis, of which this process goes on with its own (`own_part`)."""
        shape = list(x.shape)
        shape[dim] *= self.count
        whole = x.new_zeros(shape)
        begin = self.index * x.shape[dim]
        return self.summed(whole.slice_scatter(x, dim, begin, begin + x.shape[dim]))

    def own_part(self, x: Tensor, dim: int) -> Tensor:
        """This process's part of all."""
        return x.chunk(self.count, dim)[self.index].contiguous()


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
