"""What all benchmarks share: where they ran, and how they are printed and kept."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def provenance(command: str) -> dict[str, Any]:
    """Command, machine, versions and commit of a run."""
    return {
        "command": command,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + ("+changes" if _git("status", "--porcelain") else ""),
        "cpu": _cpu(),
        "cores": len(_cores()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": list(_load()),
    }


def keep(name: str, command: str, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """Write a result beside its provenance."""
    RESULTS.mkdir(exist_ok=True)
    result = {**provenance(command), **more, "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def keep_row(name: str, command: str, keys: Sequence[str], row: dict[str, Any], **more: Any) -> None:
    """Put one row into a result at once, in the place of an earlier one with the same values of `keys`.

    Rows of other runs stay, each with its commit and time, so that a run that is killed loses nothing.
    """
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    about = {part: value for part, value in provenance(command).items() if part in ("when", "commit")}
    new = {**row, **about}
    places = [i for i, other in enumerate(rows) if all(other[key] == row[key] for key in keys)]
    if places:
        rows[places[0]] = new
    else:
        rows.append(new)
    keep(name, command, rows, **more)


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of equal keys as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(f"{v:,.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=150, highlight=False).print(table)


def show_plainly(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """The same in plain text, because rich need not be there."""
    print(f"\n{title}")
    names = list(dict.fromkeys(name for row in rows for name in row))  # a row that failed has others
    table = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _cores() -> set[int]:
    import os

    return os.sched_getaffinity(0)


def _load() -> tuple[float, float, float]:
    import os

    return os.getloadavg()
