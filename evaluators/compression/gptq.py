"""GPTQ: matrices rounded column by column, each error made good by the columns that follow.

    H = sum of x x' + damp I;   q_j = round(w_j);   w_k -= (w_j - q_j) / U_jj U_jk  for k > j,   H^-1 = U'U

Frantar et al. 2022, arXiv:2210.17323, sections 3 and 4, with the columns of large inputs first (as the
authors' own code can): what is left at the end has few columns to be made good by, and should weigh little.
Scales are chosen before, since a group's columns then stand anywhere. The result has the values of its
format, and is left unchanged by `search_spaces.quantization.rounding`: the largest value of each group keeps
the largest code, so whoever rounds again finds the same scale. Weights that are zero, because they were
pruned, stay zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from evaluators.compression.calibration import Part
from search_spaces.quantization.bits import TERNARY, WeightFormat
from search_spaces.quantization.rounding import TIGHTER, usable_scale

NEAR = (1.0, 1.05, 1.1, 1.15)
"""How far below the largest value the range may end, as the ratio of both.

A row is rounded twice, with these ratios and with all that nearest rounding tries (`TIGHTER`), and the one
counts that is nearer in the end. Scales of least error by themselves clip more, which the columns that follow
make good in some rows and not in others.
"""

AT_ONCE = 128
"""Columns that are rounded before their errors reach all others (section 4, step 2)."""

Root: TypeAlias = tuple[Tensor, Tensor]
"""What `inverse_root` gives."""


class Columns(NamedTuple):
    """In which order columns are rounded, and in this order the root of H^-1 and the diagonal of H."""

    order: Tensor
    upper: Tensor
    diagonal: Tensor


class Frames(NamedTuple):
    """By group: the scales [N], which column keeps the largest code [N], that code [N]; groups of columns."""

    scales: list[Tensor]
    kept: list[Tensor]
    largest: list[Tensor]
    group_of: list[int]


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
        order = moment.diagonal().argsort(descending=True, stable=True)
        columns = Columns(order, *inverse_root(moment[order][:, order], damp))
        for stored, values in rounded.items():
            matrix = part.of(values)
            groups = group_edges(part.width, weight.shape[-1], stored.span(weight.shape[-1]))
            matrix.copy_(_nearest(matrix.double(), moment, columns, groups, stored))
    return rounded


def _nearest(
    weight: Tensor, moment: Tensor, columns: Columns, groups: list[tuple[int, int]], stored: WeightFormat
) -> Tensor:
    """The matrix [N, K] rounded with the ratios that leave the least error of each row's products."""
    near, clipped = (
        _swept(weight, columns, _frames(weight, columns, groups, stored, ratios), stored)
        for ratios in (NEAR, TIGHTER)
    )
    errors = [(off @ moment * off).sum(-1, keepdim=True) for off in (near - weight, clipped - weight)]
    return torch.where(errors[0] <= errors[1], near, clipped)


def group_edges(width: int, row: int, span: int) -> list[tuple[int, int]]:
    """Where the groups of a matrix begin and end, whose `width` is one or several rows of the parameter."""
    return [
        (start + low, start + min(low + span, row))
        for start in range(0, width, row)
        for low in range(0, row, span)
    ]


def _frames(
    weight: Tensor,
    columns: Columns,
    groups: list[tuple[int, int]],
    stored: WeightFormat,
    ratios: Sequence[float],
) -> Frames:
    """The scales of all groups of a matrix [N, K], from its weights as they are."""
    importance = torch.empty_like(columns.diagonal)
    importance[columns.order] = columns.diagonal
    scales, kept, largest, group_of = [], [], [], list[int]()
    for index, (low, high) in enumerate(groups):
        group = weight[:, low:high]
        scale, fixed = _scales(group, importance[low:high], stored, ratios)
        scales.append(scale[:, 0])
        kept.append(fixed + low)
        largest.append(_largest_code(group.gather(-1, fixed[:, None])[:, 0], stored))
        group_of += [index] * (high - low)
    return Frames(scales, kept, largest, group_of)


def _swept(weight: Tensor, columns: Columns, frames: Frames, stored: WeightFormat) -> Tensor:
    """The matrix [N, K] rounded column by column, in their order."""
    order, upper = columns.order.tolist(), columns.upper
    left, pruned, rounded = weight[:, columns.order], weight == 0, torch.empty_like(weight)
    for low in range(0, len(order), AT_ONCE):
        high = min(low + AT_ONCE, len(order))
        errors = torch.zeros_like(left[:, low:high])
        for at in range(low, high):
            column, value = order[at], left[:, at]
            group = frames.group_of[column]
            scale = frames.scales[group]
            code = _codes(value[:, None], scale[:, None], stored)[:, 0]
            code = torch.where(frames.kept[group] == column, frames.largest[group], code)
            rounded[:, column] = torch.where(pruned[:, column], 0.0, code * scale)
            errors[:, at - low] = (value - rounded[:, column]) / upper[at, at]
            left[:, at + 1 : high] -= errors[:, at - low, None] * upper[at, at + 1 : high]
        left[:, high:] -= errors @ upper[low:high, high:]
    return rounded


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
