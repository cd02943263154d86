"""The nodes of Ray clusters that were started on this machine, on record in the cache folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from foundation.cache import cache_folder


@dataclass(frozen=True)
class Node:
    """A node that was started here: its process and when that began, the head's address, its files."""

    process: int
    began: str
    address: str
    head: bool
    folder: str

    @property
    def log(self) -> Path:
        """What `ray start` wrote."""
        return Path(self.folder) / "log.txt"

    @property
    def runs(self) -> bool:
        """Whether its process is still there, and no other has its number."""
        return beginning(self.process) == self.began


def running() -> list[Node]:
    """The nodes that were started here and still run, the latest last."""
    nodes = []
    for file in sorted(_records().glob("*.json"), key=lambda file: file.stat().st_mtime):
        node = Node(**json.loads(file.read_text()))
        if node.runs:
            nodes.append(node)
        else:
            forget(node)
    return nodes


def note(node: Node) -> None:
    """Put a node on record."""
    _records().mkdir(parents=True, exist_ok=True)
    _record(node).write_text(json.dumps(asdict(node)))


def _records() -> Path:
    return cache_folder() / "clusters"


def _record(node: Node) -> Path:
    return _records() / f"{node.process}.json"


def forget(node: Node) -> None:
    """Remove a node's record and its files."""
    _record(node).unlink(missing_ok=True)
    shutil.rmtree(node.folder, ignore_errors=True)


def beginning(process: int) -> str:
    """When a process began, in ticks since the system did; empty where there is none, or it has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]
