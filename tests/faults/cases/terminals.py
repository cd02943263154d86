"""Standard streams that take no text, or not every text, and texts that would rule a terminal."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import Case
from tests.faults.stored import copied, made_studies, sql
from tests.forks import Ended

COMMANDS = ("front laptop", "show laptop 0", "ls", "blocks", "blocks Attention", "objectives", "--help")
READERS = ("front laptop", "show laptop 0", "compare laptop second", "zoo mamba")
studies = copied(made_studies)


def ascii_only(folder: Path, ended: Ended) -> None:
    assert ended.stdout.isascii()
    assert "\N{REPLACEMENT CHARACTER}" not in ended.stdout


def silent(folder: Path, ended: Ended) -> None:
    assert (ended.stdout, ended.stderr) == ("", "")


def no_escapes(folder: Path, ended: Ended) -> None:
    for text in (ended.stdout, ended.stderr):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text


HOSTILE = "'[red]\x1b[31m\x07\u202e\n[/nothing]x'"
HARMLESS = r"\[red\]\\x1b\[31m\\x07\\u202e \[/nothing\]x"

CASES = [
    *(
        Case(
            f"{command} in {encoding}",
            command,
            code=0,
            says=r"\+/-" if command.startswith(("front", "show", "compare")) else "",
            prepare=studies,
            environment={"PYTHONIOENCODING": encoding},
            check=ascii_only if encoding.startswith("ascii") else None,
            leaves_nothing=False,
        )
        for encoding in ("ascii", "koi8-r")
        for command in READERS
    ),
    Case("a table of blocks in ascii", "blocks", code=0, environment={"PYTHONIOENCODING": "ascii"}),
    Case(
        "help in ascii",
        "search --help",
        code=0,
        environment={"PYTHONIOENCODING": "ascii"},
        check=ascii_only,
    ),
    *(
        Case(f"{command} to a closed output", command, code=0, prepare=studies, streams={1: "closed"})
        for command in COMMANDS
    ),
    *(
        Case(f"{command} to a full disk", command, says="No space left", prepare=studies, streams={1: "full"})
        for command in COMMANDS
    ),
    *(
        Case(
            f"{command} to a reader that has left",
            command,
            code=141,
            prepare=studies,
            streams={1: "left"},
            check=silent,
        )
        for command in COMMANDS
    ),
    *(
        Case(f"errors to a {what} standard error", "front nobody", prepare=studies, streams={2: what})
        for what in ("closed", "full", "left")
    ),
    Case(
        "all streams closed", "ls", code=0, prepare=studies, streams={0: "closed", 1: "closed", 2: "closed"}
    ),
    Case("a closed input", "ls", code=0, says="laptop", prepare=studies, streams={0: "closed"}),
    *(
        Case(
            f"{command} on a terminal of {columns} columns",
            command,
            code=0,
            says="laptop|Usage|t",
            prepare=studies,
            streams={1: f"terminal {columns}"},
        )
        for columns in (0, 1, 20)
        for command in ("front laptop", "ls", "--help")
    ),
    *(
        Case(f"{command} with COLUMNS={columns}", command, code=0, says="a", environment={"COLUMNS": columns})
        for columns in ("0", "1", "-5", "many", "99999999")
        for command in ("blocks", "--help")
    ),
    Case(
        "a dumb terminal",
        "front laptop",
        code=0,
        says="on the front",
        prepare=studies,
        environment={"TERM": "dumb"},
        streams={1: "terminal 80", 2: "terminal 80"},
        check=no_escapes,
    ),
    Case(
        "a command of escapes",
        ["\x1b[31m[red]"],
        says=r"No such command '\\x1b\[31m\[red\]'",
        check=no_escapes,
    ),
    Case("an option of escapes", ["ls", "--\x1b[31m"], says=r"\\x1b", check=no_escapes),
    Case("a study of escapes", ["front", "\x1b]0;x\x07"], says=r"no store", check=no_escapes),
    Case(
        "a name of escapes",
        ["front", "\x1b]0;[red]\x07"],
        says=r"no study",
        prepare=studies,
        check=no_escapes,
    ),
    *(
        Case(
            f"{what} of markup and escapes in {command}",
            command,
            code=code,
            says=HARMLESS,
            prepare=copied(made_studies, sql(statement)),
            check=no_escapes,
            lines=3,
            leaves_nothing=False,
        )
        for what, command, code, statement in (
            ("a study's name", "ls", 0, f"UPDATE studies SET name = {HOSTILE} WHERE name = 'second'"),
            (
                "a space's name",
                "ls",
                0,
                "UPDATE studies SET config_json ="
                f" json_set(config_json, '$.space.name', {HOSTILE}) WHERE name = 'second'",
            ),
            (
                "a source",
                "show second 0",
                0,
                "UPDATE trials SET values_json ="
                f" json_set(values_json, '$.params.source', {HOSTILE}) WHERE number = 0",
            ),
            ("a reason", "front laptop", 0, f"UPDATE trials SET reason = {HOSTILE} WHERE state = 'failed'"),
            ("a reason", "show laptop 40", 0, f"UPDATE trials SET reason = {HOSTILE} WHERE state = 'failed'"),
        )
    ),
]
