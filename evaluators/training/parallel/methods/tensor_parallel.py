"""Tensor parallelism: every block is a sum of parts, one for each process (`search_spaces.splitting`).

    y = sum_over_processes part(copy(x))

Two sums a block, one forward and one backward (Shoeybi et al. 2019, arXiv:1909.08053, section 3). What no
block owns (embedding, norms, routers of layers) every process holds and computes alike. The parts are plain
tensors and not DTensors, because scans and kernels take no others; what DTensor would know about them, the
axis that was cut, is in the plan of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evaluators.training.half_layer import PART
from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.methods.base import Method, Shape, methods
from evaluators.training.parallel.network import PREPARED, Cut, Prepare, Shared
from evaluators.training.parallel.sums import Sums, alone
from foundation.errors import SettingError
from foundation.settings import setting
from search_spaces.blocks.base import Block, Mixed, State
from search_spaces.network.decoder import Decoder
from search_spaces.network.layer import DecoderLayer
from search_spaces.quantization.bits import WeightFormat, takes_few_bits
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
                    f"layers.{number}: leading bits are those of whole rows of a matrix,"
                    " and a process has a part of them: train a network with adaptive precision without tp"
                )
            for place, block in layer.blocks.items():
                try:
                    self.split(block, spec.d_model)
                except SettingError as error:
                    raise SettingError(
                        f"layers.{number}.{place}: {error}. Choose another tp, or"
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
        sums = Sums.along(grid, "tp")
        done: set[int] = set()
        for number, layer in network.placed_layers():
            for place, sublayer in layer.sublayers.items():
                split = self.split(sublayer.block, network.spec.d_model)
                if split is None or id(sublayer) in done:
                    continue
                done.add(id(sublayer))
                setattr(sublayer, PART, BlockPart(sums))
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
        if takes_few_bits(block, name, shape) != takes_few_bits(block, name, part):
            kind = type(block).__name__
            raise SettingError(
                f"{kind} cannot be split into {split.count} parts: rows of {name} would be {part[-1]} long"
            )
    return split


def _cut(layer: DecoderLayer, path: str, split: Split, sums: Sums) -> None:
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
    BlockPart(sums).put_into(mixer)


def _preparation(sums: Sums, dim: int | None, *, last: int) -> Prepare:
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


@dataclass(frozen=True)
class BlockPart:
    """A part of a block, whose output is summed over the processes that compute the others."""

    sums: Sums

    def put_into(self, mixer: nn.Module) -> None:
        """Let a mixer compute with the parts of its parameters."""
        mixer.forward = MethodType(_part_forward(self.sums), mixer)

    @contextmanager
    def traced(self) -> Iterator[None]:
        """While it is compiled: a compiler follows no context that it would enter itself."""
        with self.sums.split(), alone():
            yield


def _part_forward(sums: Sums) -> Callable[..., Mixed]:
    """The forward pass of a mixer whose part is computed here."""

    def forward(mixer: Any, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        read = sums.copied(x)
        if torch.compiler.is_compiling():
            mixed: Mixed = type(mixer).forward(mixer, read, state, position)
        else:
            with sums.split():
                mixed = type(mixer).forward(mixer, read, state, position)
        # every process adds the same auxiliary loss, and their gradients are summed
        loss = None if mixed.loss is None else sums.shared(mixed.loss / sums.count)
        return Mixed(sums.summed(mixed.y), mixed.state, loss, mixed.metrics)

    return forward
