"""Does differentiable search collapse where it may skip, is that caught, and what do the guards save?

    python -m benchmarks.oneshot.darts --out benchmarks/results/oneshot_darts.json --processes 8

Associative recall (64 tokens, length 32, 4 pairs, 4,000 sequences) over 3 layers, each of which is a short
convolution, attention, linear attention or nothing. Every variant searches with several seeds; its winner is
then trained from scratch, on as many steps as all others, and so are random architectures of the space. Per
variant: winners, the share of places left empty, what the search said of itself, and the accuracy reached.

`plain` variants go to the end and take the largest shares, as published. `guarded` ones stop and go back when
curvature or empty places raise the alarm, and choose by perturbation. `modern` moves only the logits, over a
supernet that was trained with sampled subnets before.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Literal

import torch

from benchmarks.common import provenance
from evaluators.differentiable.collapse import EmptyPlaces
from evaluators.differentiable.outcome import choose
from evaluators.differentiable.search import DifferentiableSearch
from evaluators.differentiable.settings import SearchSettings
from evaluators.scoring.scratch import FromScratch
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.recall import Recall
from evaluators.training.fit import fit
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.language.choices import one_of
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import Genes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.supernet import Supernet

LAYERS, WIDTH, BATCH = 3, 64, 16
TRAINED_BATCH = 32
RANDOM = 3
"""Random architectures beside each seed."""

Variants = dict[str, tuple[SearchSettings, Literal["magnitude", "perturbation"]]]


@dataclass(frozen=True)
class Task:
    """One search with its seed, or (`variant` "random") a draw."""

    variant: str
    seed: int
    search: float
    train: int
    number: int = 0


def space() -> Space:
    """Three layers of something or nothing."""
    attention = Attention(num_heads=4, num_kv_heads=4, head_dim=16)
    mixer = one_of(ShortConv(), attention, LinearAttention(num_heads=4, head_dim=16, decay="none"), Skip())
    layer = Layer(sequence_mixer=mixer)
    return Space(Decoder(vocab=64, d_model=WIDTH, layers=(layer,) * LAYERS), name="recall_with_skips")


def variants(scale: float) -> Variants:
    """All variants, their steps multiplied by `scale`."""

    def steps(count: int) -> int:
        return max(1, round(count * scale))

    usual = SearchSettings(watch_every=steps(100), batch=BATCH, rate=0.01, guard=False)
    first = replace(usual, variant="first", steps=steps(1500), warm_up=steps(400))
    second = replace(first, variant="second", steps=steps(1000))
    gdas = replace(usual, variant="gdas", steps=steps(4000), warm_up=steps(2000))
    modern = replace(usual, variant="modern", steps=steps(600), rate=0.03, guard=True)
    found: Variants = {}
    for name, settings in (("first", first), ("second", second), ("gdas", gdas)):
        found[f"{name}, plain"] = settings, "magnitude"
        found[f"{name}, guarded"] = replace(settings, guard=True), "perturbation"
    found["modern, guarded"] = modern, "perturbation"
    return found


def searched(task: Task) -> tuple[Genotype, dict[str, Any]]:
    """The winner of a search, and what is told of it."""
    settings, how = variants(task.search)[task.variant]
    began = time.monotonic()
    supernet = Supernet(space(), seed=task.seed)
    if settings.variant == "modern":
        steps = max(1, round(1500 * task.search))
        training = SupernetTraining(space(), Recall(), steps=steps, seed=task.seed, batch=BATCH)
        fit(training)
        supernet = training.supernet
    search = DifferentiableSearch(supernet, Recall(), settings, seed=task.seed)
    fit(search)
    choice, findings = choose(search, how=how)
    told = {
        "steps": search.step,
        "seconds": round(time.monotonic() - began, 1),
        "findings": [finding.to_plain() for finding in findings],
        "eigenvalues": [[r.step, round(r.eigenvalue, 4), round(r.empty, 2)] for r in search.readings],
        "shares": [[round(v, 3) for v in row] for row in search.genes.table(search.shares, 0.0).tolist()],
    }
    return choice.genotype, told


def run(task: Task) -> dict[str, Any]:
    """Search, and train the winner from scratch: one row."""
    torch.set_num_threads(1)
    if task.variant == "random":
        genotype, told = space().sample(Random(f"{task.seed}/{task.number}")), dict[str, Any]()
    else:
        genotype, told = searched(task)
    empty = EmptyPlaces(Genes(space())).of(genotype)
    wrong = FromScratch(Recall(), batch=TRAINED_BATCH).score(space().close(genotype), task.train, task.seed)
    return {
        "variant": task.variant,
        "seed": task.seed,
        "winner": list(genotype.genes.values()),
        "empty": round(empty, 3),
        "accuracy": round(1 - wrong.value, 4),
        **told,
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per variant: how many winners are degenerate, how many searches said so, and the accuracies."""
    found = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        values = [row["accuracy"] for row in own]
        kinds = [{finding["kind"] for finding in row.get("findings", [])} for row in own]
        found.append(
            {
                "variant": variant,
                "n": len(own),
                "degenerate": sum(row["empty"] > 0.5 for row in own),
                "said so": sum("degenerate" in kind for kind in kinds),
                "alarms": sum(bool(kind & {"curvature", "parameter-free"}) for kind in kinds),
                "accuracy": round(statistics.fmean(values), 3),
                "spread": round(statistics.stdev(values), 3) if len(values) > 1 else math.nan,
                "lowest": min(values),
                "winners": "; ".join(" ".join(row["winner"]) for row in own),
            }
        )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all variants, print the table, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/oneshot_darts.json"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--search", type=float, default=1.0, help="times the usual steps of searches")
    parser.add_argument("--train", type=int, default=3000, help="steps of training from scratch")
    parser.add_argument("--variants", nargs="*", default=None, help="such as 'gdas, plain' (default: all)")
    chosen = parser.parse_args([] if arguments is None else arguments)
    names = chosen.variants or [*variants(1.0), "random"]
    tasks = [
        Task(name, seed, chosen.search, chosen.train, number)
        for name in names
        for seed in range(chosen.seeds)
        for number in range(RANDOM if name == "random" else 1)
    ]
    rows = list[dict[str, Any]]()
    # fresh processes: a fork after torch has started threads may hang
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool:
        for row in pool.map(run, tasks):
            rows.append(row)
            print(f"{row['variant']:<16} seed {row['seed']} {row['winner']} {row['accuracy']}", flush=True)
    table = summary(rows)
    for line in table:
        print("  ".join(f"{key} {value}" for key, value in line.items()))
    command = f"python -m benchmarks.oneshot.darts --seeds {chosen.seeds} --search {chosen.search}"
    result = {**provenance(f"{command} --train {chosen.train}"), "summary": table, "rows": rows}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
