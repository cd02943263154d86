"""How much a watching dashboard slows a search that writes: pairs of blocks, watched and not, interleaved."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.dashboards.trials import STUDY
from nas.store import Store
from nas.study.trial import Trial

BLOCK_SECONDS = 5.0
"""How long is written in one block, so that a page that polls every two seconds polls in each."""

PAUSE = 0.02
"""Seconds between two trials: a search scores a candidate meanwhile."""


def slowdown(path: Path, watch: Callable[[bool], None], pairs: int) -> dict[str, Any]:
    """The time of saving a trial while a page follows the study, over that without, by pairs of blocks.

    `watch` opens and closes the page. Which of a pair is first alternates.
    """
    ratios, alone, dice = [], [], Random(0)
    with Store(path) as store:
        record = store.study(STUDY)
        known = store.trials_numbered(record, [0])[0]
        number = 10_000_000
        for pair in range(pairs):
            taken = {}
            for watching in (True, False) if pair % 2 else (False, True):
                watch(watching)
                number, taken[watching] = _block(store, record, known, number, dice)
            ratios.append(taken[True] / taken[False])
            alone.append(taken[False])
    mean = statistics.mean(ratios)
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    return {"ratio": mean, "error": error, "pairs": pairs, "save_ms": 1000 * statistics.median(alone)}


def _block(store: Store, record: Any, known: Trial, number: int, dice: Random) -> tuple[int, float]:
    """The next number, and the median seconds of saving one trial."""
    taken, end = [], time.perf_counter() + BLOCK_SECONDS
    while time.perf_counter() < end:
        values = {
            name: replace(each, value=each.value * (1 + abs(dice.gauss(0, 0.3))))
            for name, each in known.values.items()
        }
        trial = replace(known, number=number, values=values)
        began = time.perf_counter()
        store.save(record, [trial])
        taken.append(time.perf_counter() - began)
        number += 1
        time.sleep(PAUSE)
    return number, statistics.median(taken)
