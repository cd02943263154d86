"""At equal decode time: replaced mixers and fewer kv heads, against windows alone and against fewer layers.

    nice -n 10 python -m benchmarks.real_models.decode_time
    nice -n 10 python -m benchmarks.real_models.decode_time --scenario cpu,engine=onnxruntime,new_tokens=2048

A transformer over bytes is trained at each size (SmolLM2's decode takes too long for this on a CPU), and
`exact` searches around it: each layer keeps its attention, or has a window of 64 tokens, one kv head,
linear attention or a gated delta net in its place, by bits per byte and the time of a decode step behind
2,048 tokens. Beside what it chooses stand the parent, windows in all layers (`window-only`) and the parent
without its least needed layers (`depth-pruned`). For each of these baselines, ours is the best network that
takes no more time. All are healed alike, by as many steps of distillation from the parent, and then timed
in the same rounds, by the runtime of the scenario. Written after each size, and what is in the file is not
done again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import nas
from benchmarks.common import RESULTS, provenance, show
from foundation.files import read_json, write_json
from hw_profiles.timing.measure import measure_networks
from nas.modifiers.distill import Distill
from nas.modifiers.settings import ModificationSettings
from nas.modifiers.shrink import Shrink
from nas.study.trial import Trial
from nas.training.settings import TrainingSettings
from nas.training.start import Start
from nas.training.train import train
from search_spaces.alternatives import Alternatives
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import CONFIG
from search_spaces.scenario import Scenario

COMMAND = "python -m benchmarks.real_models.decode_time"
SCENARIO = "cpu,prompt=2048,new_tokens=64"
WINDOW, WINDOWS, BATCH = 256, 24, 8
NARROW = 64
ENGINE = {"windows": 4, "networks": 3, "points": 16, "next_best": 0, "least_tau": -1}


@dataclass(frozen=True)
class Size:
    """The parent's, and how many of its layers go."""

    d_model: int
    depth: int
    gone: int = 1

    @property
    def spec(self) -> Decoder:
        """The parent: as many kv heads as heads."""
        heads = self.d_model // 16
        attention = Attention(num_heads=heads, num_kv_heads=heads, head_dim=16)
        layer = Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=2))
        return Decoder(d_model=self.d_model, layers=(layer,) * self.depth)


SIZES = {"small": Size(64, 4), "larger": Size(128, 6, 2)}


def main() -> None:
    """Train, search, heal, time; print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    words.add_argument(
        "--scenario", type=Scenario.parse, default=SCENARIO, help="whose decode steps are timed"
    )
    words.add_argument("--seconds", type=float, default=45.0, help="of the latency table")
    words.add_argument("--steps", type=int, default=400, help="of the parent")
    words.add_argument("--heal", type=int, default=100, help="steps of distillation")
    words.add_argument("--trials", type=int, default=16, help="networks to score")
    words.add_argument("--home", type=Path, default=Path(".cache/decode_time"))
    words.add_argument("--output", type=Path, default=RESULTS / "real_models_decode_time.json")
    given = words.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = read_json(given.output) if given.output.exists() else {}
    engine = given.scenario.engine
    for name in given.sizes:
        key = name if engine == "eager" else f"{name}, {engine}"
        if key not in found:
            began = time.process_time()
            rows = compared(SIZES[name], given.home / name, given)
            taken = round(time.process_time() - began)
            found |= {"about": provenance(COMMAND), key: {"rows": rows, "processor_seconds": taken}}
            write_json(given.output, found, indent=1)
        show(f"{key}: {SIZES[name].spec!r}", found[key]["rows"])


def compared(size: Size, home: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Bits per byte and the time of a step of every network, before and after it was healed."""
    parent = home / "parent"
    home.mkdir(parents=True, exist_ok=True)
    settings = TrainingSettings(
        steps=given.steps, train_batch=BATCH, window=WINDOW, validation_windows=WINDOWS
    )
    if not (parent / CONFIG).is_file():
        train(Start(build(size.spec, seed=0), {"weights": "of seed 0"}), settings, parent)
    study = searched(parent, home, given)
    pruned = home / "depth-pruned"
    text = ModificationSettings(window=WINDOW, validation_windows=WINDOWS)
    nas.modify(parent, [Shrink(layers=size.gone, channels=(0.0,))], pruned, text)
    trials = [trial for trial in study.trials() if "bits_per_byte" in trial.values]
    narrow = next(trial for trial in trials if is_windowed(study.spec(trial)))
    folders = {"parent": parent, "depth-pruned": pruned, "window-only": written(study, narrow, home)}
    taken = steps_ms([nas.load(folder) for folder in folders.values()], given.scenario)
    limits = dict(zip(folders, taken, strict=True))
    # times of candidates are those of the study's table, so its parent stands for the measured one
    scale = next(t for t in trials if study.spec(t) == size.spec).values["decode_ms"].value / limits["parent"]
    for name in ("depth-pruned", "window-only"):
        fast = [t for t in trials if t.values["decode_ms"].value <= limits[name] * scale * 1.02]
        fast = [t for t in fast if not is_windowed(study.spec(t))]
        if fast:
            best = min(fast, key=lambda trial: trial.values["bits_per_byte"].value)
            folders[f"ours, no slower than {name}"] = written(study, best, home)
    own = next(trial for trial in trials if study.spec(trial) == size.spec).values["bits_per_byte"]
    first = {
        "network": "parent, not healed",
        "before healing": own.value,
        "healed": None,
        "error": own.error,
        "mixers": ["attention"] * size.depth,
        "decode_ms": limits["parent"],
    }
    return [first, *healed(folders, parent, home, given, text)]


def searched(parent: Path, home: Path, given: argparse.Namespace) -> nas.Study:
    """The study around a parent, begun or gone on with."""
    space = home / "around.py"
    wanted = Alternatives(
        bits=(0,), windows=(NARROW,), kv_heads=(1,), mixers=("linear_attention", "gated_delta_net")
    )
    nas.space_around(parent, wanted, space, force=True)
    return nas.search(
        str(space),
        name="around" if given.scenario.engine == "eager" else given.scenario.engine,
        store=home / "studies.db",
        objectives=("bits_per_byte", "decode_ms"),
        scenarios=(given.scenario,),
        profile_seconds=given.seconds,
        window=WINDOW,
        validation_windows=WINDOWS,
        train_steps=60,
        train_batch=BATCH,
        trials=given.trials,
        settings=ENGINE,
    )


def is_windowed(spec: Decoder) -> bool:
    """Whether all layers have attention with a window, and nothing else is changed."""
    mixers = [layer.sequence_mixer for layer in spec.layers]
    return all(
        isinstance(mixer, Attention) and mixer.window == NARROW and mixer.num_kv_heads == mixer.num_heads
        for mixer in mixers
    )


def written(study: nas.Study, trial: Trial, home: Path) -> Path:
    """The folder of a network of the study."""
    folder = home / f"{study.name}-{trial.number}"
    if not (folder / CONFIG).is_file():
        study.export(trial.number, folder)
    return folder


def healed(
    folders: dict[str, Path], parent: Path, home: Path, given: argparse.Namespace, text: ModificationSettings
) -> list[dict[str, Any]]:
    """Every network after as many steps of distillation from the parent."""
    rows, models = list[dict[str, Any]](), []
    for name, folder in folders.items():
        if folder == parent:  # the teacher
            continue
        after = home / f"{folder.name}-healed"
        distil = Distill(steps=given.heal, batch=BATCH, teacher=str(parent))
        (done,) = nas.modify(folder, [distil], after, text)
        models.append(nas.load(after))
        rows.append(
            {
                "network": name,
                "before healing": done.before["bits_per_byte"]["value"],
                "healed": done.after["bits_per_byte"]["value"],
                "error": done.after["bits_per_byte"]["error"],
                "mixers": [mixer_of(layer) for layer in models[-1].spec.layers],
            }
        )
    for row, taken in zip(rows, steps_ms(models, given.scenario), strict=True):
        row["decode_ms"] = taken
    return rows


def mixer_of(layer: Layer) -> str:
    """A layer's mixer in a word."""
    mixer = layer.sequence_mixer
    if not isinstance(mixer, Attention):
        return type(mixer).__name__
    if mixer.window:
        return "window"
    return "attention" if mixer.num_kv_heads == mixer.num_heads else f"{mixer.num_kv_heads} kv head"


def steps_ms(models: list[Any], scenario: Scenario) -> list[float]:
    """Milliseconds of a decode step of each, all timed in the same rounds."""
    found = measure_networks(models, scenario, rounds=31, seconds=60)
    return [latency["decode_ms"].median_ms for latency in found]


if __name__ == "__main__":
    main()
