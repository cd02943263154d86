"""GPTQ: matrices rounded column by column, each error made good by the columns that follow.

    H = sum of x x' + damp I;   q_j = round(w_j);   w_k -= (w_j - q_j) / U_jj U_jk  for k > j,   H^-1 = U'U

Frantar et al. 2022, arXiv:2210.17323, sections 3 and 4. The result has the values of its format, and is left
unchanged by `search_spaces.quantization.rounding`: the largest value of each group keeps the largest code, so
whoever rounds again finds the same scale. Weights that are zero, because they were pruned, stay zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from evaluators.compression.calibration import Part
from search_spaces.quantization.bits import TERNARY, WeightFormat
from search_spaces.quantization.rounding import TIGHTER, usable_scale

NEAR = (1.0, 1.05, 1.1, 1.15)
"""How far below the largest value the range of 4 bits and more may end, as the ratio of both.

At 4 bits and more a row is rounded twice, with these ratios and with all of 3 and 2 bits, and the one counts
that is nearer in the end. Scales of least error by themselves clip more, which the columns that follow make
good in some rows and not in others: with all ratios alone three small networks lost 8, 23 and 30 % more bits
per byte at 4 bits; with these alone SmolLM2-135M and two small ones 22, 13 and 171 % more than with both.
"""

Root: TypeAlias = tuple[Tensor, Tensor]
"""What `inverse_root` gives."""

DAMP = 0.01
"""What is added to the diagonal of H, as a share of its mean (section 4, step 3)."""


def unsupported(stored: WeightFormat) -> str:
    """Why weights of a format are not rounded by GPTQ; empty where they are."""
    if stored.is_float8 or stored.bits in (TERNARY, 16):
        return "gptq rounds to integers of 8 to 2 bits"
    return ""


def gptq(weight: Tensor, moments: dict[Part, Tensor], stored: WeightFormat, damp: float = DAMP) -> Tensor:
    """A parameter [..., L] with every part rounded to its format, given the moments of all its parts."""
    return gptq_at_each(weight, moments, [stored], damp)[stored]


@torch.no_grad()
def gptq_at_each(
    weight: Tensor, moments: dict[Part, Tensor], formats: Sequence[WeightFormat], damp: float = DAMP
) -> dict[WeightFormat, Tensor]:
    """The same at several formats, for which the moments are factored once."""
    rounded = {stored: weight.detach().contiguous().clone() for stored in formats}
    for part, moment in moments.items():
        moment = moment.to(weight.device)
        root = inverse_root(moment, damp)
        for stored, values in rounded.items():
            matrix = part.of(values)
            groups = group_edges(part.width, weight.shape[-1], stored.span(weight.shape[-1]))
            matrix.copy_(_nearest(matrix.double(), moment, root, groups, stored))
    return rounded


def _nearest(
    weight: Tensor, moment: Tensor, root: Root, groups: list[tuple[int, int]], stored: WeightFormat
) -> Tensor:
    """The matrix [N, K] rounded with the ratios that leave the least error of each row's products."""
    if stored.bits < 4:
        return _swept(weight, root, groups, stored, TIGHTER)
    near, clipped = (_swept(weight, root, groups, stored, ratios) for ratios in (NEAR, TIGHTER))
    errors = [(off @ moment * off).sum(-1, keepdim=True) for off in (near - weight, clipped - weight)]
    return torch.where(errors[0] <= errors[1], near, clipped)


def group_edges(width: int, row: int, span: int) -> list[tuple[int, int]]:
    """Where the groups of a matrix begin and end, whose `width` is one or several rows of the parameter."""
    return [
        (start + low, start + min(low + span, row))
        for start in range(0, width, row)
        for low in range(0, row, span)
    ]


def _swept(
    weight: Tensor,
    root: Root,
    groups: list[tuple[int, int]],
    stored: WeightFormat,
    ratios: Sequence[float],
) -> Tensor:
    """The matrix [N, K] rounded group by group; `root` is what `inverse_root` gives."""
    weight = weight.clone()
    pruned = weight == 0
    upper, importance = root
    for low, high in groups:
        group = weight[:, low:high].clone()
        there = group.masked_fill(pruned[:, low:high], 0.0)
        scale, fixed = _scales(there, importance[low:high], stored, ratios)
        largest = _largest_code(there.gather(-1, fixed[:, None])[:, 0], stored)
        errors = torch.zeros_like(group)
        for j in range(high - low):
            column, at = group[:, j], low + j
            code = _codes(column[:, None], scale, stored)[:, 0]
            code = torch.where(fixed == j, largest, code)
            rounded = torch.where(pruned[:, at], 0.0, code * scale[:, 0])
            errors[:, j] = (column - rounded) / upper[at, at]
            group[:, j + 1 :] -= errors[:, j, None] * upper[at, at + 1 : high]
            weight[:, at] = rounded
        weight[:, high:] -= errors @ upper[low:high, high:]
    return weight


def inverse_root(moment: Tensor, damp: float) -> Root:
    """The upper U with H^-1 = U'U, and the diagonal of H.

    An input that was never there has no say: its weights are rounded by themselves.
    """
    hessian = moment.clone()
    diagonal = hessian.diagonal()
    diagonal += torch.where(diagonal > 0, 0.0, 1.0)
    diagonal += damp * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True), diagonal


def _scales(
    group: Tensor, importance: Tensor, stored: WeightFormat, ratios: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The scale [N, 1] of a group [N, G], and which of its values keeps the largest code [N].

    Tried are scales that reach the largest value and some that do not, as in `quantization.rounding`; errors
    are weighed by the moments of the inputs.
    """
    fixed = group.abs().argmax(-1)
    extreme = group.gather(-1, fixed[:, None])
    best, least = None, None
    for tighter in ratios:
        scale = _scale(extreme, stored, tighter)
        off = _codes(group, scale, stored) * scale - group
        error = (off.square() * importance).sum(-1, keepdim=True)
        if best is None or least is None:
            best, least = scale, error
        else:
            best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    assert best is not None
    return best, fixed


def _scale(extreme: Tensor, stored: WeightFormat, tighter: float) -> Tensor:
    top = 2 ** (int(stored.bits) - 1)
    if stored.bits < 4:  # the longer side is for the largest value
        return usable_scale(-extreme / (top * tighter)).double()
    return usable_scale(extreme.abs() / ((top - 1) * tighter)).double()


def _codes(values: Tensor, scale: Tensor, stored: WeightFormat) -> Tensor:
    top = 2 ** (int(stored.bits) - 1)
    return (values / scale).round().clamp(-top if stored.bits < 4 else 1 - top, top - 1)


def _largest_code(extreme: Tensor, stored: WeightFormat) -> Tensor:
    """The code of the largest value of each group [N]: always the same where one side is longer."""
    top = 2 ** (int(stored.bits) - 1)
    if stored.bits < 4:
        return torch.full_like(extreme, -top)
    return torch.where(extreme < 0, 1.0 - top, top - 1.0).to(extreme.dtype)
