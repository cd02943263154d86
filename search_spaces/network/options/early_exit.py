"""Early exit: a layer behind which tokens may leave the network.

BranchyNet, Teerapittayanon et al. 2016, arXiv:1709.01686; for decoders CALM, Schuster et al.
2022, arXiv:2207.07061. After a layer stands a norm and a head of its own; a token whose prediction there has
an entropy below `threshold` (as a share of the largest, ln V) leaves: it keeps that prediction, its x stays
as it is, and later sequence mixers read that x, so that tokens after it can look back. While learning nobody
leaves, and the exit learns the prediction of the whole network (Kullback-Leibler divergence).

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Cost
from search_spaces.language.serialization import parts
from search_spaces.network.norms.base import Normalized, norm_axes
from search_spaces.network.options.base import LayerOption, OptionModule, check_share
from search_spaces.network.shell import Shell
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@parts.add
@dataclass(frozen=True, kw_only=True)
class EarlyExit(LayerOption):
    """Let tokens leave behind a layer whose own head is sure enough of the next token.

    `threshold` is an entropy as a share of that of a uniform guess. `share` is how many tokens are expected
    to leave here: the analytic cost assumes it, and the share that really leaves is a metric of every run.
    `weight` is that of the exit's loss.
    """

    not_additive: ClassVar[str] = "has an exit"
    not_relaxable: ClassVar[str] = "an early exit cannot be relaxed, as tokens leave or stay"
    not_static: ClassVar[str] = "decides for every token whether it passes"
    computed: ClassVar[Literal["all", "passing", "staying"]] = "staying"
    predicts: ClassVar[bool] = True

    threshold: float = 0.1
    share: float = 0.0
    weight: float = 0.3

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        check_share(self, "threshold")
        if not isinstance(self.share, (int, float)) or not 0 <= self.share < 1:
            raise IllegalArchitecture(f"EarlyExit: share must be in [0, 1), got {self.share!r}")
        if not isinstance(self.weight, (int, float)) or not 0 < self.weight < math.inf:
            raise IllegalArchitecture(f"EarlyExit: weight must be positive, got {self.weight!r}")

    @classmethod
    def layout(cls) -> Layout:
        """The axes of the norm and the head."""
        return Layout(norm_axes() | {"head": ". D"}, "D")

    def build(self, shell: Shell) -> Exit:
        """The norm and the head."""
        return Exit(self, shell)

    def cost(self, shell: Shell, scenario: Scenario) -> Cost:
        """Logits for every token."""
        logits = shell.logits_flops(scenario)
        params = shell.vocab * shell.d_model + shell.norm.params(shell.d_model)
        return Cost(params, logits * scenario.prompt, logits)

    @property
    def leaving(self) -> float:
        """The share."""
        return self.share


class Exit(OptionModule, Normalized):
    """The prediction [..., V] of a layer, from x [..., D]."""

    def __init__(self, spec: EarlyExit, shell: Shell) -> None:
        super().__init__()
        self.spec, self.rule = spec, shell.head
        self.add_norm(shell.norm, shell.d_model)
        self.head = nn.Parameter(torch.empty(shell.vocab, shell.d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.rule.logits(self.normed(x), self.head)

    def sure(self, logits: Tensor) -> Tensor:
        """Whether a prediction is sure enough to leave with it [...]."""
        logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        entropy = -(logs.exp() * logs).sum(-1)
        return entropy < self.spec.threshold * math.log(logits.shape[-1])

    def loss(self, logits: Tensor, final: Tensor) -> Tensor:
        """How far the exit is from the whole network's prediction, in nats."""
        here, there = logits.flatten(0, -2).log_softmax(-1), final.detach().flatten(0, -2).log_softmax(-1)
        return self.spec.weight * F.kl_div(here, there, reduction="batchmean", log_target=True)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """The norm as always, the head as small as tied embeddings."""
        self.reset_norm()
        self.head.normal_(std=self.head.shape[-1] ** -0.5, generator=dice)


class EarlyLeavers:
    """Who has left the network in this pass, and with which prediction."""

    def __init__(self) -> None:
        self.left: Tensor | None = None
        self.logits: Tensor | None = None

    def update(self, exit: Exit, logits: Tensor) -> Tensor:
        """Let those leave whose prediction is sure enough; the share that leaves here."""
        leaving = exit.sure(logits)
        if self.left is None or self.logits is None:
            self.left, self.logits = leaving, logits
        else:
            leaving = leaving & ~self.left
            self.left, self.logits = (
                self.left | leaving,
                torch.where(leaving[..., None], logits, self.logits),
            )
        return leaving.float().mean()

    @property
    def all_left(self) -> bool:
        """Whether no token is left for the later layers; in exported programs all layers are computed."""
        if torch.compiler.is_exporting():
            return False
        return self.left is not None and bool(self.left.all())

    def merged(self, final: Tensor | None) -> Tensor:
        """The predictions of those who left, and the final ones of the others."""
        if self.left is None or self.logits is None:
            assert final is not None
            return final
        return self.logits if final is None else torch.where(self.left[..., None], self.logits, final)
