"""Whether learning rates transfer: networks at their default rate against a sweep of it.

    python -m benchmarks.training.transfer --device cuda            # everything, in parts that can be stopped
    python -m benchmarks.training.transfer --widths 64 --kinds rglru

Each cell is a kind of mixer at a width and a depth: trained from scratch at the recipe's rate times 1/4, 1/2,
1, 2 and 4, on the same batches, scored on the same windows. It says how far the default is from the best of
the five, in bits per byte. `--order` trains ten architectures of one width in the same way, and compares
their order at the default with their order at their own best rates (Kendall's tau).

Cells that are in the results already are not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.common import RESULTS, keep, show_plainly
from benchmarks.training.networks import KINDS, network
from evaluators.corpus import load_corpus
from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.language import LanguageModelling
from evaluators.training.execution import Execution
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from foundation.errors import EvaluationFailed
from foundation.statistics import kendall_tau
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model

NAME = "training_transfer"
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
STEPS, BATCH = 300, 16
WINDOWS = {64: 128, 256: 128, 512: 512, 768: 512}
"""Bytes of a window by width: 2,048 tokens a step at the small widths, 8,192 at the large ones."""

CLOSE, BOUND, SHARE = 0.02, 0.05, 0.9
"""What is claimed: so close to the best in this share of the cells, and within the bound in all."""


COMPILE_SECONDS = 300.0
"""For compiling: what is compiled for one rate of a cell serves the other four."""


class Patient(FromScratch):
    """Training from scratch that compiles all of its regions, however short it is."""

    def _training(self, model: Model, steps: int, seed: int) -> NetworkTraining:
        return NetworkTraining(
            model,
            self.task,
            steps=steps,
            seed=seed,
            batch=self.batch,
            recipe=self.recipe.on(self.device),
            execution=Execution.for_device(self.device, compile_seconds=COMPILE_SECONDS),
        )


def main() -> None:
    """Train what is missing, and print where things stand."""
    wanted = _arguments()
    rows: dict[str, dict[str, Any]] = _kept()
    for name, spec in wanted.cells:
        scores = rows.get(name, {}).get("bits_per_byte", {})
        window = wanted.window or WINDOWS[spec.d_model]
        began = time.monotonic()
        for multiple in MULTIPLES:
            if str(multiple) not in scores:
                scores[str(multiple)] = _score(spec, multiple, window, wanted)
        rows[name] = {"cell": name, "window": window, "steps": wanted.steps, "bits_per_byte": scores}
        if None not in scores.values():
            rows[name]["from_best"] = scores["1.0"] - min(scores.values())
        print(name, *(f"{v:.4f}" if v else "diverged" for v in scores.values()), flush=True)
        print(f"  {time.monotonic() - began:.1f} s", flush=True)
        keep(NAME, "python -m benchmarks.training.transfer", list(rows.values()), device=wanted.device)
    _report(list(rows.values()))


def _score(spec: Decoder, multiple: float, window: int, wanted: argparse.Namespace) -> float | None:
    task = LanguageModelling(load_corpus(wanted.data).folder, length=window, windows=32)
    recipe = replace(wanted.recipe, rate=multiple)
    evaluator = Patient(task, batch=BATCH, recipe=recipe, device=wanted.device)
    try:
        return evaluator.score(spec, wanted.steps, seed=0).value
    except EvaluationFailed:
        return None


def _report(rows: list[dict[str, Any]]) -> None:
    """How many cells keep the claim, and the order of the ten."""
    grid = [row for row in rows if "from_best" in row and not row["cell"].startswith("order")]
    if grid:
        show_plainly("Farthest from the best of five", _farthest(grid))
        apart = [row["from_best"] for row in grid]
        share = sum(value <= CLOSE for value in apart) / len(apart)
        print(
            f"{len(apart)} cells: {share:.0%} within {CLOSE} bits per byte of the best of five (wanted"
            f" {SHARE:.0%}), worst {max(apart):.3f} (wanted {BOUND}), median {median(apart):.3f}"
        )
    order = [row for row in rows if "from_best" in row and row["cell"].startswith("order")]
    if len(order) > 2:
        default = [row["bits_per_byte"]["1.0"] for row in order]
        best = [min(row["bits_per_byte"].values()) for row in order]
        tau = kendall_tau(default, best)
        print(f"order of {len(order)} architectures: Kendall's tau {tau:.2f} (wanted 0.9)")


def _farthest(grid: list[dict[str, Any]], count: int = 8) -> list[dict[str, Any]]:
    worst = sorted(grid, key=lambda row: -row["from_best"])[:count]
    return [{"cell": row["cell"], "from best": row["from_best"], **row["bits_per_byte"]} for row in worst]


def _grid(kinds: list[str], widths: list[int], depths: list[int]) -> Iterator[tuple[str, Decoder]]:
    for width in widths:
        for depth in depths:
            for kind in kinds:
                if width < 768 or kind in ("attention", "mamba2"):
                    yield f"{kind} {width} wide, {depth} layers", network(kind, width, depth)


def _ten() -> Iterator[tuple[str, Decoder]]:
    """Ten architectures of width 512: pure and mixed ones, deep and shallow."""
    for kind in ("attention", "window", "gated_delta_net", "mamba2", "rglru", "short_conv"):
        yield f"order: {kind} x 6", network(kind, 512, 6)
    for first, second in (
        ("short_conv", "attention"),
        ("mamba2", "attention"),
        ("rglru", "window"),
        ("gated_delta_net", "attention"),
    ):
        one, other = network(first, 512, 1).layers[0], network(second, 512, 1).layers[0]
        layers = (one, one, other) * 2
        yield f"order: {first}, {first}, {second} x 2", Decoder(vocab=256, d_model=512, layers=layers)


def _kept() -> dict[str, dict[str, Any]]:
    path = RESULTS / f"{NAME}.json"
    return {row["cell"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", default=None, help="text to learn from; default: Python's own library")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--depths", nargs="+", type=int, default=[4, 12])
    parser.add_argument("--order", action="store_true", help="ten architectures of width 512 instead")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--window", type=int, default=None, help="bytes of a window")
    wanted = parser.parse_args()
    wanted.cells = list(_ten() if wanted.order else _grid(wanted.kinds, wanted.widths, wanted.depths))
    wanted.recipe = Recipe()
    return wanted


if __name__ == "__main__":
    main()
