"""The learning rate at which each kind of block learns best at the base width (`evaluators.rate_sweep`).

What blocks state as `learning_rate` comes from this table, at sizes of blocks that suit the width. One seed:
a rate is right to about a factor of one and a half, which is what it is used for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from multiprocessing import get_context

import torch

from benchmarks.common import keep
from evaluators.corpus import load_corpus
from evaluators.rate_sweep import sweep_rates
from evaluators.tasks.language import LanguageModelling
from search_spaces.blocks.base import Block, blocks

STEPS = 200
SIZES = {"num_heads": 4, "head_dim": 16, "num_kv_heads": 2, "state_dim": 16, "channels": 128, "expansion": 2}


def main(kinds: Sequence[str] = ()) -> None:
    """Run all, or some kinds, side by side on the processors there are, and keep the table."""
    corpus, kinds = load_corpus(), kinds or list(blocks)
    rows = []
    with ProcessPoolExecutor(
        int(os.environ.get("NAS_PROCESSES", os.cpu_count() or 1)), mp_context=get_context("spawn")
    ) as pool:
        for done in as_completed([pool.submit(_sweep, kind, corpus.folder) for kind in kinds]):
            rows.append(done.result())
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: str(row["block"]))
    best = {str(row["block"]): row["best"] for row in rows}
    keep("learning_rates", "python -m benchmarks learning_rates", rows, best=best, steps=STEPS)


def _sweep(kind: str, folder: str) -> dict[str, object]:
    torch.set_num_threads(1)
    sweep = sweep_rates(small(blocks[kind]), LanguageModelling(folder), steps=STEPS)
    scores = {f"{rate:.2g}": score for rate, score in sweep.scores.items()}
    return {"block": kind, "best": sweep.best if sweep.scores else None, "bits_per_byte": scores}


def small(kind: type[Block]) -> Block:
    """The block at the sizes of the sweep."""
    known = {field.name for field in fields(kind)}
    return replace(kind(), **{name: size for name, size in SIZES.items() if name in known})


if __name__ == "__main__":
    main(sys.argv[1:])
