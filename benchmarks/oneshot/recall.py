"""Does every engine find the networks that solve a task with a known answer?

    python -m benchmarks.oneshot.recall --out benchmarks/results/oneshot_recall.json --processes 14

Multi-query associative recall (64 tokens, length 32, 4 pairs, 4,000 sequences) over 2 layers, each of which
is attention, linear attention (the paper's, without decay), a short convolution or a long one, at width 64.
What solves it is known: what finds a place by its content, behind what tells each place its neighbour. So
attention twice, or a short convolution and then attention or linear attention.

1. Truth: all 16 networks are trained from scratch, each with several seeds, because whether a network gets it
   is all or nothing and the jump comes at a random step. They are looked at `LOOKS` times; one that is right
   in 98 % of the answers has solved the task and is done. A network is said to solve it where most seeds do.
2. Per seed a supernet is trained, and its scores of all 16 networks are laid beside the truth.
3. Per seed and engine, two studies (`nas search`) with the engine's own defaults, from that supernet: one of
   `recall_error` alone, whose winner the study itself trains from scratch (its finalists), and one of
   `recall_error` and `state_bytes`: is the short convolution with linear attention behind it on the front?

The trials all but exhaust a space of 16 networks, so random choice and evolution are right as soon as the
shared weights are. What `darts` and `exact` proposed by themselves is told apart from the random networks
that are scored beside it, and held against the truth: their first choice by the error alone, and whether the
cheap solution is among what they chose by both objectives.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.common import provenance, show
from evaluators.scoring.scratch import FromScratch
from evaluators.supernet.folder import describe
from evaluators.tasks.recall import Recall
from nas.engines.base import PROPOSED_BY
from nas.engines.exact.additivity import rank_correlation
from nas.objectives.base import CostModel, objectives
from nas.pareto import nondominated
from nas.steps.base import Context, run_steps
from nas.study.creation import create_study
from nas.study.evaluators import supernet_evaluator
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Trial
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.long_conv import LongConv
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

LAYERS, WIDTH = 2, 64
ENGINES = ("ofa", "darts", "exact", "random")
ERROR, STATE = "recall_error", "state_bytes"
KNOWN = ("ShortConv Attention", "Attention Attention")
CHEAP = "ShortConv LinearAttention"
SOLVED = 0.98
LOOKS = 4
WEIGHTS = "weights"
"""The folder of the supernets, by seed."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Steps of a supernet and of training from scratch, their batch, trials; the folder of all studies."""

    steps: int
    train: int
    batch: int
    trials: int
    home: str


@dataclass(frozen=True)
class Job:
    """One piece of work: `what` is done with this seed, to a network or by an engine of this name."""

    what: str
    seed: int
    name: str = ""


def space() -> Space:
    """Two layers of four kinds of mixers."""
    mixer = one_of(
        Attention(num_heads=4, num_kv_heads=4, head_dim=16),
        LinearAttention(num_heads=4, head_dim=16, state_dim=16, decay="none"),
        ShortConv(),
        LongConv(length=Recall.length),
    )
    layer = Layer(sequence_mixer=mixer)
    return Space(Decoder(vocab=Recall.tokens, d_model=WIDTH, layers=(layer,) * LAYERS), name="recall")


def networks() -> dict[str, Decoder]:
    """All networks of the space, by name."""
    whole = space()
    return {name_of(genotype): whole.close(genotype) for genotype in whole.enumerate()}


def name_of(genotype: Genotype) -> str:
    """The kinds of a network's blocks, the first layer's first."""
    return " ".join(map(str, genotype.genes.values()))


def run(job: Job, settings: Settings) -> Row:
    """Do one job: its row."""
    torch.set_num_threads(1)
    began = time.monotonic()
    work = {"truth": truth, "supernet": supernet, "one": one_objective, "two": two_objectives}
    found = work[job.what](job, settings)
    return {
        "what": job.what,
        "seed": job.seed,
        "name": job.name,
        **found,
        "seconds": round(time.monotonic() - began, 1),
    }


def truth(job: Job, settings: Settings) -> Row:
    """A network trained from scratch until it has solved the task: its accuracy by steps."""
    evaluator = FromScratch(Recall(), checkpoints=f"{settings.home}/truth", batch=settings.batch)
    reached: list[tuple[int, float]] = []
    for look in range(1, LOOKS + 1):
        steps = settings.train * look // LOOKS
        error = evaluator.score(networks()[job.name], steps, job.seed).value
        reached.append((steps, round(1 - error, 4)))
        if 1 - error >= SOLVED:
            break
    return {"accuracy": reached[-1][1], "by steps": reached}


def supernet(job: Job, settings: Settings) -> Row:
    """A trained supernet, and its scores of all networks as accuracies."""
    plan = Plan(objectives=(ERROR,), **_shared(job, settings))
    evaluator = supernet_evaluator(space(), plan, Recall(), Path(settings.home, WEIGHTS, str(job.seed)))
    describe(evaluator, space())
    evaluator.train()
    scores = {name: evaluator.score(spec, settings.steps, job.seed) for name, spec in networks().items()}
    return {"accuracies": {name: round(1 - score.value, 4) for name, score in scores.items()}}


def one_objective(job: Job, settings: Settings) -> Row:
    """A study of the error alone: its winner, trained from scratch by the study."""
    study, found = _studied(job, settings, (ERROR,), finalists=1)
    final = study.trials("final")[-1]
    accuracy = 1 - final.values[ERROR].value
    return {
        **found,
        "winner": name_of(final.genotype),
        "steps from scratch": final.fidelity.steps,
        "accuracy": round(accuracy, 4),
    }


def two_objectives(job: Job, settings: Settings) -> Row:
    """A study of error and state: its front, by the shared weights."""
    study, found = _studied(job, settings, (ERROR, STATE), finalists=0)
    front = study.front()
    names = [name_of(trial.genotype) for trial in front]
    points = [[round(1 - t.values[ERROR].value, 4), t.values[STATE].value] for t in front]
    return {**found, "front": dict(zip(names, points, strict=True)), "cheap on the front": CHEAP in names}


def _shared(job: Job, settings: Settings) -> dict[str, Any]:
    """The settings of a study, and of the supernet that studies of a seed share."""
    return {
        "trials": settings.trials,
        "train_steps": settings.steps,
        "train_batch": settings.batch,
        "seed": job.seed,
        "finalist_steps": (settings.train,),
    }


def _studied(job: Job, settings: Settings, goals: tuple[str, ...], *, finalists: int) -> tuple[Study, Row]:
    """A study from the supernet of its seed, and what it tells.

    These are the steps of `nas.search` but one: the front is not timed, because the timings on a machine
    wait for each other, and nothing here is about time.
    """
    name = f"{job.what}-{job.name}-{job.seed}"
    trained = Path(settings.home, WEIGHTS, str(job.seed), "supernet")
    plan = Plan(
        engine=job.name,
        finalists=finalists,
        objectives=goals,
        supernet=str(trained),
        **_shared(job, settings),
    )
    study = create_study(space(), plan, name=name, store=Path(settings.home, f"{name}.db"))
    run_steps(Context(study=study), ("corpus", "profile", "train", "search", "finalists"))
    trials = study.complete()
    own = [_told(trial) for trial in trials if trial.memo.get(PROPOSED_BY, "random") != "random"]
    return study, {"networks": len(trials), "own": own, "said": study.facts.get(job.name, {})}


def _told(trial: Trial) -> list[Any]:
    """A network, its accuracy by the shared weights, and who proposed it."""
    return [name_of(trial.genotype), round(1 - trial.values[ERROR].value, 4), trial.memo[PROPOSED_BY]]


def all_jobs(names: Sequence[str], settings: Settings, processes: int, wanted: Sequence[Job]) -> list[Row]:
    """All rows. Studies of a seed begin as soon as its supernet is there."""
    ready = list(wanted)
    running, rows = set[Future[Row]](), list[Row]()
    # fresh processes: a fork after torch has started threads may hang
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        while ready or running:
            while ready and len(running) < processes:
                running.add(pool.submit(run, ready.pop(0), settings))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                row = future.result()
                rows.append(row)
                print(_line(row), flush=True)
                if row["what"] == "supernet":
                    studies = [Job(what, row["seed"], name) for what in ("one", "two") for name in names]
                    ready = studies + ready
    return sorted(rows, key=lambda row: (row["what"], row["name"], row["seed"]))


def _line(row: Row) -> str:
    found = row.get("winner") or row.get("front") or row.get("accuracies") or ""
    reached = row.get("accuracy", "")
    return f"{row['what']} {row['name']} seed {row['seed']}: {found} {reached} ({row['seconds']} s)"


def of_networks(rows: Sequence[Row]) -> list[Row]:
    """Per network: what it reaches from scratch, what the shared weights say of it, and its state."""
    state = objectives[STATE].cheap
    assert state is not None
    found = []
    for name, spec in networks().items():
        alone = [row for row in rows if row["what"] == "truth" and row["name"] == name]
        shared = [row["accuracies"][name] for row in rows if row["what"] == "supernet"]
        values = [row["accuracy"] for row in alone]
        solved = [row["by steps"][-1][0] for row in alone if row["accuracy"] >= SOLVED]
        found.append(
            {
                "network": name,
                "from scratch": " ".join(f"{value:.3f}" for value in values),
                "solved": f"{len(solved)} of {len(alone)}",
                "by step": statistics.median(solved) if solved else "-",
                "shared weights": " ".join(f"{value:.3f}" for value in shared),
                "state bytes": int(state(spec, CostModel.of(Plan().scenarios)).value),
            }
        )
    return found


def solvers(rows: Sequence[Row]) -> list[str]:
    """The networks that most of their seeds solve the task with."""
    found: dict[str, list[bool]] = {}
    for row in rows:
        if row["what"] == "truth":
            found.setdefault(row["name"], []).append(row["accuracy"] >= SOLVED)
    return [name for name, seeds in found.items() if 2 * sum(seeds) > len(seeds)]


def of_supernets(rows: Sequence[Row]) -> list[Row]:
    """Per seed: how well the shared weights order networks, and tell those that solve the task."""
    able = solvers(rows)
    reached: dict[str, list[float]] = {}
    for row in rows:
        if row["what"] == "truth":
            reached.setdefault(row["name"], []).append(min(row["accuracy"], SOLVED))  # solved is solved
    means = {name: statistics.fmean(values) for name, values in reached.items()}
    found = []
    for row in (row for row in rows if row["what"] == "supernet"):
        scores = row["accuracies"]
        first = sorted(scores, key=lambda name: -scores[name])[: len(able)]
        found.append(
            {
                "seed": row["seed"],
                "tau": round(rank_correlation([scores[n] for n in means], list(means.values())), 3),
                "solvers": len(able),
                "solvers among as many best": len(set(first) & set(able)),
                "lowest solver": min((scores[name] for name in able), default=None),
                "highest other": max((v for name, v in scores.items() if name not in able), default=None),
            }
        )
    return found


def of_engines(rows: Sequence[Row]) -> list[Row]:
    """Per engine: in how many seeds it finds a network that solves the task, and the cheap one."""
    able, found = solvers(rows), []
    for name in dict.fromkeys(row["name"] for row in rows if row["what"] in ("one", "two")):
        one = [row for row in rows if row["what"] == "one" and row["name"] == name]
        two = [row for row in rows if row["what"] == "two" and row["name"] == name]
        own = [row["own"][0][0] in able for row in one if row["own"]]
        cheap = [CHEAP in [network for network, *_ in row["own"]] for row in two if row["own"]]
        found.append(
            {
                "engine": name,
                "seeds": len(one),
                "winner solves": sum(row["accuracy"] >= SOLVED for row in one),
                "winner is known": sum(row["winner"] in KNOWN for row in one),
                "lowest": min(row["accuracy"] for row in one),
                "its own first solves": f"{sum(own)} of {len(own)}" if own else "-",
                "cheap on the front": sum(row["cheap on the front"] for row in two),
                "its own have the cheap": f"{sum(cheap)} of {len(cheap)}" if cheap else "-",
                "winners": "; ".join(row["winner"] for row in one),
            }
        )
    return found


def true_front(rows: Sequence[Row]) -> list[str]:
    """The front of the best accuracy from scratch (rounded to what counts as solved) and the state."""
    table = of_networks(rows)
    best = [max(map(float, row["from scratch"].split())) for row in table]
    points = [(-min(value, SOLVED), row["state bytes"]) for value, row in zip(best, table, strict=True)]
    kept = nondominated(points)
    return [row["network"] for row, keep in zip(table, kept, strict=True) if keep]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything, print the tables, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/oneshot_recall.json"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="steps of the supernet")
    parser.add_argument("--train", type=int, default=2500, help="steps of training from scratch, at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--networks", nargs="*", default=None, help="those trained from scratch: all")
    chosen = parser.parse_args([] if arguments is None else arguments)
    seeds = range(chosen.seeds)
    names = list(networks()) if chosen.networks is None else chosen.networks
    wanted = [Job("supernet", seed) for seed in seeds] if chosen.engines else []
    wanted += [Job("truth", seed, name) for name in names for seed in seeds]
    with TemporaryDirectory() as home:
        settings = Settings(
            steps=chosen.steps, train=chosen.train, batch=chosen.batch, trials=chosen.trials, home=home
        )
        rows = all_jobs(chosen.engines, settings, chosen.processes, wanted)
    tables = {
        "networks": of_networks(rows),
        "shared weights": of_supernets(rows),
        "engines": of_engines(rows),
    }
    for title, table in tables.items():
        if table:
            show(title, table)
    sizes = ("seeds", "steps", "train", "batch", "trials")
    given = " ".join(f"--{name} {getattr(chosen, name)}" for name in sizes)
    result = {
        **provenance(f"python -m benchmarks.oneshot.recall {given} --processes {chosen.processes}"),
        **tables,
        "front from scratch": true_front(rows) if chosen.networks is None else [],
        "rows": rows,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
