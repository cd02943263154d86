"""The losses of a training by step, and the seconds it took, in a file beside its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.errors import NoFile
from foundation.fields import Field
from foundation.files import read_json, write_json

DIGITS = 4
PACE = ("tokens_per_second", "peak_share")

CURVE_BYTES, ROWS = 2**28, 10**7
"""The largest file of a curve, and its most rows: one for each step."""


@dataclass
class Curve:
    """Rows of a step and its losses in the task's unit, and how fast the last stretch of steps was.

    `pace` has `tokens_per_second` and, where it is known, `peak_share` (see `evaluators.training.pace`).
    """

    seconds: float = 0.0
    loss: list[list[float]] = field(default_factory=list)
    pace: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None, step: int) -> Curve:
        """The curve in a file up to `step`; an empty one where there is no file.

        Raises:
            FileError: it holds no curve.
        """
        try:
            curve = Field({} if path is None else read_json(path, at_most=CURVE_BYTES))
        except NoFile:
            curve = Field({})
        rows = curve.get("loss", []).entries(most=ROWS)
        losses = [[value.number() for value in row.entries(least=2, most=100)] for row in rows]
        seconds = curve.get("seconds", 0.0).number(least=0)
        kept = [[int(row[0]), *row[1:]] for row in losses if row[0] <= step]
        pace = {name: curve.get(name, 0.0).number(least=0) for name in PACE}
        return cls(seconds, kept, {name: value for name, value in pace.items() if value})

    def add(self, step: int, losses: Sequence[float]) -> None:
        """The losses of one more step."""
        self.loss.append([step, *(round(loss, DIGITS) for loss in losses)])

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {"seconds": self.seconds, **self.pace, "loss": self.loss}

    def write(self, path: Path) -> None:
        """Keep the curve in a file."""
        write_json(path, self.to_plain(), indent=None)
