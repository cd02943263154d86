"""Names that nothing has: the nearest one is named, and nothing is left behind."""

from __future__ import annotations

from tests.faults.campaign import Case

CASES = [
    Case(f"no such {what}", command, says=says)
    for what, command, says in (
        ("space", "search lapptop --name a", "laptop"),
        ("space file", "search here.py --name a", r"here\.py: no such file"),
        ("objective", "search laptop --name a -o bits_per_bite", "bits_per_byte"),
        ("engine", "search laptop --name a --engine ofaa", "ofa"),
        ("strategy", "search laptop --name a --strategy nsga4", "nsga"),
        ("study to resume", "resume nowhere", "no store at studies"),
        ("study to show the front of", "front nowhere", "no store at studies"),
        ("study to report", "report nowhere", "no store at studies"),
        ("study to export from", "export nowhere 0 -o out", "no store at studies"),
        ("folder to generate with", "generate nowhere --prompt x", "nowhere"),
        ("table to import", "profile import nowhere.json", "nowhere"),
    )
]
