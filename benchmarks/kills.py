"""Real kills in every phase: `python -m benchmarks.kills [REPORT.xml ...]`.

Runs the ten kills of each phase (`tests/faults/test_kills.py`) and keeps how each campaign ended; reports of
pytest that are given are read instead.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from benchmarks.common import keep, show

CAMPAIGN = "tests/faults/test_kills.py"
KILLS = 10


def run(report: Path) -> None:
    """Run the campaign; its outcome is in the report."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", f"--junitxml={report}", CAMPAIGN]
    subprocess.run(command, check=False)


def rows_of(report: Path) -> list[dict[str, Any]]:
    """What became of each phase of a report."""
    rows = []
    for case in ElementTree.parse(report).iter("testcase"):
        name, _, parameters = case.get("name", "").partition("[")
        if "ten-times" in parameters:
            failed = [child.get("message", "")[:200] for child in case if child.tag in ("failure", "error")]
            phase = parameters.removesuffix("]").removesuffix("ten-times").rstrip("-")
            rows.append(
                {
                    "what": phase or name.removeprefix("test_").replace("_", " "),
                    "kills": KILLS,
                    "equal and whole afterwards": not failed,
                    "seconds": float(case.get("time", 0)),
                    "why not": failed[0] if failed else "",
                }
            )
    return rows


def main(reports: list[str]) -> None:
    """Print the outcomes and write them to the results."""
    with TemporaryDirectory() as folder:
        if not reports:
            reports = [f"{folder}/report.xml"]
            run(Path(reports[0]))
        rows = [row for report in reports for row in rows_of(Path(report))]
    show("Kills", rows)
    keep("kills", "python -m benchmarks.kills", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
