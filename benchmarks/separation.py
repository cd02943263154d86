"""Do the synthetic tasks tell mixers apart, as published? `python -m benchmarks.separation`.

A network of two layers, width 64, with one mixer and a SwiGLU(2) each, is trained from scratch on each task,
and judged by its share of wrong answers beside that of guessing. Of several seeds the best counts: a task is
solved all or nothing, at a random step. Rows are kept as they come, so that a run that is stopped has those
that it finished.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.common import RESULTS, keep, show_plainly
from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.base import tasks
from evaluators.tasks.synthetic import Synthetic
from evaluators.training.recipe import Recipe
from foundation.files import read_json
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.delta_net import DeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.slstm import SLSTM
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer

MIXERS: Mapping[str, Block] = {
    "attention": Attention(num_heads=2, num_kv_heads=2, head_dim=32),
    "window 4": Attention(num_heads=2, num_kv_heads=2, head_dim=32, window=4),
    "short conv": ShortConv(kernel=4),
    "Mamba-2": Mamba2(num_heads=4, head_dim=32, state_dim=32),
    "DeltaNet": DeltaNet(num_heads=2, head_dim=32, state_dim=32),
    "RG-LRU": RGLRU(),
    "sLSTM": SLSTM(num_heads=4, head_dim=16),
}
"""What is told apart, by its name in the table."""

SIZES: Mapping[str, Mapping[str, Any]] = {
    "parity": {"length": 16},
    "parity, judged at 64": {"length": 16, "judged_length": 64},
    "in_context_recall": {"tokens": 32, "keys": 4},
    "permutation_composition": {"things": 3, "length": 12},
    "induction_heads": {},
    "selective_copying": {"length": 24, "copied": 4},
    "recall": {},
    "noisy_recall": {"tokens": 32, "keys": 4},
    "fuzzy_recall": {},
    "compression": {"length": 16},
    "memorization": {},
}
"""The tasks, in the order in which they are run, with their sizes."""


def network(task: Synthetic, mixer: Block) -> Decoder:
    """What is trained."""
    layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=2))
    return Decoder(vocab=task.vocab, d_model=64, layers=(layer,) * 2)


def row_of(name: str, settings: argparse.Namespace, mixers: Sequence[str]) -> dict[str, Any]:
    """The shares of wrong answers on one task, the best of its seeds, by mixer."""
    task = tasks[name.partition(",")[0]].make(data=None, length=None, windows=None)
    assert isinstance(task, Synthetic)
    task = task.with_settings(SIZES[name])
    row: dict[str, Any] = {"task": name, "guessing": round(task.floor, 3)}
    for mixer in mixers:
        evaluator = FromScratch(task, batch=settings.batch, recipe=Recipe(rate=settings.rate))
        seeds = range(settings.seeds)
        scores = [evaluator.score(network(task, MIXERS[mixer]), settings.steps, s).value for s in seeds]
        row[mixer] = round(min(scores), 3)
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS), choices=list(MIXERS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1)
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given = [f"--{name} {getattr(settings, name)}" for name in ("steps", "batch", "rate", "seeds")]
    command = f"python -m benchmarks.separation {' '.join(given)}"
    rows = {row["task"]: row for row in _kept(command)}
    for name in settings.tasks:
        began = time.process_time()
        row = {**rows.get(name, {}), **row_of(name, settings, settings.mixers)}
        rows[name] = {**row, "CPU seconds": round(time.process_time() - began, 1)}
        show_plainly(f"share of wrong answers after {settings.steps} steps", [rows[name]])
        keep("separation", command, [rows[task] for task in SIZES if task in rows])


def _kept(command: str) -> list[dict[str, Any]]:
    """The rows of an earlier run with these settings."""
    path = RESULTS / "separation.json"
    before = read_json(path) if path.is_file() else {}
    rows: list[dict[str, Any]] = before["rows"] if before.get("command") == command else []
    return rows


if __name__ == "__main__":
    main()
