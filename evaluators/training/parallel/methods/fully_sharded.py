"""Fully sharded data parallelism: processes share weights, gradients and optimizer state, not rows.

`torch.distributed.fsdp.fully_shard` (FSDP2) keeps a part of every parameter along its first axis, gathers a
layer before it is used, and scatters the averaged gradients. With `fsdp.reshard=true` a layer is given up
after its forward pass and gathered again for the backward pass (ZeRO stage 3: Rajbhandari et al. 2020,
arXiv:1910.02054, section 5.3), without it is kept (stage 2 of gradients and optimizer state, for less
traffic).

Beside `dp`, replicas of the sharded network average their gradients as well (hybrid sharding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.distributed.fsdp import fully_shard

from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.methods.base import Method, Shape, methods
from evaluators.training.parallel.network import Holder
from foundation.errors import SettingError
from foundation.settings import setting
from search_spaces.network.decoder import Decoder


@methods.add
@dataclass(frozen=True, kw_only=True)
class FullySharded(Method):
    """Everything that is held is shared; each process reads different rows."""

    name: ClassVar[str] = "fsdp"
    summary: ClassVar[str] = (
        "Fully sharded (FSDP2): processes that share weights, gradients and optimizer state."
    )
    place: ClassVar[int] = 2
    beside: ClassVar[tuple[str, ...]] = ("dp", "tp")
    reads: ClassVar[bool] = True

    reshard: bool = setting(
        True, help="Give up gathered weights after the forward pass (ZeRO 3); false keeps them (ZeRO 2)."
    )

    @property
    def cuts(self) -> bool:
        """Each process holds rows of every parameter."""
        return True

    def check(self, spec: Decoder) -> None:
        """Layers that share their weights would be gathered and given up at the same time."""
        if any(layer.shared is not None for layer in spec.layers):
            raise SettingError("layers that share their weights cannot be sharded: use dp.zero=1, or tp")

    def shard(self, holder: Holder, grid: Grid) -> None:
        """Share every layer, and then what stands around the layers."""
        axes = ("dp", "fsdp") if grid.size("dp") > 1 else ("fsdp",)
        mesh = grid.submesh(*axes)
        for _, layer in holder.network.placed_layers():
            for unit in filter(None, (layer.exit, layer)):
                fully_shard(unit, mesh=mesh, reshard_after_forward=self.reshard)
        fully_shard(holder, mesh=mesh, reshard_after_forward=self.reshard)

    def local(self, spec: Decoder, name: str, shape: Shape, index: int) -> Shape | None:
        """Rows of the first axis, as `torch.chunk` shares them."""
        rows = -(-shape[0] // self.degree)
        return (max(0, min(rows, shape[0] - index * rows)), *shape[1:])

    def gathered(self, units: dict[str, int]) -> int:
        """All layers, or what stands around them, the layer that computes, and the one that comes next."""
        if not self.reshard:
            return sum(units.values())
        layers = sorted((values for unit, values in units.items() if unit), reverse=True)
        return units.get("", 0) + sum(layers[:2])
