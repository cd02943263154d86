"""A search whose evaluator sleeps: what is measured is everything around it.

python -m benchmarks.cluster.napping STORE ADDRESS TRIALS STRATEGY MILLISECONDS [WORKERS]
"""

from __future__ import annotations

import sys
import time
from dataclasses import astuple, dataclass

import nas
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import parts
from search_spaces.language.space import Space

NAME = "napping"


@parts.add
@dataclass(frozen=True)
class Napping:
    """Ten numbers."""

    a: int = one_of(0, 1, 2, 3)
    b: int = one_of(0, 1, 2, 3)
    c: int = one_of(0, 1, 2, 3)
    d: int = one_of(0, 1, 2, 3)
    e: int = one_of(0, 1, 2, 3)
    f: int = one_of(0, 1, 2, 3)
    g: int = one_of(0, 1, 2, 3)
    h: int = one_of(0, 1, 2, 3)
    i: int = one_of(0, 1, 2, 3)
    j: int = one_of(0, 1, 2, 3)


@dataclass(frozen=True)
class Nap:
    """An objective that takes so many seconds."""

    seconds: float
    __name__ = "first"

    def __call__(self, spec: Napping) -> float:
        """Its optimum lies at ones."""
        time.sleep(self.seconds)
        return float(sum((value - 1) ** 2 for value in astuple(spec)))


def second(spec: Napping) -> float:
    """The other: its optimum lies elsewhere."""
    return float(sum((value - 2) ** 2 * place for place, value in enumerate(astuple(spec), 1)))


def space() -> Space:
    """All of them."""
    return Space(Napping(), name=NAME)


def search(words: list[str]) -> None:
    """Search as these words say; without a number of workers by as many as fit."""
    store, address, trials, strategy, milliseconds, *workers = words
    nas.search(
        space(),
        name=NAME,
        objectives=[Nap(float(milliseconds) / 1000), second],
        strategy=strategy,
        trials=int(trials),
        finalists=0,
        store=store,
        workers=nas.Workers(int(workers[0]) if workers else 0, address=address),
    )


if __name__ == "__main__":
    search(sys.argv[1:])
