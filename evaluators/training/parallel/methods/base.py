"""The contract of a way to share a training among processes; one file of `methods` each.

A network is shared in two moments. On the meta device each method divides it (`divide`, `shard`): what this
process does not hold is cut away before any memory is taken. When the rest has its values, `connect` makes
the processes work together, and `with_optimizer` shares the steps. What a process then holds follows from the
same geometry (`local`), which is why the bytes of a training are known before it begins (`parallel.memory`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.network import Holder, Shared
from foundation.components import Part
from foundation.errors import SettingError
from foundation.registry import Registry
from foundation.settings import Settings, setting
from search_spaces.network.decoder import Decoder

methods: Registry[type[Method]] = Registry(
    "method of parallel training", folder="evaluators.training.parallel.methods"
)

M = TypeVar("M", bound="Method")

MOST_PROCESSES = 2**16

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Method(Part):
    """One way to share a training, among `degree` processes; of degree 1 it does nothing.

    `place` orders the axes of the grid: neighbours in the last one talk most. `beside` are the methods that
    it works together with; that either of two names the other is enough. `reads` says whether its processes
    read different rows of a batch, and `uncompiled` why sublayers cannot be compiled by it (empty: they can).
    """

    registry: ClassVar[Registry[type[Method]]] = methods
    summary: ClassVar[str]
    place: ClassVar[int]
    beside: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[bool] = False
    uncompiled: ClassVar[str] = ""

    degree: int = setting(1, help="Processes along this axis.", least=1, most=MOST_PROCESSES)

    @classmethod
    def from_word(cls: type[M], word: str) -> M:
        """The method with a degree, as in `dp=2`.

        Raises:
            SettingError: it is no whole number of at least one.
        """
        return cls._made(parse_degree(cls, word))

    @property
    def cuts(self) -> bool:
        """Whether a process sees parts of parameters, or makes the steps of some of them only."""
        return False

    def check(self, spec: Decoder) -> None:
        """Raise `SettingError` where a network cannot be shared like this."""

    def least_pieces(self) -> int:
        """Pieces in which each process must read its rows of a batch, at least."""
        return 1

    def divide(self, network: Shared, grid: Grid) -> None:
        """Cut away what this process does not hold; the network is on the meta device."""

    def shard(self, holder: Holder, grid: Grid) -> None:
        """Share what is left parameter by parameter; still on the meta device."""

    def connect(self, module: nn.Module, grid: Grid) -> nn.Module:
        """Make the processes work together on a module whose parameters have their values."""
        return module

    def with_optimizer(self, optimizer: torch.optim.Optimizer, grid: Grid) -> torch.optim.Optimizer:
        """The optimizer whose steps are shared."""
        return optimizer

    def local(self, spec: Decoder, name: str, shape: Shape, index: int) -> Shape | None:
        """The shape of a parameter's part in the process of this index; None where it holds nothing of it."""
        return shape

    def gathered(self, units: dict[str, int]) -> int:
        """Values of weights that are held for a while beside the local ones; `units` are values by layer."""
        return 0

    def optimizer_share(self, groups: list[list[int]], index: int) -> int:
        """Values, of groups of parameters of these sizes, whose states the process of this index holds."""
        return sum(map(sum, groups))

    def __str__(self) -> str:
        """As it is written: `dp=2,dp.zero=1`."""
        plain, default = self.to_plain(), type(self)().to_plain()
        rest = {k: v for k, v in plain.items() if k not in ("name", "degree") and v != default[k]}
        texts = (f"{self.name}.{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in rest.items())
        return ",".join((f"{self.name}={self.degree}", *texts))


def parse_degree(kind: type[Settings], word: str) -> dict[str, Any]:
    """The degree of a method from its text."""
    try:
        degree = int(word)
    except ValueError:
        raise SettingError(
            f"{getattr(kind, 'name', kind.__name__)} must be a whole number, got {word!r}"
        ) from None
    return {"degree": degree}
