"""A sublayer as a function of tensors: what it reads, then its weights.

Two sublayers of equal block, width and norm differ in their weights only, and are one function. Where nothing
but the weights follows the width (`evaluators.training.any_width`), those of all widths are one, too.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.training.any_width import Axes, open_axes
from search_spaces.blocks.base import Block
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.reads_embedding import EmbeddingReader
from search_spaces.network.residual import Embedded, Residual
from search_spaces.network.sublayers import cannot_build
from search_spaces.quantization.bits import Bits

Run: TypeAlias = Callable[..., Any]

WIDTH = 2
"""The axis of what a sublayer reads [B, T, D] that is the width."""


PART = "part"
"""The attribute of a sublayer with its `Part`; without it, it computes its whole block."""


class Part(Hashable, Protocol):
    """How a sublayer computes a part of its block, and sums it over those who compute the others."""

    def put_into(self, mixer: nn.Module) -> None:
        """Let the mixer of the whole block compute with the weights of the part."""

    def traced(self) -> AbstractContextManager[Any]:
        """The context in which a compiler follows it: on trial, with nobody to sum with."""


def part_of(sublayer: Residual) -> Part | None:
    """The part of its block that a sublayer computes; None where that is all."""
    part: Part | None = getattr(sublayer, PART, None)
    return part


class HalfLayer(NamedTuple):
    """A sublayer with its norm and sum, which may read the embedding, and add to something else than x."""

    block: Block
    bits: Bits
    norm: Norm
    reads: bool
    adds: bool
    part: Part | None = None

    @property
    def about(self) -> tuple[Any, ...]:
        """What makes it another function; weights come in rounded to their bits."""
        return self.block, self.bits.rounding, self.norm, self.reads, self.adds, self.part

    def traced(self) -> AbstractContextManager[Any]:
        """The context in which it is compiled."""
        return nullcontext() if self.part is None else self.part.traced()

    @property
    def given(self) -> int:
        """How many inputs stand before the weights: x, the embedding if it is read, what x is added onto."""
        return 1 + self.reads + self.adds

    def function(self, d_model: int) -> Run:
        """What gives y [B, T, D] and a loss or None, of its inputs and weights."""
        module = _Half(self.block, self.bits, self.norm, self.reads, d_model)
        if self.part is not None:
            self.part.put_into(module.sublayer.mixer)
        names = [name for name, _ in module.named_parameters()]
        given = self.given

        def region(*inputs: Tensor) -> Any:
            weights = dict(zip(names, inputs[given:], strict=True))
            return functional_call(module, weights, inputs[:given], tie_weights=False)

        return region

    def axes(self, widths: Sequence[int]) -> Axes | None:
        """The axes of its inputs that follow the width; None where each width is a function of its own."""
        if self.part is not None:
            return None
        of_weights = _axes(self.block, self.bits, self.norm, self.reads, tuple(widths))
        return None if of_weights is None else ((WIDTH,),) * self.given + of_weights


def weights_of(sublayer: Residual, reader: EmbeddingReader | None) -> list[Tensor]:
    """Those of a sublayer and of what reads the embedding for it, in the order of the function."""
    modules = [sublayer] if reader is None else [sublayer, reader]
    return [weight for module in modules for weight in module.parameters()]


class _Half(nn.Module):
    """A sublayer and, where it reads the embedding, what reads it; without values."""

    def __init__(self, block: Block, bits: Bits, norm: Norm, reads: bool, d_model: int) -> None:
        super().__init__()
        with torch.device("meta"):
            self.sublayer = Residual(block, d_model, bits, norm)
            self.reader = EmbeddingReader(d_model, norm) if reads else None

    def forward(self, x: Tensor, *more: Tensor) -> tuple[Tensor, Tensor | None]:
        """x, the embedding if it is read, and what the sum is made onto if not x, all [B, T, D]."""
        embedded = None if self.reader is None else Embedded(self.reader, more[0])
        onto = more[0 if self.reader is None else 1 :]
        mixed = self.sublayer(x, None, 0, embedded, *onto)
        return mixed.y, mixed.loss


@cache
def _axes(block: Block, bits: Bits, norm: Norm, reads: bool, widths: tuple[int, ...]) -> Axes | None:
    buildable = [width for width in widths if not cannot_build(block, width)]
    return open_axes(partial(_Half, block, bits, norm, reads), buildable)
