"""A search around SmolLM2-135M: bits of each half of a layer, against equal bits in all layers.

    make models                                        # fetches the file, 93 MB, into .cache
    python -m benchmarks.real_models.around_smollm2

Both halves of a layer have 16, 6, 4, 3 or 2 bits a weight (groups of 64; the embedding stays at 16). `exact`
scores each by the divergence of the whole network on 512 tokens of training text, and chooses; what is found
is scored on 4,096 other tokens. The text is the interpreter's own (`pydoc_data.topics`), in the model's
tokens. For each uniform width the table has what it loses against the parent, to nearest and by GPTQ, and
what the best choice of no more bytes loses. Killed, it goes on where it was.

The model: huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct (Apache 2.0), as in
`benchmarks.real_models.smollm2`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch

import nas
from benchmarks.common import keep, show
from benchmarks.real_models.smollm2 import FILE
from evaluators.tokens.preparation import Preparation, prepare
from nas.engines.base import PROPOSED_BY, UNIFORM
from nas.steps.parent_baselines import FACT
from search_spaces.alternatives import Alternatives
from search_spaces.blocks.base import Block
from search_spaces.network.decoder import PLACES, Decoder
from search_spaces.network.model_files import CONFIG
from search_spaces.network.sublayers import sublayers_of
from search_spaces.scenario import Scenario

HOME = Path(".cache/around_smollm2")
BITS = (6, 4, 3, 2)
ENGINE = {"windows": 2, "networks": 3, "points": 16, "next_best": 0}


def main() -> None:
    """Search, print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--file", type=Path, default=FILE, help="the model, in GGUF")
    words.add_argument("--home", type=Path, default=HOME, help="where everything is kept")
    words.add_argument("--device", default="cpu", help="where it is computed: cpu, or cuda:0")
    words.add_argument("--trials", type=int, default=14, help="networks to score")
    given = words.parse_args()
    torch.set_num_threads(1)
    began, wall = time.process_time(), time.monotonic()
    study = searched(given.file, given.home, given.trials, given.device)
    rows = compared(study)
    show("bits per byte lost against the parent", rows)
    keep(
        "real_models_around_smollm2" + ("" if given.device == "cpu" else "_gpu"),
        f"python -m benchmarks.real_models.around_smollm2 --device {given.device}",
        rows,
        parent=study.facts[FACT]["the parent"],
        front=points(study),
        additivity=study.facts["exact"]["additivity"],
        processor_seconds_of_this_run=round(time.process_time() - began),
        seconds_of_this_run=round(time.monotonic() - wall),
    )


def searched(file: Path, home: Path, trials: int, device: str) -> nas.Study:
    """The study, begun or gone on with."""
    parent, text, tokens, space = (home / name for name in ("parent", "topics.txt", "tokens", "around.py"))
    home.mkdir(parents=True, exist_ok=True)
    if not (parent / CONFIG).is_file():
        nas.import_model(file, parent)
    if not tokens.is_dir():
        text.write_text("\n\n".join(topics[name] for name in sorted(topics)))
        prepare(str(text), Preparation(tokenizer=str(parent)), tokens)
    nas.space_around(parent, Alternatives(bits=BITS), space, force=True)
    return nas.search(
        str(space),
        name="around",
        store=home / "studies.db",
        data=str(tokens),
        constraints=["weight_bytes<1.2e8"],
        window=256,
        validation_windows=16,
        trials=trials,
        train_on=device,
        settings=ENGINE,
    )


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
