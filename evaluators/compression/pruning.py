"""Which weights of a matrix go: those of the least magnitude, or of the least magnitude times input.

    importance = |w|                       magnitude (Han et al. 2015, arXiv:1506.02626)
    importance = |w_ij| ||x_j||            Wanda (Sun et al. 2023, arXiv:2306.11695, section 3)

Magnitude compares all weights of a matrix, Wanda those of a row, as their papers do. With a pattern N:M only
N weights of M neighbours in a row stay, whatever their importance beside others (Mishra et al. 2021,
arXiv:2104.08378): sparse tensor cores multiply 2:4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evaluators.compression.calibration import Part


def kept_as_they_are(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where matrices that have zeros have none, by name: what a training keeps of an earlier pruning."""
    kept = {name: weight != 0 for name, weight in weights.items() if weight.ndim > 1}
    return {name: mask for name, mask in kept.items() if not mask.all()}


@torch.no_grad()
def kept_by_magnitude(weight: Tensor, sparsity: float, pattern: tuple[int, int] | None = None) -> Tensor:
    """A mask of a parameter [..., L]: true for what stays."""
    importance = weight.abs()
    if pattern is not None:
        return kept_of_neighbours(importance.view(-1, weight.shape[-1]), pattern).view(weight.shape)
    return kept_of_row(importance.view(1, -1), sparsity).view(weight.shape)


@torch.no_grad()
def kept_by_wanda(
    weight: Tensor,
    moments: dict[Part, Tensor],
    sparsity: float,
    pattern: tuple[int, int] | None = None,
) -> Tensor:
    """The same by Wanda, given the moments of all parts of the parameter."""
    kept = torch.ones_like(weight, dtype=torch.bool).contiguous()
    for part, moment in moments.items():
        importance = part.of(weight.contiguous()).abs().double() * moment.diagonal().sqrt()
        mask = (
            kept_of_row(importance, sparsity) if pattern is None else kept_of_neighbours(importance, pattern)
        )
        part.of(kept).copy_(mask)
    return kept


def kept_of_row(importance: Tensor, sparsity: float) -> Tensor:
    """All but the least share of each row [N, K]; of equal ones the first go."""
    count = round(sparsity * importance.shape[-1])
    least = importance.argsort(dim=-1, stable=True)[:, :count]
    return torch.ones_like(importance, dtype=torch.bool).scatter(-1, least, False)


def kept_of_neighbours(importance: Tensor, pattern: tuple[int, int]) -> Tensor:
    """The N most important of every M neighbours of a row [N, K]; what is left over at its end stays."""
    stay, of = pattern
    whole = importance.shape[-1] // of * of
    groups = importance[:, :whole].unflatten(-1, (-1, of))
    least = groups.argsort(dim=-1, stable=True)[..., : of - stay]
    kept = torch.ones_like(importance, dtype=torch.bool)
    kept[:, :whole] = torch.ones_like(groups, dtype=torch.bool).scatter(-1, least, False).flatten(-2)
    return kept
