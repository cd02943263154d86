"""How far a search is, read off its store while it runs, and ports for its cluster."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path


def ended(store: Path) -> int:
    """Trials with an outcome; 0 as long as there is no store."""
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM trials WHERE state != 'running'"
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
