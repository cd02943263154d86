"""Paths: stores, studies' folders and outputs that are not what a command needs, or cannot be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.faults.campaign import Case, ran
from tests.faults.cases.spaces import HEAD, SEARCH, SMALL
from tests.forks import Ended

FILES = {"s.py": HEAD + SMALL}


def _of_something_else(at: Path) -> None:
    with closing(sqlite3.connect(at / "other.db")) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()


def _still_of_something_else(at: Path, ended: Ended) -> None:
    with closing(sqlite3.connect(at / "other.db")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        assert tables == ["recipes"]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def _of_another_program(at: Path) -> None:
    with closing(sqlite3.connect(at / "other.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('ae1027a6acf')")
        connection.commit()


def _linked_in_a_circle(at: Path) -> None:
    (at / "a.db").symlink_to("b.db")
    (at / "b.db").symlink_to("a.db")


def _store(what: str, store: str, says: str, reads: str = "", **more: object) -> list[Case]:
    """A place that is no store, for what writes, and for what reads it."""
    commands = {"search": f"search s.py {SEARCH} --store", "ls": "ls --store", "resume": "resume a --store"}
    return [
        Case(
            f"a store that is {what}: {name}",
            [*command.split(), store],
            says=says if name == "search" else reads or says,
            files=FILES,
            **more,  # type: ignore[arg-type]
        )
        for name, command in commands.items()
    ]


STORES: list[Case] = [
    case
    for cases in (
        _store("nothing", "", "a store needs a place"),
        _store("a blank", " ", "a store needs a place"),
        _store("this folder", ".", "is a folder: name a file in it"),
        _store(
            "a folder",
            "here",
            "here is a folder: .*here/studies.db",
            prepare=lambda at: (at / "here").mkdir(),
        ),
        _store("the root", "/", "/ is a folder: name a file in it"),
        _store("/dev/null", "/dev/null", "/dev/null is a device or a pipe"),
        _store("/dev/zero", "/dev/zero", "/dev/zero is a device or a pipe"),
        _store("a pipe", "p.db", "p.db is a device or a pipe", prepare=lambda at: os.mkfifo(at / "p.db")),
        _store(
            "a text", "t.db", "t.db is not a SQLite", prepare=lambda at: (at / "t.db").write_text("a" * 9999)
        ),
        _store("below a file", "s.py/x.db", "s.py is a file, so s.py/x.db cannot lie in it"),
        _store("far below a file", "s.py/x/y/z.db", "s.py is a file, so s.py/x/y/z.db cannot lie in it"),
        _store(
            "of something else",
            "other.db",
            "other.db is not a store of nas: it holds recipes",
            prepare=_of_something_else,
            check=_still_of_something_else,
        ),
        _store(
            "of another program", "other.db", "other.db is not a store of nas", prepare=_of_another_program
        ),
        _store(
            "where nothing can be made", "/proc/here/s.db", "cannot make the folder", "no store at /proc/here"
        ),
        _store("a link in a circle", "a.db", "a.db", prepare=_linked_in_a_circle),
        _store("too long a name", "a" * 300 + ".db", "cannot open|name too long"),
        _store("a URL of two slashes", "sqlite://s.db", "write sqlite:///FILE"),
        _store("a URL of nothing", "://", "cannot read the store's URL"),
        _store("MySQL", "mysql://h/d", "a SQLite file or a PostgreSQL database, not 'mysql'"),
        _store("of a driver that is none", "sqlite+none:///s.db", "sqlite", "sqlite|no store"),
        _store("PostgreSQL where there is none", "postgresql://127.0.0.1:1/d", r"postgresql.*127\.0\.0\.1"),
        _store("a URL with a wrong port", "postgresql://h:port/d", "cannot read the store's URL"),
        _store("a URL of a folder", "sqlite:///.", "is a folder: name a file"),
    )
    for case in cases
]

NAMES = [
    Case(
        f"a study named {what}",
        ["search", "s.py", *SEARCH.replace("--name a", "").split(), "--name", name],
        says=says,
        files=FILES,
    )
    for what, name, says in (
        ("nothing", "", "a study's name is made of letters"),
        ("a blank", " ", "a study's name is made of letters"),
        ("a dot", ".", "a study's name is made of letters"),
        ("two dots", "..", "a study's name is made of letters"),
        ("upwards", "../a", "a study's name is made of letters"),
        ("a path", "a/b", "a study's name is made of letters"),
        ("a path of Windows", "a\\b", "a study's name is made of letters"),
        ("a drive", "C:a", "a study's name is made of letters"),
        ("an option", "-a", "a study's name is made of letters"),
        ("two lines", "a\nb", r"a study's name .*got 'a\\nb'"),
        ("a line and its end", "a\n", r"a study's name .*got 'a\\n'"),
        ("another script", "größe", "a study's name is made of letters"),
        ("other digits", "٣", "a study's name is made of letters"),
        ("an escape", "a\x1b[31m", r"got 'a\\x1b"),
        ("a novel", "a" * 10_000, r"at most 100 characters; got 'a{120}\.\.\.'$"),
        ("101 letters", "a" * 101, "at most 100 characters"),
        ("with a dot at its end", "a.", "does not end with '.'"),
        ("a device of Windows", "nul", "a study cannot be named 'nul'"),
        ("a device of Windows with an ending", "COM1.txt", "a study cannot be named 'COM1.txt'"),
        ("like the imported tables", "tables", "a study cannot be named 'tables'"),
        ("like the imported tables, louder", "TABLES", "a study cannot be named 'TABLES'"),
        ("like its database", "studies.db", "cannot be named 'studies.db'"),
        ("like its database's log", "studies.db-wal", "cannot be named 'studies.db-wal'"),
    )
] + [
    Case(
        "a study of 100 letters",
        ["search", "s.py", *SEARCH.replace("--name a", f"--name {'a' * 100}").split()],
        code=0,
        lines=6,
        files=FILES,
    ),
    Case("a study named like nothing, read", ["front", ""], says="no store|no study", files=FILES),
]


def _no_record(at: Path, ended: Ended) -> None:
    assert not (at / "studies" / "studies.db").exists(), "a study that cannot run is not stored"


def _file_at(name: str) -> Callable[[Path], None]:
    def prepare(at: Path) -> None:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text("mine")

    return prepare


IN_THE_WAY = r"the files of the study would lie in studies/a, but .* is a file"

FOLDERS = [
    Case(
        f"a study whose folder is {what}",
        f"search s.py {SEARCH}",
        says=says,
        files=FILES,
        prepare=prepare,
        check=_no_record,
    )
    for what, prepare, says in (
        ("a file", _file_at("studies/a"), IN_THE_WAY),
        ("a pipe", lambda at: ((at / "studies").mkdir(), os.mkfifo(at / "studies" / "a"))[1], IN_THE_WAY),
        (
            "a link to nowhere",
            lambda at: ((at / "studies").mkdir(), (at / "studies" / "a").symlink_to("gone"))[1],
            IN_THE_WAY,
        ),
        ("in a file", _file_at("studies"), r"studies is a file, so studies/studies.db cannot lie in it"),
    )
]


def _searched(*more: Callable[[Path], object]) -> Callable[[Path], None]:
    def prepare(at: Path) -> None:
        ran(at, f"search s.py {SEARCH}")
        for each in more:
            each(at)

    return prepare


OUTPUTS = [
    Case(
        f"{command.split()[0]} into {what}",
        [*command.split(), "-o", output],
        says=says,
        files=FILES,
        prepare=prepare,
    )
    for command, prepare in (
        ("report a", _searched()),
        ("export a 0", _searched()),
        ("profile s.py --scenario cpu,prompt=2,new_tokens=1 --profile-seconds 0", None),
        ("supernet train laptop", None),
    )
    for what, output, says in (
        ("nothing", "", "must not be empty"),
        ("a file", "s.py/x", "s.py"),
        ("where nothing can be made", "/proc/here/x", "/proc/here|nothing is trained"),
        ("/dev/null", "/dev/null/x", "/dev/null"),
    )
]

CASES = STORES + NAMES + FOLDERS + OUTPUTS
