"""A search around SmolLM2-135M: bits of each half of a layer, against equal bits in all layers.

    make models                                        # fetches the file, 93 MB, into .cache
    python -m benchmarks.real_models.around_smollm2
    python -m benchmarks.real_models.around_smollm2 --awq 4 3    # AWQ alone, added to what is on file

Both halves of a layer have 16, 6, 4, 3 or 2 bits a weight (groups of 64; the embedding stays at 16). `exact`
scores each by the divergence of the whole network on 512 tokens of training text, and chooses; what is found
is scored on 4,096 other tokens. The text is the interpreter's own (`pydoc_data.topics`), in the model's
tokens. For each uniform width the table has what it loses against the parent, to nearest and by GPTQ, and
what the best choice of no more bytes loses. Killed, it goes on where it was. AWQ is calibrated on the windows
that GPTQ had, by the inputs that matrices have in the parent, like GPTQ, and scored on the same text.

The model: huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct (Apache 2.0), as in
`benchmarks.real_models.smollm2`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor

import nas
from benchmarks.common import RESULTS, keep, provenance, show
from benchmarks.real_models.smollm2 import FILE
from evaluators.compression.awq import scaled_inputs
from evaluators.compression.calibration import second_moments
from evaluators.tokens.preparation import Preparation, prepare
from evaluators.trained_parent.evaluator import CALIBRATION
from foundation.files import write_json
from nas.engines.base import PROPOSED_BY, UNIFORM
from nas.modification import figures_of
from nas.modifiers.base import built_like
from nas.modifiers.quantize import Quantize
from nas.modifiers.settings import ModificationSettings
from nas.steps.parent_baselines import FACT
from search_spaces.alternatives import Alternatives
from search_spaces.blocks.base import Block
from search_spaces.network.decoder import PLACES, Decoder
from search_spaces.network.model import Model
from search_spaces.network.model_files import CONFIG, load_model
from search_spaces.network.sublayers import sublayers_of
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario

NAME = "real_models_around_smollm2"
HOME = Path(".cache/around_smollm2")
BITS = (6, 4, 3, 2)
ENGINE = {"windows": 2, "networks": 3, "points": 16, "next_best": 0}
WINDOW, WINDOWS = 256, 16


def main() -> None:
    """Search, print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--file", type=Path, default=FILE, help="the model, in GGUF")
    words.add_argument("--home", type=Path, default=HOME, help="where everything is kept")
    words.add_argument("--device", default="cpu", help="where it is computed: cpu, or cuda:0")
    words.add_argument("--trials", type=int, default=14, help="networks to score")
    words.add_argument("--awq", type=int, nargs="+", choices=BITS, help="measure AWQ alone, at these bits")
    given = words.parse_args()
    torch.set_num_threads(1)
    if given.awq:
        add_awq(given.file, given.home, given.awq, given.device)
        return
    began, wall = time.process_time(), time.monotonic()
    study = searched(given.file, given.home, given.trials, given.device)
    rows = compared(study)
    show("bits per byte lost against the parent", rows)
    keep(
        name_on(given.device),
        f"python -m benchmarks.real_models.around_smollm2 --device {given.device}",
        rows,
        parent=study.facts[FACT]["the parent"],
        front=points(study),
        additivity=study.facts["exact"]["additivity"],
        AWQ=on_file(given.device).get("AWQ"),
        processor_seconds_of_this_run=round(time.process_time() - began),
        seconds_of_this_run=round(time.monotonic() - wall),
    )


def name_on(device: str) -> str:
    """What the file of results is called."""
    return NAME + ("" if device == "cpu" else "_gpu")


def on_file(device: str) -> dict[str, Any]:
    """What is in the file of results."""
    path = RESULTS / f"{name_on(device)}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def prepared(file: Path, home: Path) -> tuple[Path, Path]:
    """The folders of the parent and of the text in its tokens, made where they are not there."""
    parent, text, tokens = (home / name for name in ("parent", "topics.txt", "tokens"))
    home.mkdir(parents=True, exist_ok=True)
    if not (parent / CONFIG).is_file():
        nas.import_model(file, parent)
    if not tokens.is_dir():
        text.write_text("\n\n".join(topics[name] for name in sorted(topics)))
        prepare(str(text), Preparation(tokenizer=str(parent)), tokens)
    return parent, tokens


def searched(file: Path, home: Path, trials: int, device: str) -> nas.Study:
    """The study, begun or gone on with."""
    parent, tokens = prepared(file, home)
    space = home / "around.py"
    nas.space_around(parent, Alternatives(bits=BITS), space, force=True)
    return nas.search(
        str(space),
        name="around",
        store=home / "studies.db",
        data=str(tokens),
        constraints=["weight_bytes<1.2e8"],
        window=WINDOW,
        validation_windows=WINDOWS,
        trials=trials,
        train_on=device,
        settings=ENGINE,
    )


def add_awq(file: Path, home: Path, widths: list[int], device: str) -> None:
    """Score the parent behind AWQ's scales at each of these equal widths, and put that into the file."""
    folder, tokens = prepared(file, home)
    found = on_file(device)
    text = ModificationSettings(data=str(tokens), window=WINDOW, validation_windows=WINDOWS)
    task = text.make_task()
    parent = load_model(folder, device=device)
    whole = figures_of(parent, task).score.value
    windows = task.train_batch(0, text.seed, CALIBRATION)[0]
    rows: dict[int, dict[str, Any]] = {row["bits"]: row for row in found.get("AWQ", {}).get("rows", [])}
    for bits in widths:
        began = time.process_time()
        behind, scaled = behind_scales(parent, bits, windows)
        score = figures_of(behind, task).score
        rows[bits] = {
            "bits": bits,
            "AWQ": score.value - whole,
            "error": score.standard_error,
            "scaled inputs": scaled,
            "parent": whole,
            "processor_seconds": round(time.process_time() - began),
        }
        about = provenance(f"python -m benchmarks.real_models.around_smollm2 --awq {bits}")
        write_json(
            RESULTS / f"{name_on(device)}.json",
            found | {"AWQ": {**about, "rows": list(rows.values())}},
            indent=2,
        )
    show("bits per byte lost against the parent", list(rows.values()))


@torch.no_grad()
def behind_scales(parent: Model, bits: int, windows: Tensor) -> tuple[Model, int]:
    """The parent at these bits, rounded to nearest behind AWQ's scales; how many inputs were scaled."""
    model = built_like(parent, Quantize(bits=bits, method="awq").changed(parent.spec))
    formats = {name: stored for name, stored in weight_bits(model).items() if stored and stored.bits < 16}
    scaled = scaled_inputs(model, second_moments(model, windows, lambda name: name in formats), formats)
    for name, stored in formats.items():
        weight = model.get_parameter(name)
        weight.copy_(round_to_bits(weight, stored))
    return model, scaled


def points(study: nas.Study) -> list[dict[str, Any]]:
    """Every network that was scored, the smallest first."""
    found = [
        {
            "bits": [[layer.bits_at(place).weight for place in PLACES] for layer in study.spec(trial).layers],
            "mean bits": mean_bits(study.spec(trial)),
            "by": trial.memo[PROPOSED_BY],
            **{name: trial.values[name].value for name in ("bits_per_byte", "weight_bytes")},
        }
        for trial in study.trials()
        if "bits_per_byte" in trial.values
    ]
    return sorted(found, key=lambda point: point["weight_bytes"])


def mean_bits(spec: Decoder) -> float:
    """Bits of a weight of the layers' blocks, on average."""
    every = [(block_params(s.block, s.d_model), s.bits.weight) for s in sublayers_of(spec) if s.block]
    return sum(count * bits for count, bits in every) / sum(count for count, _ in every)


def block_params(block: Block, d_model: int) -> int:
    """The parameters of a block."""
    return block.cost(d_model, Scenario()).params


def compared(study: nas.Study) -> list[dict[str, Any]]:
    """For each uniform width, what it loses and what the best choice of no more bytes loses."""
    facts, rows, scored = study.facts[FACT], [], points(study)
    whole = facts["the parent"]["bits_per_byte"]
    for bits in BITS:
        nearest = facts[f"{bits} bits, to nearest"]
        room = nearest["weight_bytes"]
        alike = [p for p in scored if p["by"] == UNIFORM and all(set(layer) == {bits} for layer in p["bits"])]
        ours = [p for p in scored if p["by"] == "exact" and p["weight_bytes"] <= room]
        if not (alike and ours):  # wider than what was searched
            continue
        best = min(ours, key=lambda point: point["bits_per_byte"])
        lost = nearest["bits_per_byte"] - whole
        rows.append(
            {
                "bits": bits,
                "MB": room / 1e6,
                "nearest": lost,
                "GPTQ": alike[0]["bits_per_byte"] - whole,
                "half by half": best["bits_per_byte"] - whole,
                "mean bits": best["mean bits"],
                "share of nearest's loss": (best["bits_per_byte"] - whole) / lost,
            }
        )
    return rows


if __name__ == "__main__":
    main()
