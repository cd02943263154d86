"""Compound scaling against naive widening and naive deepening of the same network, after equal training.

    python -m benchmarks.search.scaling

A small hybrid is grown to `FACTORS` times the FLOPs of reading a sequence, by the law that was best at twice
(of a grid, with a seed of its own), by width alone and by depth alone (stacking). Every network is trained
for the same steps on the same batches, by three seeds; a gap is paired by seed. What is done is kept, so the
benchmark can be stopped and repeated.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.base import tasks
from nas.study.network_lines import network_line
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.compound_scaling import WIDER, closest, deeper, laws_of, member
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario

RESULTS = Path(__file__).parent.parent / "results" / "search_scaling.json"
FACTORS = (2, 4)
SEEDS = (0, 1, 2)
GRID_SEED = 100
LENGTH, WINDOWS, BATCH = 64, 64, 8
GRID_STEPS, STEPS = 100, 250

NETWORK = Decoder(
    vocab=256,
    d_model=32,
    layers=(
        Layer(
            sequence_mixer=GatedLinearAttention(num_heads=2, head_dim=16, state_dim=16),
            channel_mixer=SwiGLU(expansion=2),
        ),
        Layer(
            sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=16),
            channel_mixer=SwiGLU(expansion=2),
        ),
    ),
)


def cost(network: Decoder) -> float:
    """FLOPs of reading a sequence."""
    return float(network.cost(Scenario(prompt=LENGTH)).prefill_flops)


def main() -> None:
    """Train what is not on record, print the table, keep all."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    scores: dict[str, float] = kept.get("scores", {})
    task = tasks["language"].make(data=None, length=LENGTH, windows=WINDOWS)
    evaluator = FromScratch(task, batch=BATCH, threads=1)

    def score(network: Decoder, steps: int, seed: int) -> float:
        name = f"{network_line(network)} | {json.dumps(list(map(str, network.layers[:1])))[:160]}"
        key = f"{name} | {steps} steps | seed {seed}"
        if key not in scores:
            scores[key] = evaluator.score(network, steps, seed).value
            RESULTS.write_text(json.dumps({**kept, "scores": scores}, indent=1) + "\n")
            print(f"{scores[key]:.4f}  {key}", file=sys.stderr, flush=True)
        return scores[key]

    laws = laws_of(NETWORK, cost)
    tried = {str(law): score(member(NETWORK, law, 2, cost), GRID_STEPS, GRID_SEED) for law in laws}
    law = min(laws, key=lambda each: tried[str(each)])
    rows = []
    for factor in FACTORS:
        family = {
            "compound": member(NETWORK, law, factor, cost),
            "wider": closest(NETWORK, WIDER, factor, cost),
            "deeper": deeper(NETWORK, factor, cost),
        }
        found = {name: [score(each, STEPS, seed) for seed in SEEDS] for name, each in family.items()}
        for name, network in family.items():
            gaps = [theirs - ours for theirs, ours in zip(found[name], found["compound"], strict=True)]
            rows.append(
                {
                    "factor": factor,
                    "growth": name,
                    "cost": cost(network) / cost(NETWORK),
                    "network": network_line(network),
                    "bits_per_byte": found[name],
                    "behind_compound": statistics.mean(gaps),
                    "error": statistics.stdev(gaps) / len(gaps) ** 0.5,
                }
            )
    base = [score(NETWORK, STEPS, seed) for seed in SEEDS]
    settings = {"steps": STEPS, "grid_steps": GRID_STEPS, "batch": BATCH, "length": LENGTH}
    kept = {
        "settings": settings,
        "law": str(law),
        "grid": tried,
        "base": base,
        "rows": rows,
        "scores": scores,
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"law: {law}; the network itself: {statistics.mean(base):.3f} bits per byte")
    for row in rows:
        print(
            f"x {row['factor']}  {row['growth']:9} cost x {row['cost']:.2f}"
            f"  {statistics.mean(row['bits_per_byte']):.3f} bits per byte,"
            f" behind {row['behind_compound']:+.3f} ± {row['error']:.3f}  {row['network']}"
        )


if __name__ == "__main__":
    main()
