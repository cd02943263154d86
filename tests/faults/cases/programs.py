"""Studies that a program began: records by somebody else, and damaged copies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.campaign import Case
from tests.faults.stored import copied, made_studies, sql
from tests.forks import Ended

MARKING = "open('it_ran', 'w')\n"
PARTS: dict[str, Any] = {
    "kinds": {"Mine": "s.py:Mine"},
    "functions": {},
    "constraints": [],
    "registered": [],
    "script": "s.py",
}


def recording(parts: Any, text: str) -> Callable[[Path], None]:
    """A record with these parts, in a copy of a file `s.py` with this text."""

    def change(folder: Path) -> None:
        (folder / "studies/laptop/source").mkdir(parents=True)
        (folder / "studies/laptop/source/s.py").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        source = {"entry": "s.py", "name": "", "path": "/s.py", "files": {"s.py": digest}, "parts": parts}
        plain = json.dumps(source).replace("'", "''")
        sql(f"UPDATE studies SET config_json = json_set(config_json, '$.source', json('{plain}'))")(folder)

    return change


def with_parts(**changes: Any) -> dict[str, Any]:
    return {**PARTS, **changes}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in PARTS.items() if key != name}


def nothing_ran(folder: Path, ended: Ended) -> None:
    assert not (folder / "it_ran").exists()


MALFORMED: Mapping[str, tuple[Any, str]] = {
    "that are a list": ([], "an object"),
    "that are text": ("s.py", "an object"),
    "that are nothing": (None, "an object"),
    "that are empty": ({}, "kinds"),
    **{f"without {name}": (without(name), name) for name in PARTS},
    "whose kinds are a list": (with_parts(kinds=["s.py:Mine"]), "kinds"),
    "whose kinds are numbers": (with_parts(kinds={"Mine": 5}), "kinds"),
    "whose rules are text": (with_parts(constraints="s.py:rule"), "constraints"),
    "whose rules are numbers": (with_parts(constraints=[5]), "constraints"),
    "whose script is a number": (with_parts(script=5), "script"),
    "of another file": (with_parts(kinds={"Mine": "t.py:Mine"}), "'t.py' is none of the files"),
    "outside the folder": (with_parts(functions={"f": "../t.py:f"}), "'../t.py' is none of the files"),
    "by a whole path": (with_parts(registered=["/t.py:f"]), "'/t.py' is none of the files"),
    "with control characters": (with_parts(registered=["s.py:\x1b[2J"]), "control characters"),
}
BROKEN: Mapping[str, tuple[Any, str, str]] = {
    "that are not there": (PARTS, "x = 1\n", "defines no Mine"),
    "that are no class": (PARTS, "Mine = 5\n", "defines no class Mine"),
    "that cannot be imported": (PARTS, "import not_there\n", r"s\.py:1: ModuleNotFoundError"),
    "that are no Python": (PARTS, "class Mine(\n", r"s\.py:1: SyntaxError"),
    "that end the process": (PARTS, "import sys\nsys.exit(0)\n", r"sys.exit\(\) ended the file"),
    "that search": (
        PARTS,
        "import nas\nnas.search('laptop', name='t', objectives=['params'])\n",
        "a search cannot begin while its file is read",
    ),
    "of an objective that is gone": (
        with_parts(kinds={}, functions={"params": "s.py:count"}),
        "x = 1\n",
        "defines no count",
    ),
    "of a nested class that is gone": (
        with_parts(kinds={"Mine": "s.py:Outer.Mine"}),
        "class Outer: pass\n",
        "defines no Outer.Mine",
    ),
}


def lost(folder: Path) -> None:
    (folder / "studies/laptop/source/s.py").unlink()


def tampered(folder: Path) -> None:
    (folder / "studies/laptop/source/s.py").write_text(MARKING)


def joined(folder: Path) -> None:
    (folder / "studies/laptop/source/torch.py").write_text(MARKING)


CASES = (
    [
        Case(
            f"parts of a program {what}: {command.split()[0]}",
            command,
            says=says,
            prepare=copied(made_studies, recording(parts, MARKING)),
            check=nothing_ran,
        )
        for what, (parts, says) in MALFORMED.items()
        for command in ("resume laptop", "export laptop 0 -o out")
    ]
    + [
        Case(
            f"parts of a program {what}",
            "resume laptop",
            says=says,
            prepare=copied(made_studies, recording(parts, text)),
        )
        for what, (parts, text, says) in BROKEN.items()
    ]
    + [
        Case(
            f"parts of a program whose copy {what}",
            "resume laptop",
            says=f"needs what its program defined: .*{says}.*; run /s.py, or the program that imports it",
            prepare=copied(made_studies, recording(PARTS, "class Mine: pass\n"), change),
            check=nothing_ran,
        )
        for what, change, says in (
            ("is lost", lost, "no such file"),
            ("was tampered with", tampered, "is damaged"),
            ("was joined by another file", joined, "is not part of the source"),
        )
    ]
)
