"""Independent implementations of blocks, to check ours against.

A reference is built at the size of a block and given its weights; the block, run on leading slices of larger
weights, must then compute the same outputs and gradients (`search_spaces.parity`). Most come from
transformers (the `dev` extra), which is imported only when a reference is built; where no implementation
exists, a second formulation is written from the paper's equation, e.g. one token at a time.

    @reference(Attention, source="transformers LlamaAttention", needs="transformers")
    def llama(spec, weights, d_model): ...        # returns a function from x [B, T, D] to y [B, T, D]

A short reference stands in the file of its block, the others in this folder. A block that is from no paper
needs none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from foundation.registry import Registry
from search_spaces.blocks.base import Block

Weights: TypeAlias = dict[str, Tensor]
"""Parameters of a block by name."""

Function: TypeAlias = Callable[[Tensor], Tensor]


Build: TypeAlias = Callable[[Any, Weights, int], Function]
"""Makes the reference of a block from its spec, its weights and d_model."""


@dataclass(frozen=True)
class Reference:
    """How to build what a block is checked against; `needs` is the package that must be installed."""

    name: str
    source: str
    needs: str | None
    build: Build

    @property
    def installed(self) -> bool:
        """Whether it can be built here."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


references: Registry[Reference] = Registry("reference", folder="search_spaces.references")


def reference(kind: type[Block], *, source: str, needs: str | None = None) -> Callable[[Build], Build]:
    """Register a function as what blocks of this kind are checked against.

    `source` says where it is from, `needs` which package must be installed.
    """

    def register(build: Build) -> Build:
        references.add(Reference(kind.__name__, source, needs, build))
        return build

    return register


def reference_of(kind: type[Block]) -> Reference | None:
    """What blocks of this kind are checked against, None where no reference was declared."""
    if kind.__name__ not in references:
        return None
    return references[kind.__name__]


def put(into: nn.Module, **values: Tensor) -> None:
    """Fill every parameter of a reference, by name; dots are written as two underscores.

    Raises:
        ValueError: a parameter that is not named, or a name that is no parameter.
    """
    named = {name.replace("__", "."): value for name, value in values.items()}
    parameters = dict(into.named_parameters())
    if set(named) != set(parameters):
        raise ValueError(f"these are on one side only: {sorted(set(named) ^ set(parameters))}")
    with torch.no_grad():
        for name, value in named.items():
            parameters[name].copy_(value.reshape(parameters[name].shape))
