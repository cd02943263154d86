"""A shift from the text of a network to another, learned by few parameters, beside all weights.

    python -m benchmarks.life.adapt TEXT FOLDER... [--steps N]

Each network, an exported folder, learns TEXT (a file or a folder): all weights, by the recipe that networks
are trained by, and each way of `nas adapt`, over the same steps and windows. Bytes are those of what is
trained: values, gradients and what the optimizer keeps, in 32 bits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import keep, show
from evaluators.scoring.base import paired_difference
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining, rounded_model
from nas.modification import ModificationSettings, figures_of, modify
from nas.modifiers.adapt import Adapt
from nas.study.model_code import load

COMMAND = "python -m benchmarks.life.adapt"
WAYS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoRA, ranks by need": {"probe": 20},
    "DoRA": {"decompose": True},
    "QLoRA": {"base": "nf4"},
    "GaLore": {"method": "galore"},
    "bottleneck": {"method": "bottleneck", "rank": 32},
}
"""Ways of `nas adapt`, all others at rank 8, on all matrices of the layers."""


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    chosen = parser.parse_args()
    rows = []
    for folder in chosen.folders:
        rows += adapted(folder, chosen.text, chosen.steps)
        show(folder.name, [row for row in rows if row["network"] == folder.name])
    keep("adapt", f"{COMMAND} TEXT FOLDER... --steps {chosen.steps}", rows)


def adapted(folder: Path, text: str, steps: int) -> list[dict[str, Any]]:
    """A row for all weights, and one for each way."""
    settings, name = ModificationSettings(data=text), folder.name
    task, whole = settings.make_task(), load(folder)
    before = figures_of(whole, task).score
    fit(NetworkTraining(whole, task, steps=steps, seed=settings.seed))
    after = figures_of(rounded_model(whole).eval(), task).score
    count = sum(weight.numel() for weight in whole.parameters())
    found = [("all weights", after, count, 4 * count)]
    with tempfile.TemporaryDirectory() as scratch:
        for way, own in WAYS.items():
            modifier = Adapt.from_plain(
                {"name": "adapt", "targets": ("input", "output", "inner"), "steps": steps, **own}
            )
            (done,) = modify(str(folder), [modifier], scratch, settings, task=task, force=True)
            score = figures_of(load(scratch), task).score
            trained = done.notes["trained parameters"]
            found.append((way, score, trained, 2 * trained + done.notes["optimizer's values"]))
    rows = []
    for way, score, trained, values in found:
        change, error = paired_difference(score.samples, before.samples)
        rows.append(
            {
                "network": name,
                "way": way,
                "bits per byte": score.value,
                "change": change,
                "error": error,
                "share of full": change / found_change(found[0][1].samples, before.samples),
                "trained": trained,
                "bytes": 4 * values,
            }
        )
    return rows


def found_change(after: tuple[float, ...], before: tuple[float, ...]) -> float:
    """The change that all weights together have learned."""
    return paired_difference(after, before)[0]


if __name__ == "__main__":
    main()
