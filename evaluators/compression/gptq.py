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

VALUES = 2**27
"""Numbers of eight bytes that are swept at once: on a GPU a sweep takes what its operations take to start."""

Root: TypeAlias = tuple[Tensor, Tensor]
"""What `inverse_root` gives."""


class Columns(NamedTuple):
    """In which order columns are rounded, and in this order the root of H^-1 and the diagonal of H."""

    order: Tensor
    upper: Tensor
    diagonal: Tensor


class Frames(NamedTuple):
    """Of each group: the scales [N, G], which column keeps the largest code [N, G], that code [N, G]."""

    scales: Tensor
    kept: Tensor
    largest: Tensor


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
    spans = {stored: stored.span(weight.shape[-1]) for stored in formats}
    for part, moment in moments.items():
        moment = moment.to(weight.device)
        order = moment.diagonal().argsort(descending=True, stable=True)
        columns = Columns(order, *inverse_root(moment[order][:, order], damp))
        matrix = part.of(weight.detach()).double()
        at_once = max(1, VALUES // (2 * matrix.numel()))
        for span in dict.fromkeys(spans.values()):
            groups = group_edges(part.width, weight.shape[-1], span)
            alike = [stored for stored in formats if spans[stored] == span]
            for first in range(0, len(alike), at_once):
                some = alike[first : first + at_once]
                for stored, found in zip(some, _nearest(matrix, moment, columns, groups, some), strict=True):
                    part.of(rounded[stored]).copy_(found)
    return rounded


def _nearest(
    weight: Tensor,
    moment: Tensor,
    columns: Columns,
    groups: list[tuple[int, int]],
    formats: Sequence[WeightFormat],
) -> list[Tensor]:
    """The matrix [N, K] rounded to each format, with the ratios that leave a row the least error."""
    tried = [(stored, ratios) for stored in formats for ratios in (NEAR, TIGHTER)]
    frames = [_frames(weight, columns, groups, stored, ratios) for stored, ratios in tried]
    group_of = [index for index, (low, high) in enumerate(groups) for _ in range(low, high)]
    swept = _swept(weight, columns, frames, [stored for stored, _ in tried], group_of)
    found = []
    for near, clipped in zip(swept[::2], swept[1::2], strict=True):
        errors = [(off @ moment * off).sum(-1, keepdim=True) for off in (near - weight, clipped - weight)]
        found.append(torch.where(errors[0] <= errors[1], near, clipped))
    return found


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
    scales, kept, largest = [], [], []
    for low, high in groups:
        group = weight[:, low:high]
        scale, fixed = _scales(group, importance[low:high], stored, ratios)
        scales.append(scale[:, 0])
        kept.append(fixed + low)
        largest.append(_largest_code(group.gather(-1, fixed[:, None])[:, 0], stored))
    return Frames(*(torch.stack(each, dim=-1) for each in (scales, kept, largest)))


def _swept(
    weight: Tensor,
    columns: Columns,
    frames: Sequence[Frames],
    formats: Sequence[WeightFormat],
    group_of: list[int],
) -> Tensor:
    """The matrix [N, K] rounded column by column, in their order, by each of the frames at once [F, N, K]."""
    order, upper = columns.order, columns.upper
    scales, kept, largest = (torch.stack(each) for each in zip(*frames, strict=True))
    lowest, highest = (
        torch.tensor(ends, dtype=weight.dtype, device=weight.device)[:, None]
        for ends in zip(*map(_ends, formats), strict=True)
    )
    index = torch.tensor(group_of, device=weight.device)[order]
    left = weight[:, order].repeat(len(frames), 1, 1)
    rounded, pruned = torch.empty_like(left), (weight == 0)[:, order]
    for low in range(0, len(order), AT_ONCE):
        block = slice(low, min(low + AT_ONCE, len(order)))
        scale, stays = scales[..., index[block]], kept[..., index[block]] == order[block]
        extreme, root = largest[..., index[block]], upper[block, block]
        values, errors = left[..., block], torch.zeros_like(left[..., block])
        for at in range(values.shape[-1]):
            value = values[..., at]
            code = (value / scale[..., at]).round().clamp(lowest, highest)
            code = torch.where(stays[..., at], extreme[..., at], code)
            found = torch.where(pruned[:, low + at], 0.0, code * scale[..., at])
            rounded[..., low + at] = found
            errors[..., at] = (value - found) / root[at, at]
            values[..., at + 1 :] -= errors[..., at, None] * root[at, at + 1 :]
        left[..., block.stop :] -= errors @ upper[block, block.stop :]
    return torch.empty_like(rounded).index_copy_(-1, order, rounded)


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
    return (values / scale).round().clamp(*_ends(stored))


def _ends(stored: WeightFormat) -> tuple[int, int]:
    """The least and the largest code."""
    top = 2 ** (int(stored.bits) - 1)
    return -top if stored.bits < 4 else 1 - top, top - 1


def _largest_code(extreme: Tensor, stored: WeightFormat) -> Tensor:
    """The code of the largest value of each group [N]: always the same where one side is longer."""
    top = 2 ** (int(stored.bits) - 1)
    if stored.bits < 4:
        return torch.full_like(extreme, -top)
    return torch.where(extreme < 0, 1.0 - top, top - 1.0).to(extreme.dtype)
