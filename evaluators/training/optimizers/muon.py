"""Muon for hidden matrices: the momentum of the gradient, with all its singular values made alike.

    M = beta M + (1 - beta) G,    U = (1 - beta) G + beta M,    W = W - rate (s O(U) + decay W)

O(U) is A B' of the singular value decomposition A S B' of U, by five Newton-Schulz iterations in bfloat16
(Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). `torch.optim.Muon` makes the same step, for
one tensor of two axes at a time. Here a parameter is the matrix [outputs, inputs] that it stands for: heads
and channels are flattened on the side where they are, experts are matrices of their own, and all matrices of
one shape are one batch. Everything else (embedding, head, vectors, taps, decays) learns by AdamW.

The blocks' rates, which are AdamW's, hold here too. They are carried over by the root mean square of a step
(Liu et al. 2025, arXiv:2502.16982, section 2.2), at the base width

    s = rms sqrt(max(outputs, inputs))

AdamW's steps have 0.7 at first and 0.2 to 0.25 after the warm-up, so rms = 0.2 makes steps of equal size;
twice that learns faster here (docs/how-to/choose_a_recipe.md). Beyond the base width the rates fall with the
fan-in, 64 / n, because AdamW's steps add up over the inputs. For a step whose singular values are alike that
is too much: it does equally much at every width if its spectral norm follows sqrt(outputs / inputs) (Yang et
al. 2023, arXiv:2310.17813), so s grows by sqrt(n / 64) beside.

In a supernet a step reads slices. Rows and columns whose gradient is zero, as no subnet read them, are left
out of O and of the sides in s: the slice that was read is made orthogonal as the matrix that it is, and what
lies beside it only decays. (AdamW goes on there with what is left of its mean gradient.) No squared gradients
are kept, so a supernet is sorted by norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from evaluators.training.optimizers.adamw import AdamW
from evaluators.training.optimizers.base import Optimizer, optimizers
from foundation.settings import setting
from search_spaces.network.scaling import Role, share_of

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of Newton-Schulz, as in torch."""


class Matrices(NamedTuple):
    """What a parameter is: its first `stacked` axes number matrices, the next `outputs` ones are the outputs
    of each, all others its inputs. `rms` is the root mean square of a step at rate 1."""

    stacked: int
    outputs: int
    rms: float

    def of(self, values: Tensor) -> Tensor:
        """The matrices [n, outputs, inputs] in a tensor of the parameter's shape."""
        shape, inputs = values.shape, self.stacked + self.outputs
        sides = shape[: self.stacked], shape[self.stacked : inputs], shape[inputs:]
        return values.reshape([side.numel() for side in sides])


@optimizers.add
@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Orthogonal steps of hidden matrices; everything else learns by AdamW."""

    name: ClassVar[str] = "muon"
    elementwise: ClassVar[bool] = False

    rms: float = setting(
        0.4, help="Root mean square of a step of a matrix at rate 1; that of AdamW is 0.2.", above=0, most=100
    )
    momentum: float = setting(0.95, help="Decay of the mean of gradients, for matrices.", least=0, below=1)
    beta1: float = setting(0.9, help="Decay of the mean of gradients, else.", least=0, below=1)
    beta2: float = setting(0.95, help="Decay of the mean of squared gradients, else.", least=0, below=1)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of groups whose `kind` says what matrices their parameters are, if any."""
        return MuonAndAdamW(groups, self)

    def kind_of(self, weight: nn.Parameter, role: Role) -> Matrices | None:
        """How its axes make matrices."""
        if role.kind != "matrix":
            return None
        outputs = weight.dim() - role.stacked_axes - role.input_axes
        return Matrices(role.stacked_axes, outputs, self.rms * share_of(role.fan_in) ** -0.5)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for the groups of matrices, AdamW for the others, with one state."""

    def __init__(self, groups: list[dict[str, Any]], settings: Muon) -> None:
        super().__init__(groups, {})
        self.momentum = settings.momentum
        rest = [group for group in self.param_groups if group["kind"] is None]
        self.adamw = AdamW(beta1=settings.beta1, beta2=settings.beta2).build(rest) if rest else None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        hidden = [group for group in self.param_groups if group["kind"] is not None]
        learning = [(w, group) for group in hidden for w in group["params"] if w.grad is not None]
        steps = orthogonal([self._direction(weight, group["kind"]) for weight, group in learning])
        for (weight, group), step in zip(learning, steps, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(step.reshape(weight.shape) * (group["lr"] * group["kind"].rms))
        if self.adamw is not None:
            self.adamw.param_groups = [group for group in self.param_groups if group["kind"] is None]
            self.adamw.state = self.state
            self.adamw.step()

    def _direction(self, weight: Tensor, kind: Matrices) -> Tensor:
        """The mean gradient, Nesterov's way, as matrices that are zero where nothing of this gradient is."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - self.momentum)
        read = kind.of(gradient) != 0
        return kind.of(gradient.lerp(mean, self.momentum)) * read.any(-1, True) * read.any(-2, True)


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Orthogonal matrices of mean square 1 beside these [n, outputs, inputs]; all of one shape at once."""
    wide = [each if each.shape[-2] <= each.shape[-1] else each.mT for each in matrices]
    members_of: dict[torch.Size, list[int]] = {}
    for i, each in enumerate(wide):
        members_of.setdefault(each.shape[-2:], []).append(i)
    steps = list(matrices)
    for members in members_of.values():
        together = torch.cat([wide[i] for i in members])
        parts = (newton_schulz(together) * _scale(together)).split([len(wide[i]) for i in members])
        for i, part in zip(members, parts, strict=True):
            steps[i] = part if wide[i] is matrices[i] else part.mT
    return steps


def newton_schulz(wide: Tensor) -> Tensor:
    """Matrices [n, r, c], r <= c, with all singular values near 1 (0.7 to 1.2) in the place of their own.

    Rows and columns of zeros stay so. Computed in bfloat16, which the iterations forgive.
    """
    a, b, c = COEFFICIENTS
    x = wide.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(wide.dtype)


def _scale(matrices: Tensor) -> Tensor:
    """sqrt(longer side) [n, 1, 1] of what is not zero in matrices [n, r, c]."""
    rows, columns = (matrices.any(axis).sum(-1) for axis in (-1, -2))
    return torch.maximum(rows, columns).to(matrices.dtype).sqrt()[:, None, None]
