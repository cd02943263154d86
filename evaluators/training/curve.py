"""The losses of a training by step, and the seconds it took, in a file beside its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.files import write_json

DIGITS = 4


@dataclass
class Curve:
    """Rows of a step and its losses in the task's unit."""

    seconds: float = 0.0
    loss: list[list[float]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None, step: int) -> Curve:
        """The curve in a file up to `step`; an empty one where there is no file."""
        try:
            plain: dict[str, Any] = json.loads(path.read_text()) if path is not None else {}
        except FileNotFoundError:
            plain = {}
        rows = [row for row in plain.get("loss", ()) if row[0] <= step]
        return cls(plain.get("seconds", 0.0), rows)

    def add(self, step: int, losses: Sequence[float]) -> None:
        """The losses of one more step."""
        self.loss.append([step, *(round(loss, DIGITS) for loss in losses)])

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {"seconds": self.seconds, "loss": self.loss}

    def write(self, path: Path) -> None:
        """Keep the curve in a file."""
        write_json(path, self.to_plain(), indent=None)
