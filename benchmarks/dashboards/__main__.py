"""How the dashboard stands large studies: python -m benchmarks.dashboards [TRIALS ...]

For each size, in headless Chromium on one machine in one run: seconds from the address to the first
figure, beside a blank page of Dash with the same points and, where it is installed, optuna-dashboard with
the same trials; milliseconds after a slider and after another axis; of polls without news also the bytes;
seconds until the server has read the store, and what it holds; and by how much a page that follows the
study slows who writes it. What is compared is taken in turns. Each number is a median of several, with the
least and the most.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from benchmarks.common import keep
from benchmarks.dashboards.browsing import (
    BLANK,
    OURS,
    answers,
    first_figure,
    polls,
    spread,
    until_read,
    watched,
)
from benchmarks.dashboards.servers import Served, blank, has_optuna_dashboard, optuna_dashboard, ours, serving
from benchmarks.dashboards.trials import STUDY, made_store
from benchmarks.dashboards.writing import slowdown
from tests.dashboards.browser import browser

SIZES = (1_000, 10_000, 50_000, 500_000)
ROUNDS = 3
POLLS = 5
PAIRS = 6
WRITTEN = 50_000
"""Trials of the study that is written while it is watched."""

PATIENCE = 60.0
"""Seconds after which a first figure is given up."""

READING = 600.0
"""Seconds that a server may take to read a store."""

LARGEST_OPTUNA = 50_000
"""Trials beyond which optuna-dashboard is not tried: it needs longer than `PATIENCE` for fewer."""


def main(sizes: list[int]) -> None:
    """Print and keep what is known of each size, whenever there is more."""
    rows: list[dict[str, Any]] = [{"trials": size} for size in sizes]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, browser() as opened:
        stores = [made_store(Path(folder), size) for size in sizes]
        served = [stack.enter_context(serving(ours, path)) for path in stores]
        for row, server in zip(rows, served, strict=True):
            row["read_s"] = until_read(opened, front_of(server), READING)
            row["memory_mb"] = server.memory()["now"]
        told(rows)
        for row, found in zip(rows, compared(opened, [front_of(each) for each in served], OURS), strict=True):
            row["first_s"] = found
        told(rows)
        for row, server in zip(rows, served, strict=True):
            row |= {name: spread(ms) for name, ms in answers(opened, front_of(server), ROUNDS).items()}
            polled = polls(opened, front_of(server), POLLS)
            row["poll"] = {name: spread(found) for name, found in polled.items()}
            row["memory_mb_most"] = server.memory()["most"]
            told(rows)
        with ExitStack() as plain:
            blanks = [plain.enter_context(serving(blank, path)).address for path in stores]
            for row, found in zip(rows, compared(opened, blanks, BLANK), strict=True):
                row["blank_s"] = found
        told(rows)
        for row, path in zip(rows, stores, strict=True):
            if row["trials"] <= LARGEST_OPTUNA and has_optuna_dashboard():
                with serving(optuna_dashboard, path) as theirs:
                    address = f"{theirs.address}/dashboard/studies/0"
                    row["optuna_s"] = first_figure(opened, address, BLANK, PATIENCE)
                told(rows)
        for row, server, path in zip(rows, served, stores, strict=True):
            if row["trials"] == WRITTEN:
                row["writer"] = writer(opened, server, path)
                told(rows)


def front_of(served: Served) -> str:
    """The address of the front."""
    return f"{served.address}/study/{STUDY}"


def compared(opened: Browser, addresses: list[str], drawn: str) -> list[dict[str, Any]]:
    """Seconds to the first figure at each address, in turns, and over those at the first one."""
    taken: list[list[float]] = [[] for _ in addresses]
    for _ in range(ROUNDS):
        for found, address in zip(taken, addresses, strict=True):
            found.append(first_figure(opened, address, drawn, PATIENCE) or PATIENCE)
    ratios = [[mine / first for mine, first in zip(found, taken[0], strict=True)] for found in taken]
    return [
        {**spread(found), "ratio": spread(ratio)["median"]}
        for found, ratio in zip(taken, ratios, strict=True)
    ]


def writer(opened: Browser, served: Served, path: Path) -> dict[str, Any]:
    """By how much a page that follows the study slows who writes it."""
    open_pages: list[Page] = []

    def watch(watching: bool) -> None:
        while open_pages:
            open_pages.pop().context.close()
        if watching:
            open_pages.append(watched(opened, served, f"/study/{STUDY}"))

    found = slowdown(path, watch, PAIRS)
    watch(False)
    return found


def told(rows: list[dict[str, Any]]) -> None:
    """Print and keep what is known so far: a run takes minutes."""
    print(rows, flush=True)
    keep(
        "dashboards", f"python -m benchmarks.dashboards {' '.join(str(row['trials']) for row in rows)}", rows
    )


if __name__ == "__main__":
    main(sorted(int(word) for word in sys.argv[1:]) or list(SIZES))
