"""Pipeline parallelism: each process holds some layers, and pieces of the batch pass through all of them.

`torch.distributed.pipelining` sends activations and gradients. The schedule is `gpipe`, all pieces forward
and then all backward (Huang et al. 2019, arXiv:1811.06965), or `1f1b`, which goes backward as soon as it can
and so keeps the activations of as many pieces as there are stages (Narayanan et al. 2019, PipeDream-Flush).

The embedding is tied to the output head: the first and the last stage both hold it and add up its gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.methods.base import Method, Shape, methods
from evaluators.training.parallel.network import Shared
from foundation.errors import SettingError
from foundation.settings import setting
from search_spaces.network.decoder import Decoder


@methods.add
@dataclass(frozen=True, kw_only=True)
class Pipeline(Method):
    """Stages of layers."""

    name: ClassVar[str] = "pp"
    summary: ClassVar[str] = "Pipeline parallelism: processes that each hold some of the layers."
    place: ClassVar[int] = 0
    beside: ClassVar[tuple[str, ...]] = ("dp", "tp")

    schedule: str = setting(
        "1f1b", help="In which order pieces of the batch pass.", choices=("1f1b", "gpipe")
    )

    def check(self, spec: Decoder) -> None:
        """Each stage needs a layer, and only the residual stream may pass from one to the next."""
        depth = len(spec.layers)
        if self.degree > depth:
            raise SettingError(f"each stage needs a layer, and this network has {depth}")
        across = {
            "soft prompt": spec.soft_prompt is not None,
            "exits": any(layer.exit is not None for layer in spec.layers),
            "layers that read the embedding": any(layer.reads_embedding for layer in spec.layers),
            "layers that share their weights": any(layer.shared is not None for layer in spec.layers),
        }
        if found := [what for what, there in across.items() if there]:
            raise SettingError(f"stages hand over the residual stream alone, so no {found[0]}: leave pp out")

    def least_pieces(self) -> int:
        """`1f1b` fills the pipeline before it goes backward."""
        return self.degree if self.schedule == "1f1b" else 1

    def layers_of(self, depth: int, index: int) -> range:
        """The layers of a stage; earlier ones have one more where they cannot have equally many."""
        size, more = divmod(depth, self.degree)
        begin = index * size + min(index, more)
        return range(begin, begin + size + (index < more))

    def divide(self, network: Shared, grid: Grid) -> None:
        """Keep the layers of this stage."""
        index = grid.index("pp")
        numbers = self.layers_of(len(network.spec.layers), index)
        network.keep(numbers, first=index == 0, last=index == self.degree - 1)
        network.plan.holders |= dict.fromkeys(network.shell.at_both_ends, 2)

    def local(self, spec: Decoder, name: str, shape: Shape, index: int) -> Shape | None:
        """All of a parameter, in the stage that holds it."""
        shell = spec.shell
        if not name.startswith("layers."):
            first, last = index == 0, index == self.degree - 1
            needed = (first and name in shell.reads) or (last and name in shell.predicts)
            return shape if needed else None
        held = int(name.split(".")[1]) in self.layers_of(len(spec.layers), index)
        return shape if held else None
