"""Questions in narrow terminals, and bounds in the units of tables: nothing is cut, and slips are told."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import Case, Ended
from tests.faults.stored import copied, made_studies

studies = copied(made_studies)
COMMANDS = (
    "front laptop",
    "best laptop -o bits_per_byte",
    "diff laptop 0 1",
    "best laptop -o params -c 'params>1k'",
)


def nothing_is_cut(folder: Path, ended: Ended) -> None:
    """Neither by Rich's mark nor by dots."""
    assert "\N{HORIZONTAL ELLIPSIS}" not in ended.stdout, ended
    assert "..." not in ended.stdout, ended


CASES = [
    *(
        Case(
            f"{command} in {columns} columns",
            command,
            code=0,
            says=r"\b[0-9a-f]{12}\b",
            prepare=studies,
            check=nothing_is_cut,
            environment={"COLUMNS": columns},
            leaves_nothing=False,
        )
        for command in COMMANDS
        for columns in ("1", "40", "80", "120")
    ),
    *(
        Case(f"best: {bound}", ["best", "laptop", "-o", "params", "-c", bound], says=says, prepare=studies)
        for bound, says in (
            ("weight_bytes<1KiB", "write it like decode_ms<5, params<=2M or weight_bytes<110kB"),
            ("weight_bytes<kB", "write it like"),
            ("weight_bytes<1kBB", "write it like"),
            ("params<1 kB", "params is no number of bytes"),
            ("decode_ms<5B", "decode_ms is no number of bytes"),
            ("params<1T", "write it like"),
            ("params<0.001k", "the nearest is trial"),
            ("weight_bytes<0.01 kB", "the nearest is trial"),
        )
    ),
]
