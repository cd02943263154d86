"""Readings of a search as a tensor, so that they go through a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluators.differentiable.collapse import Reading


def packed(readings: Sequence[Reading], count: int) -> Tensor:
    """Readings of `count` logits as a tensor [R, 4 + N], for a checkpoint."""
    rows = [[r.step, r.loss, r.eigenvalue, r.empty, *r.logits.tolist()] for r in readings]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 4 + count)


def unpacked(rows: Tensor, like: Tensor) -> list[Reading]:
    """The readings that `packed` wrote, their logits on the device and in the precision of `like`."""
    readings = []
    for row in rows:
        step, loss, eigenvalue, empty = row[:4].tolist()
        readings.append(Reading(int(step), loss, eigenvalue, empty, row[4:].to(like)))
    return readings
