"""How the dashboard stands large studies: python -m benchmarks.dashboards [TRIALS ...]

For each size: seconds until the store is read in full, until the server has made the first front, the one
after a slider and the one after another axis, and of a poll without news with the bytes that it sends; what
the server holds; and, where there is a Chromium, seconds from the address to the drawn front. The trials are
those of a made-up search with values drawn around them, so that fronts are as small as they are in a search.
"""

from __future__ import annotations

import json
import logging
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.server import make_app
from dashboards.pages.front import BOUNDS, Front
from nas.store import Store
from tests.dashboards.browser import CHROMIUM, browser, served, window
from tests.dashboards.made import make_study

SIZES = (1_000, 50_000, 500_000)
REPEATS = 5
DRAWN = "document.querySelector('#front-plot .js-plotly-plot')?.data?.length > 3"
READ = "document.querySelector('#front-line')?.innerText.includes('complete:')"
MOST_READING = 600_000
"""Milliseconds that a server may take to read a store."""


def made_store(folder: Path, trials: int, seed: int = 0) -> Path:
    """A store with one study of so many distinct scored networks."""
    path, dice = folder / "studies.db", Random(seed)
    with Store(path) as store:
        make_study(store, "large", trials=60, complete=False)
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(trials)")]
        rows = connection.execute("SELECT * FROM trials WHERE state = 'complete'").fetchall()
        known = [dict(zip(names, row, strict=True)) for row in rows]
        connection.execute("DELETE FROM trials")
        fill = f"INSERT INTO trials VALUES ({', '.join('?' * len(names))})"
        connection.executemany(
            fill, (tuple(_varied(dice.choice(known), i, dice).values()) for i in range(trials))
        )
    return path


def _varied(row: dict[str, Any], number: int, dice: Random) -> dict[str, Any]:
    values = json.loads(row["values_json"])
    for value in values.values():
        value["value"] *= 1.0 + abs(dice.gauss(0, 0.3))
        value.pop("samples", None)
    text = json.dumps(values)
    news = {
        "number": number,
        "revision": number + 1,
        "digest": f"{number:012x}",
        "values_json": text,
        "reused": None,
    }
    return {**row, **news}


def seconds(work: Callable[[], Any], times: int = REPEATS) -> float:
    """The median of several calls."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measured(path: Path) -> dict[str, float]:
    """What the server takes for one study."""
    with Store(path, read_only=True) as store:
        live = LiveStore(store, large_study=10**9)
        began = time.perf_counter()
        reading = live.study("large")
        found = {"read": time.perf_counter() - began}
        front, study = Front(live), key_of(store.study("large"))
        kept = [["weight_bytes", 1.0, 1e18], *[None] * (len(BOUNDS) - 1)]

        def draw(x: str = "decode_ms", bound: float = 1e18, seen: Any = None) -> tuple[Any, ...]:
            bounds = [bound, *[None] * (len(BOUNDS) - 1)]
            axes = (x, "bits_per_byte", None, None, None)
            return front.draw(axes=axes, bounds=bounds, kept=kept, study=study, seen=seen)

        figure, *_, seen = draw()
        found["figure_bytes"] = len(figure.to_json())
        found["front"] = seconds(lambda: draw()[0].to_json())
        found["slider"] = seconds(lambda: draw(bound=5e5)[0].to_json())
        found["axis"] = seconds(lambda: draw("params")[0].to_json())
        found["poll"] = seconds(lambda: draw(seen=seen))
        found["poll_bytes"] = len(json.dumps(seen))
        found["networks"] = reading.distinct
        found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def drawn(path: Path) -> float:
    """Seconds from the address to the drawn front, of a server that has read the store."""
    with served(make_app(path)) as site, browser() as opened:
        page = window(opened)
        page.goto(f"{site}/study/large")
        page.wait_for_function(READ, timeout=MOST_READING)

        def once() -> None:
            page.goto(f"{site}/study/large")
            page.wait_for_function(DRAWN)

        return seconds(once, 3)


def main(sizes: list[int]) -> None:
    """Print a line of JSON for each size."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for size in sizes or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = made_store(Path(folder), size)
            found = measured(path)
            if CHROMIUM is not None:
                found["browser"] = drawn(path)
            told = {name: round(value, 4) for name, value in found.items()}
            sys.stdout.write(json.dumps({"trials": size, **told}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
