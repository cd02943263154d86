"""What does each engine gain over random choice from the same weights?

    python -m benchmarks.oneshot.random_baseline --processes 12

Per seed one supernet is trained on bytes (2 or 3 layers, 4 kinds of sequence mixers, 3 hidden widths, bits of
weights and state, 2 widths). Every engine then searches it as `nas search` does, for bits per byte, decode
latency (by a device card, so that busy cores change nothing) and weight bytes, and is held against random
choice as `nas validate` does: the ratio of hypervolumes (costs in logarithms, one reference point per pair).

- `equal count`  as many random candidates as the engine had of its own;
- `equal time`   as many as could be scored in the time that the engine took, its preparation included (at
                 most as many as were scored: `--random`);
- `all`          all of them.

Engines: `ofa` (NSGA-II), `exact`, `darts` (modern). Scores are those of the shared weights, for both sides.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.common import RESULTS, provenance, show_plainly
from nas.executors.local import InProcess
from nas.steps.base import Context, run_steps
from nas.steps.profile import cost_model
from nas.steps.train import evaluator
from nas.study.creation import create_study
from nas.study.evaluators import EvaluatorScorer
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.task import make_task
from nas.validation.gain import gain
from nas.validation.random_baseline import candidates, gain_over_random, searched_and_random
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits

Row = dict[str, Any]

COMMAND = "python -m benchmarks.oneshot.random_baseline"
CARD = "xeon-1-thread"
BASE = "weights"
ENGINES = ("darts", "exact", "ofa")
WAYS = ("equal count", "equal time", "all")


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    kept = RESULTS / "oneshot_random_baseline.json"
    parser.add_argument("--out", type=Path, default=kept, help="JSON file to write")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="training steps of each supernet")
    parser.add_argument("--trials", type=int, default=96, help="candidates of each engine")
    parser.add_argument("--random", type=int, default=300, help="random candidates of each seed")
    parser.add_argument("--relax", type=int, default=40, help="steps of differentiable search per target")
    parser.add_argument("--points", type=int, default=4, help="targets of differentiable search")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    began = perf_counter()
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    make_task(plan("ofa", 0, settings))  # caches the text once, before all processes ask for it
    with tempfile.TemporaryDirectory() as folder:
        run = partial(ProcessPoolExecutor, given.processes, mp_context=get_context("spawn"))
        with run() as pool:
            trained = list(pool.map(partial(train, Path(folder), settings), range(given.seeds)))
            jobs = list(product(given.engines, range(given.seeds)))  # the longest first
            rows = []
            for row in pool.map(partial(job, Path(folder), settings), jobs):
                print(f"{row['engine']}, seed {row['seed']}: {row['seconds']} s", flush=True)
                rows.append(row)
    rows.sort(key=lambda row: (row["engine"], row["seed"]))
    result = {**provenance(COMMAND), "settings": settings, "supernets": trained, "rows": rows}
    result["summary"] = summary(rows)
    result["seconds"] = round(perf_counter() - began, 1)
    show_plainly("hypervolume over that of random choice", [_short(row) for row in rows])
    show_plainly("over seeds", result["summary"])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def small() -> Space:
    """A cut of the ready-made space `laptop`."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=4, num_kv_heads=one_of(1, 4), head_dim=16),
            GatedLinearAttention(num_heads=4, head_dim=16, state_dim=16),
            RGLRU(num_heads=4, head_dim=16),
            ShortConv(kernel=3),
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)),
        bits=Bits(weight=one_of(4, 8, 16), state=one_of(8, 16)),
    )
    return Space(Decoder(d_model=one_of(48, 64), layers=repeat(layer, depths=(2, 3))), name="small")


def plan(engine: str, seed: int, settings: Row) -> Plan:
    """How an engine searches."""
    own: Row = {}
    if engine == "darts":
        own = {
            "variant": "modern",
            "train_steps": settings["relax"],
            "points": settings["points"],
            "align": 40,
        }
    return Plan(
        objectives=("bits_per_byte", "decode_ms", "weight_bytes"),
        engine=engine,
        settings=own,
        # random trials come from validation, which all engines share; darts has no others of its own
        trials=settings["points"] if engine == "darts" else settings["trials"],
        train_steps=settings["steps"],
        train_batch=8,
        window=96,
        validation_windows=32,
        seed=seed,
        roofline=CARD,
        finalists=0,
    )


def train(folder: Path, settings: Row, seed: int) -> Row:
    """The supernet of a seed; it stays under `folder`."""
    torch.set_num_threads(1)
    began = perf_counter()
    study = _study(folder / str(seed) / BASE, plan("ofa", seed, settings))
    run_steps(Context(study=study), ("corpus", "train"))
    return {"seed": seed, "seconds": round(perf_counter() - began, 1)}


def job(folder: Path, settings: Row, which: tuple[str, int]) -> Row:
    """One engine on the weights of one seed: a row."""
    torch.set_num_threads(1)
    engine, seed = which
    study = _study(folder / str(seed) / engine, plan(engine, seed, settings))
    base = _study(folder / str(seed) / BASE, plan("ofa", seed, settings))
    shutil.copytree(base.folder / "supernet", study.folder / "supernet")
    add_fact(study, "supernet", base.facts["supernet"])
    context = Context(study=study)
    run_steps(context, ("corpus", "profile", "train"))
    began = perf_counter()
    run_steps(context, ("search",))
    took = perf_counter() - began
    scorer = InProcess({"bits_per_byte": EvaluatorScorer(evaluator(context))})
    gained = gain_over_random(study, cost_model(context), scorer, random=settings["random"])
    found, by_chance = searched_and_random(study)
    scored = [trial for trial in study.trials("validate") if trial.finished is not None]
    by_chance += scored
    ends = [trial.finished for trial in scored if trial.finished is not None]
    each = (max(ends) - min(ends)) / (len(ends) - 1)  # they were queued together, and scored one by one
    # the search scored its own random trials as well: what they took is not the engine's
    mine = took - each * len(searched_and_random(study)[1])
    timely = max(1, round(mine / each))
    timed = gain(*candidates(study, found, by_chance), against=timely, seed=seed)
    ratios = dict(zip(WAYS, (gained.equal, timed, gained.over_all), strict=True))
    return {
        "engine": engine,
        "seed": seed,
        "seconds": round(mine, 1),
        "seconds of a candidate": round(each, 4),
        "random in that time": timely,
        "searched by": study.facts.get("exact", {}).get("searched_by", engine),
        "ratios": {way: one.to_json() for way, one in ratios.items()},
    }


def summary(rows: Sequence[Row]) -> list[Row]:
    """By engine and way, the ratios over seeds."""
    found = []
    for engine, way in product(dict.fromkeys(row["engine"] for row in rows), WAYS):
        ratios = [row["ratios"][way] for row in rows if row["engine"] == engine]
        values = [one["ratio"] for one in ratios]
        found.append(
            {
                "engine": engine,
                "against": way,
                "candidates": statistics.median(one["candidates"] for one in ratios),
                "random": statistics.median(one["against"] for one in ratios),
                "mean": statistics.fmean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                "least": min(values),
                "most": max(values),
                "above 1": f"{sum(value > 1 for value in values)} of {len(values)}",
            }
        )
    return found


def _study(folder: Path, settings: Plan) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    study = create_study(small(), settings, name="study", store=folder / "studies.db")
    study.folder.mkdir(parents=True, exist_ok=True)
    return study


def _short(row: Row) -> Row:
    kept = {name: row[name] for name in ("engine", "seed", "seconds", "random in that time", "searched by")}
    return kept | {way: row["ratios"][way]["ratio"] for way in WAYS}


if __name__ == "__main__":
    main()
