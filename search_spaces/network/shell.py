"""The shell of a network, what stands around its layers: embedding, last norm and output head.

    x = sqrt(D) E[tokens];  ...layers...;  logits = W norm(x)        W = E, or a matrix of its own

`Shell` alone says what that is: its parameters with their shapes, roles and formats, which of them the first
and the last step read, and both steps as functions of parameters by name. A module with values of its own
(`ShellModule`), slices of a supernet, a mixture, a compiled head and a stage of a pipeline all ask it.

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Cost
from search_spaces.network.ends import AS_USUAL, PLAIN, TIED, Embedding, Head
from search_spaces.network.norms.base import Norm, Normalized, norm_axes
from search_spaces.network.norms.rms_norm import DEFAULT
from search_spaces.network.scaling import Role, readout_start
from search_spaces.parameter_axes import Layout
from search_spaces.quantization.bits import Bits, is_matrix, weight_bytes
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario

EMBEDDING, HEAD = "embedding", "head"
"""The parameters for the embedding (and the output head that is tied to it), and for a head of its own; the
first is also the random place of both."""


@dataclass(frozen=True)
class Shell:
    """A shell over `vocab` tokens, `d_model` wide; `norm` is that of the whole network."""

    vocab: int
    d_model: int
    norm: Norm = DEFAULT
    embedding: Embedding = AS_USUAL
    head: Head = TIED

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        matrices = dict.fromkeys(self.matrices, (self.vocab, self.d_model))
        return matrices | self.norm.shapes(self.d_model)

    @property
    def head_matrix(self) -> str:
        """The parameter that the head multiplies with."""
        return EMBEDDING if self.head.tied else HEAD

    @property
    def stored_bytes(self) -> int:
        """Bytes of the parameters as an exported model stores them."""
        return sum(weight_bytes(shape, self.bits_of(name).stored) for name, shape in self.shapes.items())

    @property
    def reads(self) -> tuple[str, ...]:
        """The parameters that `embed` needs."""
        return (EMBEDDING,)

    @property
    def predicts(self) -> tuple[str, ...]:
        """The parameters that `logits` needs."""
        return (self.head_matrix, *self.norm.held)

    @property
    def at_both_ends(self) -> tuple[str, ...]:
        """The parameters that both steps need."""
        return tuple(name for name in self.reads if name in self.predicts)

    @property
    def matrices(self) -> tuple[str, ...]:
        """Its parameters with a row for each token."""
        return (EMBEDDING,) if self.head.tied else (EMBEDDING, HEAD)

    @property
    def scale(self) -> float:
        """What embeddings are read times."""
        # rows have norm one, so that tied logits start small; the residual stream starts at scale one
        return self.d_model**0.5 if self.embedding.scale is None else self.embedding.scale

    def bits_of(self, name: str) -> Bits:
        """The bits of a parameter, where it is a matrix."""
        return {EMBEDDING: self.embedding.bits, HEAD: self.head.bits}.get(name, PLAIN)

    @property
    def roles(self) -> dict[str, Role]:
        """The role of every parameter."""
        readout = dict.fromkeys(self.norm.held, Role("readout", self.d_model))
        return dict.fromkeys(self.matrices, Role("embedding", self.d_model)) | readout

    @staticmethod
    def layout() -> Layout:
        """The axes of its parameters."""
        return Layout({EMBEDDING: ". D", HEAD: ". D"} | norm_axes(), "D")

    def cost(self, scenario: Scenario) -> Cost:
        """Analytic parameters and FLOPs."""
        flops = self.logits_flops(scenario)
        params = sum(map(prod, self.shapes.values()))
        return Cost(params, scenario.prompt * flops, flops)

    def logits_flops(self, scenario: Scenario) -> int:
        """FLOPs of the logits of one token of each sequence."""
        return 2 * scenario.batch * self.vocab * self.d_model

    def embed(self, tokens: Tensor, weights: Mapping[str, Tensor], *, scale: Tensor | None = None) -> Tensor:
        """The residual stream [..., D] of tokens [...], given what it `reads`; a mixture has a scale [D]."""
        return F.embedding(tokens, weights[EMBEDDING]) * (self.scale if scale is None else scale)

    def logits(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits [..., V] of the residual stream [..., D], given what it `predicts` with."""
        return self.read_out(self.norm.normalized(x, weights), weights)

    def read_out(self, normed: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits [..., V] behind the norm."""
        return self.head.logits(normed, weights[self.head_matrix])

    def sliced(self, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its parameters as leading slices of larger ones, rounded to their bits."""
        slices = {name: shared[name][tuple(map(slice, shape))] for name, shape in self.shapes.items()}
        return {
            name: round_to_bits(values, self.bits_of(name).stored) if is_matrix(values.shape) else values
            for name, values in slices.items()
        }


class ShellModule(Normalized):
    """The parameters of a shell, and what they compute."""

    embedding: nn.Parameter

    def __init__(self, shell: Shell) -> None:
        super().__init__()
        self.shell = shell
        for name in shell.matrices:
            self.register_parameter(name, nn.Parameter(torch.empty(shell.shapes[name])))
        self.add_norm(shell.norm, shell.d_model)

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream [..., D] of tokens [...]."""
        return self.shell.embed(tokens, self._held(self.shell.reads))

    def logits(self, x: Tensor) -> Tensor:
        """Logits [..., V] of the residual stream [..., D]."""
        return self.shell.logits(x, self._held(self.shell.predicts))

    def _held(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in names}

    def reset_shell(self, dice: torch.Generator) -> None:
        """Fill the matrices at random, and the norm, which keeps a token from predicting itself."""
        for name in self.shell.matrices:
            getattr(self, name).normal_(std=self.shell.d_model**-0.5, generator=dice)
        self.reset_norm(readout_start(self.shell.d_model))
