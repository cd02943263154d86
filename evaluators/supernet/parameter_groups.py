"""What moves together when a supernet is sorted: the shared weights of one block at one place.

Beside the blocks these are the shell of the network, its norms and the parameters of layer options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.network.decoder import OPTIONS
from search_spaces.network.norms.base import all_vectors, norm_axes
from search_spaces.network.shell import EMBEDDING, Shell
from search_spaces.network.sublayers import cannot_build
from search_spaces.parameter_axes import WIDTH, Layout
from search_spaces.supernet import Supernet, inventory


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters of one block at one place (or of what stands beside the blocks), with their layout.

    `symmetric` are the letters that have no order in any of its networks; `weights` are the shared ones.
    """

    path: str
    prefix: str
    layout: Layout
    symmetric: str
    weights: Mapping[str, Tensor]

    @property
    def sizes(self) -> dict[str, int]:
        """The entries of each letter in the shared weights."""
        return self.layout.sizes({name: tuple(w.shape) for name, w in self.weights.items()})

    def names_with(self, letter: str) -> list[str]:
        """The parameters here that have a letter."""
        return [name for name in self.layout.parameters_with(letter) if name in self.weights]


def legal(variants: Mapping[tuple[Block, int], None]) -> list[tuple[Block, int]]:
    """The blocks and widths that can be built."""
    return [variant for variant in variants if not cannot_build(*variant)]


def group_of(supernet: Supernet, path: str, blocks: Sequence[Block]) -> ParameterGroup | None:
    """The weights of one kind of block at one place; None without a layout, or with several."""
    prefix = f"{path}.mixer."
    declared = [block.layout() for block in dict.fromkeys(blocks)]
    layouts = [layout for layout in declared if layout is not None]
    if not layouts:
        return None
    first = layouts[0]
    if any((layout.axes, layout.within) != (first.axes, first.within) for layout in layouts):
        return None  # mixers of other kinds side by side: a letter is not one thing in all of them
    symmetric = [letter for letter in first.sortable if all(letter in layout.sortable for layout in layouts)]
    return ParameterGroup(path, prefix, first, "".join(symmetric), _weights(supernet, prefix))


def _weights(supernet: Supernet, prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): weight.detach()
        for key, weight in supernet.weights.items()
        if key.startswith(prefix)
    }


def residual_groups(supernet: Supernet) -> Iterator[ParameterGroup]:
    """Everything that has channels of the residual stream."""
    shell = Shell.layout()
    outer = {name: supernet.weights[name].detach() for name in shell.axes if name in supernet.weights}
    yield ParameterGroup(EMBEDDING, "", shell, WIDTH, outer)
    held = inventory(supernet.space.root)
    for (place, kind), variants in held.variants.items():
        path = f"{place}:{kind}"
        vectors = {
            name: supernet.weights[f"{path}.{name}"].detach() for name in all_vectors(held.norms[place, kind])
        }
        yield ParameterGroup(path, f"{path}.", Layout(norm_axes(), WIDTH), WIDTH, vectors)
        group = group_of(supernet, path, [block for block, _ in legal(variants)])
        if group is None:
            yield ParameterGroup(path, f"{path}.mixer.", Layout({}, ""), "", {})
        elif group.weights:
            yield group
    for path in held.options:
        layout = OPTIONS[path.rpartition(".")[2]].layout()
        weights = _weights(supernet, f"{path}.")
        if weights:
            yield ParameterGroup(path, f"{path}.", layout, layout.sortable, weights)
