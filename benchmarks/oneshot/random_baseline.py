"""What does each engine gain over random choice from the same weights?

    python -m benchmarks.oneshot.random_baseline --processes 5
    python -m benchmarks.oneshot.random_baseline --space laptop --steps 1000 --trials 100 --random 1000 \\
        --engines exact ofa --out benchmarks/results/oneshot_laptop.json

Per seed one supernet is trained on bytes: of a part of `laptop` (2 or 3 layers, 4 kinds of sequence mixers,
3 hidden widths, bits of weights and state, 2 widths), or of all of it. Every engine then searches it as
`nas search` does, for bits per byte, decode latency (by a device card, so that busy cores change nothing) and
weight bytes, and is held against random choice as `nas validate` does: the ratio of hypervolumes (costs in
logarithms, one reference point per pair).

- `equal count`  as many random candidates as the engine had of its own;
- `equal time`   as many as could be scored in the time that the engine took, its preparation included (at
                 most as many as were scored: `--random`);
- `all`          all of them.

Engines: `ofa` (by the strategy `auto`), `exact`, `darts` (modern). Scores are those of the shared weights,
for both sides. Also the hypervolume of what `ofa` had found when `exact` was done, over that of `exact`.

What a seed gives is written when it is there; a run that was stopped goes on with the seeds that are missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, time
from typing import Any

import torch

from benchmarks.common import RESULTS, provenance, show_plainly
from nas.executors.local import InProcess
from nas.pareto import hypervolume, reference_point
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
from search_spaces.spaces import spaces

Row = dict[str, Any]

COMMAND = "python -m benchmarks.oneshot.random_baseline"
CARD = "xeon-1-thread"
BASE, BEGUN = "weights", "search_begun"
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
    parser.add_argument("--space", choices=("small", "laptop"), default="small")
    given = parser.parse_args()
    settings = {
        name: value for name, value in vars(given).items() if name not in ("out", "seeds", "processes")
    }
    result = _begun(given.out, settings)
    missing = [
        seed for seed in range(given.seeds) if seed not in {row["seed"] for row in result["supernets"]}
    ]
    make_task(plan("ofa", 0, settings))  # caches the text once, before all processes ask for it
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(one_seed, settings, seed) for seed in missing]):
            for name, rows in done.result().items():
                result[name] = sorted(
                    [*result[name], *rows], key=lambda row: (row.get("engine", ""), row["seed"])
                )
            result["summary"] = summary(result["rows"])
            given.out.write_text(json.dumps({**provenance(COMMAND), **result}, indent=1) + "\n")
    show_plainly("hypervolume over that of random choice", [_short(row) for row in result["rows"]])
    show_plainly("over seeds", result["summary"])
    if result["against exact"]:
        show_plainly("hypervolume of ofa over that of exact, in its time", result["against exact"])


def _begun(out: Path, settings: Row) -> Row:
    """What an earlier run with the same settings has left, or nothing."""
    if out.is_file():
        found: Row = json.loads(out.read_text())
        if found["settings"] == settings:
            return {name: found[name] for name in ("settings", "supernets", "rows", "against exact")}
    return {"settings": settings, "supernets": [], "rows": [], "against exact": []}


def one_seed(settings: Row, seed: int) -> dict[str, list[Row]]:
    """A supernet, all engines on it, and the engines against each other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        supernet = train(folder, settings, seed)
        rows = []
        for engine in settings["engines"]:
            rows.append(job(folder, settings, (engine, seed)))
            print(f"{engine}, seed {seed}: {rows[-1]['seconds']} s", flush=True)
        both = {"ofa", "exact"} <= set(settings["engines"])
        against = [against_exact(folder, settings, {row["engine"]: row for row in rows})] if both else []
    return {"supernets": [supernet], "rows": rows, "against exact": against}


def against_exact(folder: Path, settings: Row, rows: Mapping[str, Row]) -> Row:
    """The hypervolume of what `ofa` had found when `exact` was done, over that of all that this one found."""
    seed, seconds = rows["exact"]["seed"], rows["exact"]["seconds"]
    fronts = []
    for engine in ("ofa", "exact"):
        study = _study(folder / str(seed) / engine, plan(engine, seed, settings), settings["space"])
        trials = searched_and_random(study)[0]
        if engine == "ofa":
            end = study.facts[BEGUN]["at"] + seconds
            trials = [trial for trial in trials if trial.finished is not None and trial.finished <= end]
        fronts.append([point for point in candidates(study, trials)[0] if point is not None])
    reference = reference_point([*fronts[0], *fronts[1]])
    ours, exact = (hypervolume(front, reference) for front in fronts)
    return {
        "seed": seed,
        "seconds of exact": seconds,
        "seconds of ofa": rows["ofa"]["seconds"],
        "candidates of ofa": len(fronts[0]),
        "candidates of exact": len(fronts[1]),
        "ratio": round(ours / exact, 4),
    }


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
    study = _study(folder / str(seed) / BASE, plan("ofa", seed, settings), settings["space"])
    run_steps(Context(study=study), ("corpus", "train"))
    return {"seed": seed, "seconds": round(perf_counter() - began, 1)}


def job(folder: Path, settings: Row, which: tuple[str, int]) -> Row:
    """One engine on the weights of one seed: a row."""
    torch.set_num_threads(1)
    engine, seed = which
    study = _study(folder / str(seed) / engine, plan(engine, seed, settings), settings["space"])
    base = _study(folder / str(seed) / BASE, plan("ofa", seed, settings), settings["space"])
    shutil.copytree(base.folder / "supernet", study.folder / "supernet")
    add_fact(study, "supernet", base.facts["supernet"])
    context = Context(study=study)
    run_steps(context, ("corpus", "profile", "train"))
    add_fact(study, BEGUN, {"at": time()})
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


def _study(folder: Path, settings: Plan, space: str) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    study = create_study(
        small() if space == "small" else spaces[space](), settings, name="study", store=folder / "studies.db"
    )
    study.folder.mkdir(parents=True, exist_ok=True)
    return study


def _short(row: Row) -> Row:
    kept = {name: row[name] for name in ("engine", "seed", "seconds", "random in that time", "searched by")}
    return kept | {way: row["ratios"][way]["ratio"] for way in WAYS}


if __name__ == "__main__":
    main()
