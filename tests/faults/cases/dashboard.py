"""The dashboard where it cannot listen, or has nothing to show."""

from __future__ import annotations

import atexit
import shutil
import socket
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from tests.faults.campaign import Case

STORE = "dashboard --store studies.db"


@lru_cache(maxsize=1)
def a_store() -> Path:
    """One small store, made when it is first needed."""
    from nas.store import Store
    from tests.dashboards.made import make_study

    path = Path(mkdtemp(prefix="nas-store-")) / "studies.db"
    with Store(path) as opened:
        make_study(opened, "full", trials=3, complete=False)
    return path


def with_store(folder: Path) -> None:
    shutil.copy(a_store(), folder / "studies.db")


TAKEN = socket.socket()
"""A port that this process listens on as long as the tests run."""
TAKEN.bind(("127.0.0.1", 0))
TAKEN.listen()
atexit.register(TAKEN.close)

CASES = [
    *(
        Case(f"dashboard on port {port}", f"{STORE} --port {port}", says=says, prepare=with_store)
        for port, says in (
            ("0", "--port must be at least 1"),
            ("-1", "--port must be at least 1"),
            ("65536", "--port must be at most 65535"),
            ("70000", "--port must be at most 65535"),
            ("1" * 30, "--port must be at most 65535"),
        )
    ),
    Case(
        "dashboard on a port that is taken",
        f"{STORE} --port {TAKEN.getsockname()[1]}",
        says="cannot listen on 127.0.0.1:.*in use.*try --port",
        prepare=with_store,
    ),
    *(
        Case(
            f"dashboard on host {host!r:.40}", [*STORE.split(), "--host", host], says=says, prepare=with_store
        )
        for host, says in (
            ("", "--host must not be empty"),
            ("no such host", "--host must be an address"),
            ("http://localhost", "--host must be an address"),
            ("localhost:8050", "--host must be an address"),
            ("unix:///tmp/socket", "--host must be an address"),
            ("999.1.1.1", "--host must be an address"),
            ("[::1]", "--host must be an address"),
            ("x" * 300, "--host must be an address"),
            ("a..b", "--host must be an address"),
            ("ü", "--host must be an address"),
            ("192.0.2.1", "cannot listen on 192.0.2.1"),
        )
    ),
    Case("dashboard without a store", "dashboard", says="there is no store at studies"),
    Case("dashboard over a folder", "dashboard --store here", prepare=lambda at: (at / "here").mkdir()),
    Case("dashboard over text", "dashboard --store s.db", files={"s.db": "hello " * 99}, says="not a SQLite"),
    Case("dashboard over nothing", "dashboard --store s.db", files={"s.db": b""}, says="holds no studies"),
    Case("dashboard over a store at an empty place", ["dashboard", "--store", ""]),
    Case("dashboard over /dev/null", "dashboard --store /dev/null", says="/dev/null"),
]
