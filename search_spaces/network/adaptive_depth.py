"""Layers that not every token passes: mixture-of-depths and early exit, as options of a layer.

Mixture-of-depths (Raposo et al. 2024, arXiv:2404.02258). A router scores each token; while learning, the
`capacity` share of the tokens of a sequence with the highest scores pass the layer, the others go around it:

    x_t = x_t + sigmoid(r_t) (layer(x)_t - x_t)     for the chosen tokens,     r_t = w' x_t

The chosen tokens are a sequence of their own: the layer sees no others, and its positions count only them.
Choosing the best of a sequence needs its future, so at inference a token is chosen when r_t > 0, and an
auxiliary loss (section 3.5 of the paper) teaches r_t > 0 to mean "among the best".

Early exit (BranchyNet, Teerapittayanon et al. 2016, arXiv:1709.01686; for decoders CALM, Schuster et al.
2022, arXiv:2207.07061). After a layer stands a norm and a head of its own; a token whose prediction there has
an entropy below `threshold` (as a share of the largest, ln V) leaves: it keeps that prediction, its x stays
as it is, and later sequence mixers read that x, so that tokens after it can look back. While learning nobody
leaves, and the exit learns the prediction of the whole network (Kullback-Leibler divergence).

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.language.serialization import parts
from search_spaces.scenario import Scenario


@parts.add
@dataclass(frozen=True, kw_only=True)
class MixtureOfDepths:
    """Let about `capacity` of the tokens pass a layer; `balance` weighs the router's auxiliary loss."""

    capacity: float = 0.125
    balance: float = 0.1

    def check(self) -> None:
        """Raise `IllegalArchitecture` for a share that is none."""
        _share(self, "capacity", self.capacity)
        if not isinstance(self.balance, (int, float)) or not 0 < self.balance < math.inf:
            raise IllegalArchitecture(f"MixtureOfDepths: balance must be positive, got {self.balance!r}")

    def tokens(self, count: int) -> int:
        """How many of `count` tokens pass."""
        return max(1, math.ceil(self.capacity * count))

    def seen(self, scenario: Scenario) -> Scenario:
        """The scenario as the layer sees it: only the chosen tokens."""
        prompt = self.tokens(scenario.prompt)
        new = max(1, self.tokens(scenario.context) - prompt)
        return replace(scenario, prompt=prompt, new_tokens=new)


@parts.add
@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """Let tokens leave behind a layer whose own head is sure enough of the next token.

    `threshold` is an entropy as a share of that of a uniform guess. `share` is how many tokens are expected
    to leave here: the price on paper counts on it, and the share that really leaves is a metric of every run.
    `weight` is that of the exit's loss.
    """

    threshold: float = 0.1
    share: float = 0.0
    weight: float = 0.3

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        _share(self, "threshold", self.threshold)
        if not isinstance(self.share, (int, float)) or not 0 <= self.share < 1:
            raise IllegalArchitecture(f"EarlyExit: share must be in [0, 1), got {self.share!r}")
        if not isinstance(self.weight, (int, float)) or not 0 < self.weight < math.inf:
            raise IllegalArchitecture(f"EarlyExit: weight must be positive, got {self.weight!r}")


class Router(nn.Module):
    """Scores [B, T] of x [B, T, D]: positive for tokens that should pass."""

    def __init__(self, spec: MixtureOfDepths, d_model: int) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D]; the root mean square of x is taken out, so that depth does not inflate the scores."""
        return F.rms_norm(x, x.shape[-1:], None, 1e-6) @ self.weight

    def best(self, scores: Tensor) -> Tensor:
        """Positions [B, C] of the tokens that pass while learning, in their order."""
        count = self.spec.tokens(scores.shape[1])
        return scores.topk(count, dim=1).indices.sort(dim=1).values

    def loss(self, scores: Tensor, best: Tensor) -> Tensor:
        """What teaches the sign of a score to say whether its token is among the best."""
        among = torch.zeros_like(scores).scatter(1, best, 1.0)
        return self.spec.balance * F.binary_cross_entropy_with_logits(scores, among)

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        self.weight.normal_(std=self.weight.shape[0] ** -0.5, generator=dice)


class Exit(nn.Module):
    """The prediction [..., V] of a layer, from x [..., D]."""

    def __init__(self, spec: EarlyExit, d_model: int, vocab: int) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.Parameter(torch.empty(d_model))
        self.head = nn.Parameter(torch.empty(vocab, d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return F.linear(F.rms_norm(x, self.norm.shape, self.norm, 1e-6), self.head)

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
        """The norm at one, the head as small as tied embeddings."""
        self.norm.fill_(1.0)
        self.head.normal_(std=self.head.shape[-1] ** -0.5, generator=dice)


class Early:
    """Who has left the network in this pass, and with which prediction."""

    def __init__(self) -> None:
        self.left: Tensor | None = None
        self.logits: Tensor | None = None

    def watch(self, exit: Exit, logits: Tensor) -> Tensor:
        """Let those leave whose prediction is sure; the share that leaves here."""
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
        """Whether nobody is left for the later layers."""
        return self.left is not None and bool(self.left.all())

    def merged(self, final: Tensor | None) -> Tensor:
        """The predictions of those who left, and the final ones of the others."""
        if self.left is None or self.logits is None:
            assert final is not None
            return final
        return self.logits if final is None else torch.where(self.left[..., None], self.logits, final)


def _share(spec: object, name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise IllegalArchitecture(f"{type(spec).__name__}: {name} must be in (0, 1], got {value!r}")
