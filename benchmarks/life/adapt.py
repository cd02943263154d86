"""A shift from the text of a network to another, learned by few parameters, beside all weights.

    python -m benchmarks.life.adapt WORK [--mixers MIXER,...] [--steps N] [--rates R,...] [--only WAY,...]

WORK keeps three small networks (attention, Mamba-2, gated delta net), which learn the standard library's
source when they are not there yet, for `--seconds` each. Each then learns English prose, the topics of
`help()`: all weights, by the recipe that networks are trained by, and by each way of `nas adapt`, over the
same steps and windows.

Every way has a rate of its own: `--rates` are factors on it, and a row is kept for each. Peak bytes are those
of all tensors that are alive in a step, the network included (float32, batch of 16), and do not count the
interpreter; GaLore makes its space anew in that step. Rows are kept as they come, in a file for each mixer,
so that mixers may run side by side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from benchmarks.common import RESULTS, keep_row, show
from evaluators.scoring.base import Score, paired_difference
from evaluators.tasks.base import Task
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining, rounded_model
from evaluators.training.recipe import Recipe
from evaluators.training.trainable import Trainable
from hw_profiles.memory.tracing import Live
from nas.modification import ModificationSettings, figures_of, modify
from nas.modifiers.adapt import Adapt
from nas.modifiers.base import Work
from nas.study.model_code import load
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import CONFIG, save_model

COMMAND = "python -m benchmarks.life.adapt"
MOST_STEPS = 100_000
FULL = "all weights"
MATRICES = {"targets": ("input", "output", "inner", "embedding")}
MATRICES_AND_REST = {"targets": (*MATRICES["targets"], "vector")}
WAYS: dict[str, dict[str, Any]] = {
    "LoRA": MATRICES,
    "LoRA 2r": MATRICES,
    "LoRA 4r": MATRICES,
    "LoRA and vectors": MATRICES_AND_REST,
    "LoRA 2r and vectors": MATRICES_AND_REST,
    "LoRA 4r and vectors": MATRICES_AND_REST,
    "DoRA": {"decompose": True, **MATRICES},
    "QLoRA": {"base": "nf4", **MATRICES},
    "GaLore": {"method": "galore", "every": 25, **MATRICES},
    "bottleneck": {"method": "bottleneck"},
    "prompt": {"method": "prompt", "tokens": 16},
    "prefix": {"method": "prefix", "tokens": 16},
}
"""Ways of `nas adapt`; those that have a rank r, at a fourth of the width."""

RANKS = {"LoRA 2r": 2, "LoRA 4r": 4, "LoRA 2r and vectors": 2, "LoRA 4r and vectors": 4}


def mixer(name: str, width: int) -> Block:
    """Of the three, the one of this name, with heads of 16 channels."""
    heads = width // 16
    return {
        "attention": Attention(num_heads=heads, num_kv_heads=heads, head_dim=16),
        "mamba2": Mamba2(num_heads=heads, head_dim=32, state_dim=32),
        "gated_delta_net": GatedDeltaNet(num_heads=heads, head_dim=16, state_dim=16),
    }[name]


MIXERS = ("attention", "mamba2", "gated_delta_net")


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--mixers", default=",".join(MIXERS))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=180, help="processor time that each is trained for")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rates", default="1", help="factors on the usual rate of each way")
    parser.add_argument("--only", default=",".join((FULL, *WAYS)), help="ways")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    settings = ModificationSettings(data=prose(chosen.work / "prose.txt"), window=chosen.window)
    rows = []
    for name in chosen.mixers.split(","):
        folder = trained(chosen.work / name, chosen)
        shift, result = Shift(folder, settings, chosen.steps), f"adapt_{name}"
        for way in chosen.only.split(","):
            for rate in map(float, chosen.rates.split(",")):
                row = shift.learned(way, rate)
                words = f"--width {chosen.width} --depth {chosen.depth} --window {chosen.window}"
                keep_row(result, f"{COMMAND} WORK {words} --steps {chosen.steps}", KEYS, row)
                print(json.dumps(row), flush=True)
        rows += best(json.loads((RESULTS / f"{result}.json").read_text())["rows"])
    if rows:
        show("Each way at its best rate", rows)


KEYS = ("network", "way", "rate", "steps", "parameters")


def prose(path: Path) -> str:
    """A file of what `help()` says about the language."""
    path.write_text("\n\n".join(topics.values()))
    return str(path)


def trained(folder: Path, chosen: argparse.Namespace) -> Path:
    """A network of this mixer that has learned Python source for so long; what is there stays."""
    if (folder / CONFIG).exists():
        return folder
    layer = Layer(sequence_mixer=mixer(folder.name, chosen.width), channel_mixer=SwiGLU())
    model = build(Decoder(vocab=256, d_model=chosen.width, layers=(layer,) * chosen.depth), seed=0)
    task, begun = ModificationSettings(window=chosen.window).make_task(), time.process_time()
    training = NetworkTraining(model, task, steps=MOST_STEPS, seed=0)
    while time.process_time() < begun + chosen.seconds:
        training.learn()
    score = figures_of(rounded_model(model).eval(), task).score.value
    print(f"{folder.name}: {training.step} steps of Python source, {score:.3f} bits per byte", flush=True)
    return save_model(model, folder, {"steps": training.step, "bits_per_byte": score})


class Shift:
    """One network that learns another text, from the same weights each time."""

    def __init__(self, folder: Path, settings: ModificationSettings, steps: int) -> None:
        self.folder, self.settings, self.steps = folder, settings, steps
        self.task: Task = settings.make_task()
        start = load(folder)
        self.rank, self.params = start.spec.d_model // 4, sum(w.numel() for w in start.parameters())
        self.before = figures_of(start, self.task).score

    def learned(self, way: str, rate: float) -> dict[str, Any]:
        """A row: what one way has gained at a factor on its usual rate."""
        recipe, begun = Recipe(rate=rate), time.process_time()
        if way == FULL:
            score, trained = self._whole(recipe)
        else:
            score, trained = self._adapted(self._adapt(way, recipe))
        seconds = time.process_time() - begun
        change, error = paired_difference(score.samples, self.before.samples)
        return {
            "network": self.folder.name,
            "way": way,
            "rate": rate,
            "steps": self.steps,
            "parameters": self.params,
            "before": self.before.value,
            "bits per byte": score.value,
            "gained": -change,
            "error": error,
            "trained": trained,
            "peak bytes": self._peak(way, recipe),
            "seconds of a step": seconds / self.steps,
        }

    def _adapt(self, way: str, recipe: Recipe) -> Adapt:
        rank = self.rank * RANKS.get(way, 1)
        return Adapt(steps=self.steps, recipe=recipe, rank=rank, **WAYS[way])

    def _whole(self, recipe: Recipe) -> tuple[Score, int]:
        model = load(self.folder)
        fit(NetworkTraining(model, self.task, steps=self.steps, seed=self.settings.seed, recipe=recipe))
        score = figures_of(rounded_model(model).eval(), self.task).score
        return score, sum(weight.numel() for weight in model.parameters())

    def _adapted(self, adapt: Adapt) -> tuple[Score, int]:
        with tempfile.TemporaryDirectory() as scratch:
            (done,) = modify(str(self.folder), [adapt], scratch, self.settings, task=self.task, force=True)
            return figures_of(load(scratch), self.task).score, done.notes["trained parameters"]

    def _peak(self, way: str, recipe: Recipe) -> int:
        """Bytes of all tensors that are alive at once in the first steps of a training."""
        with Live("cpu") as live:
            model = load(self.folder)
            training: Trainable
            if way == FULL:
                training = NetworkTraining(model, self.task, steps=2, seed=0, recipe=recipe)
            else:
                work = Work(self.task, lambda: model)
                training = self._adapt(way, recipe)._training(model, work)
            live.peak = live.live
            training.learn()
            training.learn()
        return live.peak


def best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The row of the best rate of each way and network, with its share of what all weights have gained."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for row in rows:
        key = row["network"], row["parameters"], row["way"]
        if key not in found or row["gained"] > found[key]["gained"]:
            found[key] = row
    shown = (
        "network",
        "parameters",
        "way",
        "rate",
        "bits per byte",
        "gained",
        "error",
        "trained",
        "peak bytes",
    )
    return [
        {
            **{name: row[name] for name in shown},
            "share of full": row["gained"] / found[network, size, FULL]["gained"],
        }
        for (network, size, _), row in found.items()
        if (network, size, FULL) in found
    ]


if __name__ == "__main__":
    main()
