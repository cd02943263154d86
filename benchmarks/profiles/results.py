"""Results of the parts on disk, written as they come, and printed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, provenance
from foundation.files import write_json
from hw_profiles.fingerprint import fingerprint
from search_spaces.scenario import Scenario


@dataclass
class Result:
    """One result on disk, written anew whenever there is more of it.

    A part that is cut off by a time limit leaves what it had, marked as not complete.
    """

    path: Path
    command: str
    scenario: Scenario
    started: float = field(default_factory=time.monotonic)

    def write(self, rows: Sequence[dict[str, Any]], *, complete: bool, **more: Any) -> None:
        """Write rows beside their circumstances."""
        result = {
            **self._circumstances(),
            "complete": complete,
            "seconds": round(time.monotonic() - self.started, 1),
            "scenario": self.scenario.conditions(),
            "fingerprint": fingerprint(self.scenario),
            **more,
            "rows": list(rows),
        }
        write_json(self.path, result)

    def _circumstances(self) -> dict[str, Any]:
        if shutil.which("git") is None:  # a machine without a checkout
            return {"command": self.command, "commit": "unknown, no git here", "torch": torch.__version__}
        return provenance(self.command)


def default_path(part: str, device: str) -> Path:
    """Where the result of a part belongs."""
    return RESULTS / f"profiles_{part}_{device.partition(':')[0]}.json"


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows; plainly, because a device may have little installed."""
    lines = [title]
    for row in rows:
        cells = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        lines.append("  " + "  ".join(cells))
    print("\n".join(lines), flush=True)
