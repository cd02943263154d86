"""The shell of a network, what stands around its layers: embedding, last norm, and the tied output head.

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Cost
from search_spaces.network.norms.base import Norm, Normalized, norm_axes
from search_spaces.network.norms.rms_norm import DEFAULT
from search_spaces.network.scaling import Role, readout_start
from search_spaces.parameter_axes import Layout
from search_spaces.quantization.bits import WeightFormat, weight_bytes
from search_spaces.scenario import Scenario

EMBEDDING = "embedding"
"""The parameter that a supernet keeps for the embedding and the tied output head; also its random place."""


@dataclass(frozen=True)
class Shell:
    """A shell over `vocab` tokens, `d_model` wide; `norm` is that of the whole network."""

    vocab: int
    d_model: int
    norm: Norm = DEFAULT

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        return {EMBEDDING: (self.vocab, self.d_model)} | self.norm.shapes(self.d_model)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the parameters as an exported model stores them."""
        return weight_bytes((self.vocab, self.d_model), WeightFormat()) + self.norm.stored_bytes(self.d_model)

    @property
    def roles(self) -> dict[str, Role]:
        """The role of every parameter."""
        readout = dict.fromkeys(self.norm.vectors, Role("readout", self.d_model))
        return {EMBEDDING: Role("embedding", self.d_model), **readout}

    @staticmethod
    def layout() -> Layout:
        """The axes of its parameters."""
        return Layout({EMBEDDING: ". D"} | norm_axes(), "D")

    def cost(self, scenario: Scenario) -> Cost:
        """Analytic parameters and FLOPs."""
        flops = self.logits_flops(scenario)
        params = self.vocab * self.d_model + self.norm.params(self.d_model)
        return Cost(params, scenario.prompt * flops, flops)

    def logits_flops(self, scenario: Scenario) -> int:
        """FLOPs of the logits of one token of each sequence."""
        return 2 * scenario.batch * self.vocab * self.d_model


class ShellModule(Normalized):
    """The parameters of a shell, and what they compute."""

    def __init__(self, shell: Shell) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(shell.vocab, shell.d_model))
        self.add_norm(shell.norm, shell.d_model)

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream [..., D] of tokens [...]."""
        # rows have norm one, so that tied logits start small; the residual stream starts at scale one
        return F.embedding(tokens, self.embedding) * self.embedding.shape[-1] ** 0.5

    def logits(self, x: Tensor) -> Tensor:
        """Logits [..., V] of the residual stream [..., D]."""
        return F.linear(self.normed(x), self.embedding)

    def reset_shell(self, dice: torch.Generator) -> None:
        """Fill the embedding at random, and the norm, which keeps a token from predicting itself."""
        d_model = self.embedding.shape[-1]
        self.embedding.normal_(std=d_model**-0.5, generator=dice)
        self.reset_norm(readout_start(d_model))
