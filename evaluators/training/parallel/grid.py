"""The processes of a training as a grid: one axis for each method, and sums along them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from search_spaces.devices import kind_of_device


@dataclass(frozen=True)
class Grid:
    """This process among others: `sizes` by axis, its `indices`, and the mesh of all (None: alone)."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    indices: Mapping[str, int] = field(default_factory=dict)
    mesh: DeviceMesh | None = None
    rank: int = 0
    device: torch.device = torch.device("cpu")

    @property
    def count(self) -> int:
        """Processes in all."""
        return 1 if self.mesh is None else self.mesh.size()

    def size(self, axis: str) -> int:
        """Processes along an axis."""
        return self.sizes.get(axis, 1)

    def index(self, axis: str) -> int:
        """The place of this process on an axis."""
        return self.indices.get(axis, 0)

    def group(self, axis: str) -> dist.ProcessGroup:
        """The processes along an axis, this one among them."""
        assert self.mesh is not None, "a training in one process has no groups"
        return self.mesh.get_group(axis)

    def submesh(self, *axes: str) -> DeviceMesh:
        """The mesh of some axes."""
        assert self.mesh is not None, "a training in one process has no mesh"
        return self.mesh[axes]

    def sum_all(self, x: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def all_wish(self, axis: str, wish: bool) -> bool:
        """Whether all processes along an axis wish something; all of them must ask."""
        against = torch.tensor(float(not wish), device=self.device)
        dist.all_reduce(against, group=self.group(axis))
        return not against.item()

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.sum_all(torch.zeros(1, device=self.device))


def make_grid(sizes: Mapping[str, int], *, device: str) -> Grid:
    """The grid of the processes of the default group; its axes in the order given.

    All processes must call this.
    """
    kind = kind_of_device(device)
    here = torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(device)
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return Grid(dict(sizes), dict.fromkeys(sizes, 0), device=here)
    mesh = init_device_mesh(kind, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
    indices = {axis: mesh.get_local_rank(axis) for axis in sizes}
    return Grid(dict(sizes), indices, mesh, dist.get_rank(), here)
