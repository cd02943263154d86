"""Sources of studies and of exported models: what somebody else made runs nothing unasked."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.campaign import Case
from tests.faults.models import SPEC
from tests.faults.stored import copied, made_studies, sql
from tests.forks import Ended

COPY = '{"entry": "s.py", "name": "", "path": "/s.py", "files": {"s.py": "0"}}'
OUTSIDE = '{"entry": "../s.py", "name": "", "path": "/s.py", "files": {"../s.py": "0"}}'
NO_ENTRY = '{"entry": "t.py", "name": "", "path": "/s.py", "files": {"s.py": "0"}}'
MARKING = "open('it_ran', 'w')\n"


def recording(source: str) -> str:
    return f"UPDATE studies SET config_json = json_set(config_json, '$.source', json('{source}'))"


NAMED = "UPDATE studies SET config_json = json_set(config_json, '$.plan.source', '{place}')"


def nothing_ran(folder: Path, ended: Ended) -> None:
    assert not (folder / "it_ran").exists()


def naming(folder: Path) -> None:
    """A row names a file that is there by its whole path."""
    (folder / "s.py").write_text(MARKING)
    sql(NAMED.format(place=folder / "s.py"))(folder)


STUDIES = [
    Case(
        f"a record that names a file: {command.split()[0]}",
        command,
        code=code,
        says=says,
        prepare=copied(made_studies, naming),
        check=nothing_ran,
        lines=3,
        leaves_nothing=code == 2,
    )
    for command, code, says in (
        ("ls", 0, "laptop"),
        ("front laptop", 0, "laptop"),
        ("show laptop 0", 0, "laptop"),
        ("resume laptop", 2, "a path on record is not run: pass --space"),
        ("cp laptop copy", 0, "copy"),
        ("rm laptop -y", 0, "removed"),
    )
] + [
    Case(
        f"a source on record {what}",
        "resume laptop",
        says=says,
        prepare=copied(made_studies, sql(recording(source))),
    )
    for what, source, says in (
        ("without its copy", COPY, r"needs the copy of its source: .*s\.py: no such file; pass --space"),
        ("outside its folder", OUTSIDE, "is no Python file inside the folder"),
        ("without its entry", NO_ENTRY, "is none of the files"),
        ("that is a list", "[]", "source of study laptop cannot be read"),
        ("that is empty", "{}", "source of study laptop cannot be read"),
    )
]


def exported(code: object, **files: str) -> dict[str, str]:
    """A folder of a model whose configuration says this about its code."""
    from search_spaces.language.serialization import to_plain

    config = {"format": 2, "spec": to_plain(SPEC), "about": {}, "code": code}
    return {
        "m/config.json": json.dumps(config),
        **{f"m/code/{name}.py": text for name, text in files.items()},
    }


ONE = {"kinds": {"Mine": "mine.py"}, "files": {"mine.py": "0"}}

MODELS = [
    Case(
        "code of a model, unasked",
        "generate m",
        says="Mine of m/code/mine.py.*--trust-code",
        files=exported(ONE, mine=MARKING),
        check=nothing_ran,
    ),
    Case(
        "damaged code of a model",
        "generate m --trust-code",
        says="is not run: .*mine.py is damaged",
        files=exported(ONE, mine=MARKING),
        check=nothing_ran,
    ),
    Case(
        "missing code of a model",
        "generate m --trust-code",
        says="is not run: .*mine.py: no such file",
        files=exported(ONE),
    ),
    Case(
        "code outside a model",
        "generate m --trust-code",
        says="no Python file inside the folder",
        files=exported({"kinds": {}, "files": {"../mine.py": "0"}}),
    ),
    Case(
        "code of a model in no file",
        "generate m --trust-code",
        says="code.kinds.Mine must be one of",
        files=exported({"kinds": {"Mine": "other.py"}, "files": {"mine.py": "0"}}),
    ),
    Case(
        "code of a model that is a list", "generate m", says="of its code cannot be read", files=exported([1])
    ),
]

CASES: list[Case] = [*STUDIES, *MODELS]
