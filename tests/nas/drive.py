"""What `test_crash.py` runs in processes of their own, to be killed."""

from __future__ import annotations

import sys

import evaluators.training.fit
import nas
from nas.cli import main
from tests.nas.toys import rich, slow, toy_space


def toy_search(store: str, strategy: str) -> None:
    """A search of some hundred milliseconds."""
    nas.search(
        toy_space(),
        name="crash",
        objectives=[slow, rich],
        strategy=strategy,
        trials=240,  # so many that a slow reader meets it at work after the last kill, too
        finalists=0,
        store=store,
    )


def command(words: list[str]) -> None:
    """The command line, with a checkpoint of the supernet every few steps."""
    evaluators.training.fit.SAVE_SECONDS = 0.1
    sys.argv = ["nas", *words]
    main()
