"""A search whose evaluators raise, hang, return NaN, want too much memory, and end their process.

    python -m benchmarks.cluster.hostile STORE ADDRESS TRIALS

What a candidate does follows from its genes alone, so that a second try does the same.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from dataclasses import astuple, dataclass

import torch

import nas
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import parts
from search_spaces.language.space import Space

SECONDS = 0.2
"""How long a candidate takes."""

TIMEOUT = 4.0
"""When a candidate that hangs is given up; a busy machine may take long to begin the first."""

WORKERS = 4
FAULTS = {0: "raises", 1: "hangs", 2: "is NaN", 3: "wants memory", 4: "ends its process"}
ONE_IN = 25
REASONS = {
    "raises": "ValueError: this one raises",
    "hangs": f"no answer within {TIMEOUT:g} s",
    "is NaN": "first is nan",
    "wants memory": "out of memory",
    "ends its process": "worker lost",
}
"""How the reason of each begins."""


@parts.add
@dataclass(frozen=True)
class Hostile:
    """Eight numbers."""

    a: int = one_of(0, 1, 2, 3)
    b: int = one_of(0, 1, 2, 3)
    c: int = one_of(0, 1, 2, 3)
    d: int = one_of(0, 1, 2, 3)
    e: int = one_of(0, 1, 2, 3)
    f: int = one_of(0, 1, 2, 3)
    g: int = one_of(0, 1, 2, 3)
    h: int = one_of(0, 1, 2, 3)


def fault(spec: Hostile) -> str:
    """What this candidate does; empty where it behaves."""
    return FAULTS.get(zlib.crc32(repr(astuple(spec)).encode()) % ONE_IN, "")


def first(spec: Hostile) -> float:
    """One objective, and all faults."""
    time.sleep(SECONDS)
    match fault(spec):
        case "raises":
            raise ValueError("this one raises")
        case "hangs":
            time.sleep(3600)
        case "is NaN":
            return float("nan")
        case "wants memory":
            torch.empty(10**14)
        case "ends its process":
            os._exit(7)
    return float(sum((value - 1) ** 2 for value in astuple(spec)))


def second(spec: Hostile) -> float:
    """The other: its optimum lies elsewhere."""
    return float(sum((value - 2) ** 2 * place for place, value in enumerate(astuple(spec), 1)))


def space() -> Space:
    """All of them."""
    return Space(Hostile(), name="hostile")


def search(store: str, address: str, trials: int) -> None:
    """Begin the study, or go on with it."""
    nas.search(
        space(),
        name="hostile",
        objectives=[first, second],
        strategy="random",
        trials=trials,
        finalists=0,
        store=store,
        workers=nas.Workers(WORKERS, address=address, timeout=TIMEOUT),
    )


if __name__ == "__main__":
    search(sys.argv[1], sys.argv[2], int(sys.argv[3]))
