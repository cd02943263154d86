"""Gradients of a bilevel problem in its logits, and the curvature that warns of a collapse.

Weights w are to be good on one half of the data, logits a on the other, for the weights that they lead to:

    min over a of  valid(a, w*(a)),        w*(a) = argmin over w of  train(a, w)

DARTS (Liu et al. 2019, arXiv:1806.09055) takes w* to be w itself (first order) or w after one plain gradient
step (second order): with w' = w - xi grad_w train(a, w),

    grad_a valid(a, w') - xi (grad_a train(a, w+) - grad_a train(a, w-)) / (2 eps),
    w+- = w +- eps grad_w' valid(a, w'),        eps = reach / |grad_w' valid(a, w')|

where the difference stands for a Hessian-vector product. The dominant eigenvalue of the Hessian of valid in a
comes by power iteration on such differences too: not every block can be differentiated twice.

Losses are plain functions of logits and weights by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Weights: TypeAlias = Mapping[str, Tensor]
Loss: TypeAlias = Callable[[Tensor, Weights], Tensor]
"""A scalar from logits [N] and weights by name."""

REACH = 0.01


class Slope(NamedTuple):
    """A loss, and its gradient in the logits [N]."""

    loss: float
    gradient: Tensor


def first_order(valid: Loss, logits: Tensor, weights: Weights) -> Slope:
    """The gradient for weights that do not depend on the logits."""
    leaf = logits.detach().requires_grad_()
    loss = valid(leaf, {name: weight.detach() for name, weight in weights.items()})
    (gradient,) = torch.autograd.grad(loss, leaf)
    return Slope(float(loss.detach()), gradient)


def second_order(
    train: Loss, valid: Loss, logits: Tensor, weights: Weights, *, rate: float, reach: float = REACH
) -> Slope:
    """The gradient through one plain gradient step of the weights at `rate` (xi in the equations)."""
    ahead = moved(weights, weight_gradient(train, logits, weights), -rate)
    leaf = logits.detach().requires_grad_()
    leaves = {name: weight.requires_grad_() for name, weight in ahead.items()}
    loss = valid(leaf, leaves)
    direct, *rest = torch.autograd.grad(loss, (leaf, *leaves.values()), materialize_grads=True)
    direction = dict(zip(leaves, rest, strict=True))
    norm = torch.stack([part.norm() for part in rest]).norm()
    if not float(norm):
        return Slope(float(loss.detach()), direct)
    eps = reach / float(norm)
    up = first_order(train, logits, moved(weights, direction, eps)).gradient
    down = first_order(train, logits, moved(weights, direction, -eps)).gradient
    return Slope(float(loss.detach()), direct - rate * (up - down) / (2 * eps))


def weight_gradient(loss: Loss, logits: Tensor, weights: Weights) -> dict[str, Tensor]:
    """The gradient in the weights, by name."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    value = loss(logits.detach(), leaves)
    gradients = torch.autograd.grad(value, tuple(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))


def moved(weights: Weights, direction: Weights, by: float) -> dict[str, Tensor]:
    """Weights a step away, detached."""
    return {name: weight.detach() + by * direction[name] for name, weight in weights.items()}


def hessian_product(
    slope: Callable[[Tensor], Tensor], logits: Tensor, vector: Tensor, *, reach: float = REACH
) -> Tensor:
    """The Hessian at `logits` times `vector`, from two gradients `reach` times the vector's length apart."""
    norm = float(vector.norm())
    if not norm:
        return torch.zeros_like(vector)
    eps = reach / norm
    return (slope(logits + eps * vector) - slope(logits - eps * vector)) / (2 * eps)


def dominant_eigenvalue(
    slope: Callable[[Tensor], Tensor],
    logits: Tensor,
    start: Tensor,
    *,
    rounds: int = 12,
    reach: float = REACH,
    tolerance: float = 0.01,
) -> tuple[float, Tensor]:
    """The eigenvalue of largest magnitude of the Hessian whose gradient is `slope`, and its eigenvector.

    Power iteration from `start`, until the eigenvalue changes by less than `tolerance` of itself.
    """
    vector, value = start / start.norm().clamp_min(1e-30), 0.0
    for _ in range(rounds):
        product = hessian_product(slope, logits, vector, reach=reach)
        before, value = value, float(vector @ product)
        norm = product.norm()
        if not float(norm):
            return 0.0, vector
        vector = product / norm
        if abs(value - before) <= tolerance * abs(value):
            break
    return value, vector
