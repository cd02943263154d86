"""What compression costs trained networks, in bits per byte, beside what libraries make of the same matrices.

    python -m benchmarks.life.compress FOLDER... [--data CORPUS] [--only TEXT]

Each network, an exported folder, is compressed by one modifier at a time, with its defaults but for what is
named; where a library does the same (`benchmarks.life.libraries`), it gets the same calibration windows.
Changes are means of differences on the same windows. `ours less its` is our damage less that of the library,
with its error, and `beside` the same as a share of it: positive where ours does more. Rows are kept as they
come.

The libraries beside PyTorch: torchao (extra `references`), and llmcompressor, which is in no extra.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from benchmarks.common import keep_row, show
from benchmarks.life.libraries import LIBRARIES, by_library
from evaluators.scoring.base import Score, paired_difference
from evaluators.tasks.base import Task
from nas.modification import ModificationSettings, figures_of
from nas.modifiers.base import Modifier, Work, modifier_of
from nas.study.task import check_tokens
from nas.training.start import start_of
from search_spaces.devices import on_cuda
from search_spaces.network.model import Model

COMMAND = "python -m benchmarks.life.compress"
MODIFIERS = (
    *(f"quantize,bits={bits},method={method}" for bits in (4, 3, 2) for method in ("nearest", "gptq", "awq")),
    *(f"allocate,like={bits}" for bits in (4, 3, 2)),
    "quantize,bits=8,group=65536,activations=8,state=8",
    *(f"prune,method={method}" for method in ("magnitude", "wanda", "sparsegpt")),
    "allocate,of=sparsity",
    *(f"prune,pattern=2:4,method={method}" for method in ("magnitude", "wanda", "sparsegpt")),
)


def main() -> None:
    """Run, print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("folders", nargs="+", type=Path)
    words.add_argument("--data", help="text or a corpus (default: that of the network's training)")
    words.add_argument("--window", type=int, help="tokens of a window")
    words.add_argument("--windows", type=int, help="windows that scores are means of")
    words.add_argument("--calibration", type=int, default=64, help="windows to calibrate on")
    words.add_argument("--only", default="", help="modifiers with one of these words in them, in this order")
    words.add_argument("--device", default="cpu", help="where all is computed: cpu, or cuda:0")
    given = words.parse_args()
    asked = list(dict.fromkeys(m for part in given.only.split(" ") for m in MODIFIERS if part in m))
    torch.set_num_threads(1)
    for folder in given.folders:
        rows = []
        for row in compressed(folder, asked, given):
            about = {"window": given.window, "calibration": given.calibration}
            keep_row(
                "compress_gpu" if on_cuda(given.device) else "compress",
                f"{COMMAND} FOLDER...",
                ("network", "modifier"),
                {"network": folder.name, **row, **about},
            )
            rows.append(row)
        show(folder.name, rows)


def compressed(folder: Path, asked: list[str], given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each modifier of a network."""
    start = start_of(str(folder))
    settings = ModificationSettings(
        data=given.data or start.settings.get("data"),
        window=given.window or start.settings.get("window"),
        validation_windows=given.windows,
    )
    task, model = settings.make_task(), start.model.to(given.device)
    check_tokens(start.tokenizer, task)
    before = figures_of(model, task).score
    for text in asked:
        modifier = modifier_of(text)
        if "calibration" in modifier.to_plain():
            modifier = modifier.with_settings({"calibration": given.calibration})
        row, own = ours(model, modifier, task, before)
        yield {"modifier": text, **row, **theirs(model, text, task, (before, own), given)}


def ours(model: Model, modifier: Modifier, task: Task, before: Score) -> tuple[dict[str, Any], Score]:
    """What our modifier does, and the score behind it."""
    began = monotonic()
    modifier.require(model.spec)
    made = modifier.modify(deepcopy(model), Work(task, lambda: model)).model
    after = figures_of(made.eval(), task)  # what it rounds has its values already
    change, error = paired_difference(after.score.samples, before.samples)
    row = {
        "bits per byte": before.value,
        "change": change,
        "error": error,
        "not zero": after.nonzero,
        "bytes": after.weight_bytes,
        "seconds": round(monotonic() - began, 1),
    }
    return row, after.score


def theirs(
    model: Model, text: str, task: Task, scores: tuple[Score, Score], given: argparse.Namespace
) -> dict[str, Any]:
    """What a library makes of the same network with the same windows; nothing where there is none.

    `scores` are those of the network before, and behind our modifier.
    """
    library, make = LIBRARIES.get(text, ("", None))
    found: dict[str, Any] = dict.fromkeys(
        ("library", "its change", "ours less its", "error of that", "beside")
    )
    if make is None or find_spec(library) is None:
        return found
    windows = task.train_batch(0, 0, given.calibration)[0]
    after = figures_of(by_library(model, windows, make()), task).score
    (change, _), (less, error) = (
        paired_difference(after.samples, scores[0].samples),
        paired_difference(scores[1].samples, after.samples),
    )
    return dict(zip(found, (library, change, less, error, less / change), strict=True))


if __name__ == "__main__":
    main()
