"""The processes of a cluster, read off /proc: who descends from whom, and who is still there at the end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process: its number and its beginning name it, even after another has got its number."""

    number: int
    began: str


def descendants(*roots: int) -> set[Process]:
    """The processes that descend from these, which run themselves."""
    parents = {}
    for number in _numbers():
        if (fields := _fields(number)) is not None:
            parents[number] = (int(fields[1]), fields[19])
    found = {root for root in roots if root in parents}
    grown = True
    while grown:
        new = {number for number, (parent, _) in parents.items() if parent in found} - found
        found |= new
        grown = bool(new)
    return {Process(number, parents[number][1]) for number in found}


def runs(process: Process) -> bool:
    """Whether it is still there, not only waiting to be noticed as ended."""
    fields = _fields(process.number)
    return fields is not None and fields[19] == process.began and fields[0] != "Z"


def title(process: Process) -> str:
    """What it calls itself."""
    try:
        words = Path(f"/proc/{process.number}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return ""
    return words.decode(errors="replace").strip()


def resident(process: Process) -> int:
    """Its resident memory, in bytes; 0 where it is gone."""
    try:
        pages = Path(f"/proc/{process.number}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def kill(process: Process) -> None:
    """End it at once."""
    with suppress(ProcessLookupError):
        os.kill(process.number, signal.SIGKILL)


def _numbers() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def _fields(number: int) -> list[str] | None:
    """The fields of its stat after the name, from the state on."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
