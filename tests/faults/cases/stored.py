"""Stores that something else has written to, and what is kept of spaces that no file can hold."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.campaign import Case
from tests.faults.cases.spaces import HEAD, SEARCH, SMALL
from tests.faults.situations import TINY_SPACE
from tests.faults.stored import copied, made_studies, sql
from tests.forks import Ended

LOOSE = ("DROP TABLE alembic_version", "CREATE TABLE alembic_version (version_num)")
LAPTOP = "WHERE name = 'laptop'"

ODD = os.fsdecode(b"\xff")
"""A name whose bytes are no UTF-8, as other file systems leave them."""


def _odd_file(folder: Path) -> None:
    (folder / f"{ODD}.py").write_text(HEAD + SMALL)


def _reported(folder: Path, ended: Ended) -> None:
    assert (folder / "studies" / "a" / "report.html").is_file() or (folder / "a" / "report.html").is_file()


CASES = [
    Case("a space file of odd bytes", ["spaces", f"{ODD}.py"], code=0, prepare=_odd_file),
    Case(
        "a search of a space file of odd bytes",
        ["search", f"{ODD}.py", *SEARCH.split()],
        code=0,
        lines=30,
        seconds=30,
        megabytes=1000,
        slow=True,
        prepare=_odd_file,
        check=_reported,
    ),
    Case(
        "a search into a store of odd bytes",
        ["search", "s.py", *SEARCH.split(), "--store", f"{ODD}.db"],
        code=0,
        lines=30,
        seconds=30,
        megabytes=1000,
        slow=True,
        files={"s.py": HEAD + SMALL},
        check=_reported,
    ),
    *(
        Case(
            f"a study of odd bytes: {command}",
            [*command.split(), ODD],
            says=r"not Unicode|a study's name is made of|no study",
            prepare=copied(made_studies),
        )
        for command in ("front", "resume", "rm --yes", "cp laptop", "report")
    ),
    *(
        Case(
            f"a store whose schema is {what}: {command}",
            command,
            says=r"not a store of nas \(its schema is",
            prepare=copied(
                made_studies, *(sql(s) for s in (*LOOSE, f"INSERT INTO alembic_version VALUES ({v})"))
            ),
        )
        for what, v in (("a blob", "x'30303031'"), ("bytes that are no text", "x'ff00'"), ("a number", "1"))
        for command in ("ls", "front laptop", "cp laptop b", "rm laptop --yes", "resume laptop")
    ),
    *(
        Case(
            f"a study whose {part} is not installed here: {command}",
            f"{command} laptop",
            says=f"study laptop cannot go on here: unknown {part} 'of_elsewhere'; known: ",
            prepare=copied(
                made_studies,
                sql(
                    "UPDATE studies SET config_json = json_set(config_json, "
                    f"'$.plan.{part}', 'of_elsewhere') {LAPTOP}"
                ),
            ),
        )
        for part in ("engine", "strategy", "scheduler")
        for command in ("resume", "replay")
    ),
    *(
        Case(
            f"a store with 100 MB of {column}: {command}",
            command,
            says="holds a text of more than 32 MiB",
            prepare=copied(
                made_studies, sql(f"UPDATE studies SET {column} = hex(zeroblob(50000000)) {LAPTOP}")
            ),
        )
        for column in ("space_json", "config_json")
        for command in ("ls", "front laptop", "cp laptop b")
    ),
    Case(
        "a study whose space is 4 MB of nothing",
        "front laptop",
        code=0,
        says="space of study laptop cannot be read",
        prepare=copied(made_studies, sql(f"UPDATE studies SET space_json = hex(zeroblob(2000000)) {LAPTOP}")),
    ),
    *(
        Case(
            f"a space {what}",
            f"search s.py {SEARCH}",
            says=says,
            files={"s.py": TINY_SPACE + f"\nspace = Space(space.root, name={name})\n"},
        )
        for what, name, says in (
            ("named half of a character", r"'\udc80'", r"s\.py:\d+: the name of a space is printable"),
            ("named with escapes", r"'\x1b[2J'", "the name of a space is printable"),
            ("named nothing", "''", "the name of a space is printable"),
            ("named None", "None", "the name of a space is printable"),
            ("of a name of 10,000 letters", "'x' * 10_000", "at most 200 characters"),
        )
    ),
    *(
        Case(
            f"a space with {what}",
            f"search s.py {SEARCH}",
            says=says,
            files={
                "s.py": HEAD
                + "from dataclasses import dataclass\nfrom typing import Any\n"
                + "@dataclass(frozen=True)\nclass Mine:\n    part: Any\n    note: Any\n"
                + SMALL.replace("space = ", "inner = ")
                + f"space = Space(Mine(inner, {value}))\n"
            },
        )
        for what, value, says in (
            ("half of a character", r"'\ud800'", "half of a character"),
            ("a number that is none", "float('nan')", "a number must be finite"),
            ("an infinite number", "one_of(1.0, float('inf'))", "a number must be finite"),
            ("a number of 400 digits", "10**400", "within ±2.40, got one of hundreds of digits"),
            ("a number that no file keeps", "one_of(1, 2**50)", r"within ±2.40, got 1\.1259e\+15"),
        )
    ),
]
