"""A sequence mixer that reads the embedding of its token beside the residual stream, as an option of a layer.

    y = W_x (g_x * x / r) + W_e (g_e * e / r)        r^2 = mean over x and e together of their squares

This is what Zamba's shared attention reads (Glorioso et al. 2024, arXiv:2405.16712): a root mean square norm
and a linear map of x and e side by side. There the map is that of queries, keys and values, 2 D wide; here it
comes before the mixer, so that any block can stand behind it. Weights are [D, 2, D], not [D, 2 D], so that a
leading slice is that of a narrower network.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Cost
from search_spaces.network.norms.base import Norm, Normalized, norm_axes
from search_spaces.network.options.base import LayerOption, OptionModule
from search_spaces.network.shell import Shell
from search_spaces.ops.linear import fill, merge
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@dataclass(frozen=True)
class ReadsEmbedding(LayerOption):
    """The field holds whether the layer's sequence mixer reads the embedding."""

    computed: ClassVar[Literal["all", "passing", "staying"]] = "passing"

    @classmethod
    def of(cls, value: Any) -> ReadsEmbedding | None:
        """From true; false does not read it.

        Raises:
            IllegalArchitecture: neither true nor false.
        """
        if not isinstance(value, bool):
            raise IllegalArchitecture(f"reads_embedding must be true or false, got {value!r}")
        return cls() if value else None

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """True."""
        return (True,)

    @classmethod
    def layout(cls) -> Layout:
        """The axes of the norm and the map."""
        return Layout(norm_axes() | {"weight": "D . D"}, "D")

    def build(self, shell: Shell) -> EmbeddingReader:
        """The norm and the map."""
        return EmbeddingReader(shell.d_model, shell.norm)

    def cost(self, shell: Shell, scenario: Scenario) -> Cost:
        """The map, and the norm of the embedding."""
        return reader_cost(shell.d_model, scenario) + Cost(params=shell.norm.params(shell.d_model))

    def __str__(self) -> str:
        return "reads the embedding"


class EmbeddingReader(OptionModule, Normalized):
    """What a sequence mixer reads [..., D], of x and the embedding e of the same tokens [..., D]."""

    def __init__(self, d_model: int, norm: Norm) -> None:
        super().__init__()
        self.add_norm(norm, d_model)
        self.weight = nn.Parameter(torch.empty(d_model, 2, d_model))

    def forward(self, x: Tensor, embedded: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """`vectors` [D] are those of the sublayer's norm, for x; for e the reader has vectors of its own."""
        pairs = [torch.stack((vectors[name], own)) for name, own in self.norm_vectors.items()]
        both = torch.stack((x, embedded), dim=-2)
        return merge(self.norm_rule.apply(both, both.shape[-2:], pairs), self.weight)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; the norm as always."""
        self.reset_norm()
        fill(self.weight, 2 * self.weight.shape[-1], dice)


def reader_cost(d_model: int, scenario: Scenario) -> Cost:
    """The map, without the norm."""
    per_token = 4 * scenario.batch * d_model * d_model
    return Cost(2 * d_model * d_model, scenario.prompt * per_token, per_token)
