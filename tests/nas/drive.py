"""Run by `test_crash.py` in a process of its own, to be killed: STORE STRATEGY."""

from __future__ import annotations

import sys

import nas
from tests.nas.toys import rich, slow, toy_space

if __name__ == "__main__":
    nas.search(
        toy_space(),
        name="crash",
        objectives=[slow, rich],
        strategy=sys.argv[2],
        trials=120,
        finalists=0,
        store=sys.argv[1],
    )
