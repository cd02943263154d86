"""What a search loop costs per candidate when the evaluation itself costs nothing, beside its peers.

A space of 12 genes and two objectives. Ours writes every trial to a durable store (SQLite, WAL) before and
after its evaluation; Optuna in memory writes nothing. All run on the same machine in one go; each figure is
the median of `REPEATS` runs where a run is short. Targets (issue: one search, end to end):

* random at least 100 times Optuna with SQLite, and twice Optuna in memory;
* nsga2 at least 0.8 of Optuna's own in-memory NSGA-II;
* through two Ray actors at least 30 times the best Ray Tune;
* the 2,000th candidate at most 1.3 times as dear as the 200th.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from benchmarks.common import keep, show
from nas.driver import run
from nas.executors.base import FunctionScorer
from nas.executors.workers import Workers
from nas.steps.search import search_of
from nas.study.creation import create_study
from nas.study.plan import Plan
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import parts
from search_spaces.language.space import Space

REPEATS = 3
FEW, MANY = 200, 2000
NAMES = tuple("abcdefghijkl")
LABELS = (0, 1, 2, 3)


@parts.add
@dataclass(frozen=True)
class Twelve:
    """Twelve small numbers."""

    a: int = one_of(*LABELS)
    b: int = one_of(*LABELS)
    c: int = one_of(*LABELS)
    d: int = one_of(*LABELS)
    e: int = one_of(*LABELS)
    f: int = one_of(*LABELS)
    g: int = one_of(*LABELS)
    h: int = one_of(*LABELS)
    i: int = one_of(*LABELS)
    j: int = one_of(*LABELS)
    k: int = one_of(*LABELS)
    l: int = one_of(*LABELS)  # noqa: E741  # the twelfth letter


def first(spec: Twelve) -> float:
    """One objective."""
    return float(sum((getattr(spec, name) - 1) ** 2 for name in NAMES))


def second(spec: Twelve) -> float:
    """The other: its optimum lies elsewhere."""
    return float(sum((getattr(spec, name) - 2) ** 2 for name in NAMES))


def ours(strategy: str, trials: int, workers: Workers) -> list[float]:
    """Seconds at which each candidate was done, from the start of the loop."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = {"strategy": strategy, "trials": trials, "finalists": 0}
        if strategy == "nsga2":
            plan["settings"] = {"population": 50}
        study = create_study(
            Space(Twelve()),
            Plan.from_plain({"objectives": ["first", "second"], **plan}),
            name="bench",
            store=Path(folder) / "studies.db",
            functions={"first": first, "second": second},
        )
        with workers.executor({"first": FunctionScorer(first), "second": FunctionScorer(second)}) as executor:
            executor.warm_up()
            began = time.perf_counter()
            run(
                search_of(study, executor, on_trial=lambda trial: times.append(time.perf_counter() - began)),
                trials,
            )
        study.store.close()
    return times


def optuna_loop(sampler: Callable[[], Any], trials: int, storage: str | None) -> list[float]:
    """The same for Optuna's ask and tell."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    times: list[float] = []
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler(), storage=storage)
    began = time.perf_counter()
    for _ in range(trials):
        trial = study.ask()
        spec = Twelve(**{name: trial.suggest_categorical(name, LABELS) for name in NAMES})
        study.tell(trial, [first(spec), second(spec)])
        times.append(time.perf_counter() - began)
    return times


def optuna_sqlite(sampler: Callable[[], Any], trials: int) -> list[float]:
    """Optuna with its SQLite storage."""
    with tempfile.TemporaryDirectory() as folder:
        return optuna_loop(sampler, trials, f"sqlite:///{folder}/optuna.db")


def ray_tune(trials: int, *, bare: bool) -> list[float]:
    """Ray Tune with its defaults, or with `reuse_actors` and without loggers."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1" if bare else "0"
    from ray import tune

    def trainable(config: Mapping[str, int]) -> None:
        spec = Twelve(**config)
        tune.report({"first": first(spec), "second": second(spec)})

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            trainable,
            param_space={name: tune.choice(list(LABELS)) for name in NAMES},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=bare),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        began = time.perf_counter()
        tuner.fit()
        return [time.perf_counter() - began] * trials


def rate(times: list[float]) -> float:
    """Candidates a second over a whole run."""
    return len(times) / times[-1]


def median_rate(run: Callable[[], list[float]], repeats: int = REPEATS) -> tuple[float, float]:
    """The median rate of some runs, and their spread (range over median)."""
    rates = [rate(run()) for _ in range(repeats)]
    middle = statistics.median(rates)
    return middle, (max(rates) - min(rates)) / middle


def slowdown(times: list[float]) -> float:
    """How much dearer the last hundred candidates are than the hundred before the 200th."""
    early = times[FEW - 1] - times[FEW - 101]
    late = times[-1] - times[-101]
    return late / early


def main() -> None:
    """Run, print and keep everything."""
    import ray

    here, pool, batched = Workers(), Workers(2), Workers(2, candidates_per_message=32)
    nsga2 = lambda: optuna.samplers.NSGAIISampler(seed=0)  # noqa: E731  # one word in a table of contenders
    uniform = lambda: optuna.samplers.RandomSampler(seed=0)  # noqa: E731
    contenders: dict[str, tuple[Callable[[int], list[float]], tuple[int, ...], int]] = {
        "nas random, in process": (lambda n: ours("random", n, here), (FEW, MANY), REPEATS),
        "nas nsga2, in process": (lambda n: ours("nsga2", n, here), (FEW, MANY), REPEATS),
        "Optuna random, in memory": (lambda n: optuna_loop(uniform, n, None), (FEW, MANY), REPEATS),
        "Optuna NSGA-II, in memory": (lambda n: optuna_loop(nsga2, n, None), (FEW, MANY), REPEATS),
        "Optuna random, SQLite": (lambda n: optuna_sqlite(uniform, n), (FEW,), 1),
        "Optuna NSGA-II, SQLite": (lambda n: optuna_sqlite(nsga2, n), (FEW,), 1),
    }
    through_ray: dict[str, tuple[Callable[[int], list[float]], tuple[int, ...], int]] = {
        "nas random, 2 Ray actors, one a call": (lambda n: ours("random", n, pool), (FEW, MANY), REPEATS),
        "nas random, 2 Ray actors, 32 a call": (lambda n: ours("random", n, batched), (FEW, MANY), REPEATS),
        "Ray Tune, default": (lambda n: ray_tune(n, bare=False), (20,), 1),
        "Ray Tune, reuse_actors, no loggers": (lambda n: ray_tune(n, bare=True), (FEW,), 1),
    }
    rows = [row for name, how in contenders.items() for row in measured(name, *how)]
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    rows += [row for name, how in through_ray.items() for row in measured(name, *how)]
    ray.shutdown()
    slower = {name: slowdown(ours(name, MANY, here)) for name in ("random", "nsga2")}
    verdicts = judge({(row["loop"], row["trials"]): row["candidates/s"] for row in rows}, slower)
    show("Search loop: candidates a second with a free evaluation", rows)
    show("Targets", verdicts)
    keep("search_loop", "python -m benchmarks search_loop", rows, targets=verdicts)


def measured(
    name: str, run: Callable[[int], list[float]], sizes: tuple[int, ...], repeats: int
) -> list[dict[str, Any]]:
    """One row per size."""
    rows = []
    for trials in sizes:
        middle, spread = median_rate(partial(run, trials), repeats)
        rows.append(
            {"loop": name, "trials": trials, "candidates/s": middle, "range/median": spread, "runs": repeats}
        )
    return rows


def judge(rates: Mapping[tuple[str, int], float], slower: Mapping[str, float]) -> list[dict[str, Any]]:
    """The targets beside what was measured."""
    tune = max(rate for (name, _), rate in rates.items() if name.startswith("Ray Tune"))
    optuna_sqlite_best = max(rate for (name, _), rate in rates.items() if name.endswith("SQLite"))
    verdicts = []
    for trials in (FEW, MANY):
        ours_random = rates["nas random, in process", trials]
        ratios = {
            "random / Optuna SQLite": (ours_random / optuna_sqlite_best, 100.0),
            "random / Optuna random in memory": (
                ours_random / rates["Optuna random, in memory", trials],
                2.0,
            ),
            "random / Optuna NSGA-II in memory": (
                ours_random / rates["Optuna NSGA-II, in memory", trials],
                2.0,
            ),
            "nsga2 / Optuna NSGA-II in memory": (
                rates["nas nsga2, in process", trials] / rates["Optuna NSGA-II, in memory", trials],
                0.8,
            ),
            "two Ray actors / best Ray Tune": (
                rates["nas random, 2 Ray actors, one a call", trials] / tune,
                30.0,
            ),
            "two Ray actors, batched / best Ray Tune": (
                rates["nas random, 2 Ray actors, 32 a call", trials] / tune,
                30.0,
            ),
        }
        verdicts += [
            {
                "target": name,
                "trials": trials,
                "measured": ratio,
                "wanted": f">= {least:g}",
                "met": ratio >= least,
            }
            for name, (ratio, least) in ratios.items()
        ]
    verdicts += [
        {
            "target": f"{name}: 2,000th / 200th",
            "trials": MANY,
            "measured": r,
            "wanted": "<= 1.3",
            "met": r <= 1.3,
        }
        for name, r in slower.items()
    ]
    return verdicts


if __name__ == "__main__":
    main()
