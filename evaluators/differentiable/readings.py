"""The readings of a search, the findings that follow from them, and both in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from evaluators.differentiable.collapse import Finding, Reading, alarm


class Readings:
    """Readings in their order; with `guard`, an alarm stops the search."""

    def __init__(self, *, guard: bool) -> None:
        self.guard = guard
        self.findings: list[Finding] = []
        self._readings: list[Reading] = []

    def __iter__(self) -> Iterator[Reading]:
        return iter(self._readings)

    def __len__(self) -> int:
        return len(self._readings)

    @property
    def stopped(self) -> bool:
        """Whether the guard has ended the search."""
        return self.guard and bool(self.findings)

    def add(self, reading: Reading) -> Reading | None:
        """Take one more; the one to go back to, where the guard ends the search."""
        self._readings.append(reading)
        alarming = alarm(self._readings)
        if alarming is None or any(finding.kind == alarming[0].kind for finding in self.findings):
            return None
        finding, healthy = alarming
        self.findings.append(finding if self.guard else _without_guard(finding))
        return self._readings[healthy] if self.guard else None

    def packed(self, count: int) -> Tensor:
        """All readings of `count` logits as a tensor [R, 4 + N], for a checkpoint."""
        rows = [[r.step, r.loss, r.eigenvalue, r.empty, *r.logits.tolist()] for r in self]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 4 + count)

    @classmethod
    def unpacked(cls, rows: Tensor, like: Tensor, *, guard: bool) -> Readings:
        """Those that `packed` wrote, their logits on the device and in the precision of `like`."""
        readings = cls(guard=guard)
        for row in rows:
            step, loss, eigenvalue, empty = row[:4].tolist()
            readings.add(Reading(int(step), loss, eigenvalue, empty, row[4:].to(like)))
        return readings


def _without_guard(finding: Finding) -> Finding:
    """The finding in the words of a search that continued."""
    text = finding.text.replace("the search stopped at", "a guard would have stopped it at")
    return replace(finding, text=text.replace("and went back", "and gone back"))
