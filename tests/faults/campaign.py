"""A campaign of faults: what is wrong with a command, and how it must end.

    CASES = [
        Case("a seed below zero", "search laptop --name a --seed -1", says="seed must be at least 0"),
        Case("a table that is a pipe", "profile import t.json", prepare=lambda at: os.mkfifo(at / "t.json")),
    ]

Every case runs in a process of its own, a fork of a warm one, in a fresh folder, with limits on the CPU time
and on the memory that it may take beyond what the warm process holds. It must end with its exit code, in few
lines on standard error, without a traceback, and say what `says` looks for.

Cases that take over a second or two are `slow=True`: only `make faults` runs them. Of the others `make test`
runs a sample.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from tests.faults import cases
from tests.faults.streams import connect
from tests.forks import Ended, Fork, run_main, until
from tests.limits import limit_process

WALL_SECONDS = 60
"""A command that hangs has used no CPU time: it is ended after this much time, times the case's seconds."""


@dataclass(frozen=True)
class Case:
    """A command that something is wrong with, and how it must end."""

    name: str
    command: str | Sequence[str]
    """The words after `nas`, as in a shell or as a list; run in a fresh folder."""
    code: int = 2
    says: str = ""
    """A regular expression to be found in what is printed."""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """Files of the folder, by relative path, before the command runs."""
    prepare: Callable[[Path], None] | None = None
    """Makes in the folder what is more than files."""
    check: Callable[[Path, Ended], None] | None = None
    """Looks at the folder and the output afterwards."""
    environment: Mapping[str, str] = field(default_factory=dict)
    streams: Mapping[int, str] = field(default_factory=dict)
    """What a standard descriptor is instead of a file: "closed", "full" (a disk), "left" (a pipe that nobody
    reads), or "terminal 80" (of so many columns)."""
    signals: Sequence[int] = ()
    """Signals that it gets, one after the other, once standard error shows `when`."""
    when: str = ""
    lines: int = 1
    """Most lines on standard error."""
    seconds: int = 5
    """CPU time that it may take; the machine may be busy, so more than a user would wait."""
    megabytes: int = 200
    """Memory that it may take, beyond what the program itself holds after its imports."""
    leaves_nothing: bool = True
    """A refused command leaves the folder as it was: no study, no file."""
    slow: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(shlex.split(self.command) if isinstance(self.command, str) else self.command)


def all_cases() -> list[Case]:
    """The cases of all modules in `tests.faults.cases`; their names are different."""
    found: list[Case] = []
    for module in iter_modules(cases.__path__):
        found += import_module(f"{cases.__name__}.{module.name}").CASES
    names = [case.name for case in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found


def run_case(case: Case, folder: Path) -> Ended:
    """Run a case in a fresh folder, and hold it to what it must do."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    if case.prepare:
        case.prepare(folder)
    before = _names(folder)
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", **case.environment}
    limits = (case.seconds, case.megabytes)
    fork = Fork(_limited, str(folder), case.words, limits, dict(case.streams), environment=environment)
    if case.signals:
        until(lambda: case.when in fork.stderr, fork, timeout=WALL_SECONDS)
    for number in case.signals:
        fork.send(number)
    ended = fork.wait(timeout=WALL_SECONDS * max(1, case.seconds / 5))
    both = f"{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in both, ended
    assert ended.returncode == case.code, ended
    assert len(ended.stderr.splitlines()) <= case.lines, ended
    assert re.search(case.says, both), (case.says, ended)
    if case.leaves_nothing and case.code == 2:
        assert _names(folder) == before, "a refused command left something behind"
    if case.check:
        case.check(folder, ended)
    return ended


def ran(folder: Path, command: str | Sequence[str]) -> None:
    """A command that goes well, before the one of a case."""
    words = tuple(shlex.split(command) if isinstance(command, str) else command)
    ended = Fork(_limited, str(folder), words, (60, 1000), {}).wait()
    assert ended.returncode == 0, ended


def _names(folder: Path) -> set[str]:
    """All paths in a folder, but for those that SQLite keeps beside a database that is read."""
    paths = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return {path for path in paths if not path.endswith(("-wal", "-shm"))}


def _limited(folder: str, words: tuple[str, ...], limits: tuple[int, int], streams: dict[int, str]) -> None:
    """The command line, in this folder, within these limits, with these standard streams."""
    os.chdir(folder)
    connect(streams)
    limit_process(*limits)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run_main(words)
