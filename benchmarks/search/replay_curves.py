"""`python -m benchmarks.search.replay_curves CURVES.zip`: schedulers on learning curves that others measured.

    python -m benchmarks.search.replay_curves nas_bench_nlp_wikitext2_curves.zip

The curves are of recurrent cells of NAS-Bench-NLP (Klyuchnikov et al. 2020, arXiv:2006.07116), trained for
50 epochs on WikiText-2: a zip of its log files, of which those that ended count. For each of 200 orders the
first candidates are searched by the project's schedulers, which see validation losses as far as they train.
The regret is the loss after 50 epochs of what they would choose, less that of the best of all. Then the error
of the predictions from the first epochs: how often the truth is in the intervals that they state, and
Kendall's tau of prediction and truth beside that of the losses so far.
"""

from __future__ import annotations

import argparse
import heapq
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import keep, show_plainly
from foundation.statistics import kendall_tau
from nas.schedulers.base import Ladder, schedulers
from nas.schedulers.curves import LearningCurves
from nas.study.trial import CANDIDATE, Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

NAME, COMMAND = "replay_curves", "python -m benchmarks.search.replay_curves"
EPOCHS, ORDERS = 50, 200
LADDERS = ((2, 6, 18, 50), (1, 3, 10, 50))
CANDIDATES = 27
SEARCHES = (
    ("halving", 1),
    ("halving", 8),
    ("halving_by_curve", 1),
    ("halving_by_curve", 8),
    ("halving_by_gain", 1),
    ("halving_by_gain", 8),
    ("hyperband", 1),
)
LEVELS = {"80 %": 1.2816, "95 %": 1.9600}

Losses = NDArray[np.float64]


def read(path: Path) -> Losses:
    """Validation losses in nats, [curves, epochs], of the trainings that ended."""
    curves = []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            losses = json.loads(archive.read(name))["val_losses"]
            if len(losses) == EPOCHS and np.isfinite(losses).all():
                curves.append(losses)
    return np.array(curves, dtype=float)


def loss_of(trial: Trial) -> tuple[float, ...]:
    """What is minimised."""
    return (trial.values["loss"].value,)


def searched(losses: Losses, scheduler: str, ladder: Ladder, *, workers: int) -> tuple[int, int]:
    """Search these candidates; the one that is chosen, and the epochs that were trained."""
    made = schedulers[scheduler](ladder, trials=len(losses), point_of=loss_of, scores=["loss"])
    running: list[tuple[float, int, Trial]] = []
    now, number, begun, epochs = 0.0, 0, 0, 0
    ended: list[Trial] = []
    while True:
        while len(running) < workers:
            promotion = made.promotion()
            if promotion is not None:
                earlier, steps = promotion.trial, promotion.steps
                memo = {**earlier.memo, CANDIDATE: earlier.candidate}
                genotype, spent = earlier.genotype, steps - earlier.fidelity.steps
            elif begun < len(losses):
                beginning = made.begin()
                memo, steps, spent = dict(beginning.memo), beginning.steps, beginning.steps
                genotype, begun = Genotype({"cell": begun}), begun + 1
            else:
                break
            fidelity = Fidelity(evaluator="scratch", steps=steps)
            trial = Trial(number=number, genotype=genotype, fidelity=fidelity, seed=0, memo=memo)
            made.tell(trial)
            heapq.heappush(running, (now + spent, number, trial))
            number, epochs = number + 1, epochs + spent
        if not running:
            break
        now, _, trial = heapq.heappop(running)
        ended.append(_ended(trial, losses[_cell(trial)]))
        made.tell(ended[-1])
    most = max(trial.fidelity.steps for trial in ended)
    whole = [trial for trial in ended if trial.fidelity.steps == most]
    return _cell(min(whole, key=lambda trial: trial.values["loss"].value)), epochs


def _cell(trial: Trial) -> int:
    return int(str(trial.genotype.genes["cell"]))


def _ended(trial: Trial, losses: Losses) -> Trial:
    steps = trial.fidelity.steps
    value = Value(losses[steps - 1], curve=tuple((i + 1, losses[i]) for i in range(steps - 1)))
    return Trial(
        number=trial.number,
        genotype=trial.genotype,
        fidelity=trial.fidelity,
        seed=0,
        memo=trial.memo,
        state=TrialState.COMPLETE,
        values={"loss": value},
    )


def schedule_row(losses: Losses, scheduler: str, ladder: Ladder, *, workers: int) -> dict[str, Any]:
    """Mean cost, in whole trainings, and mean regret over all orders."""
    costs, regrets = [], []
    for order in range(ORDERS):
        some = losses[np.random.default_rng(order).permutation(len(losses))[:CANDIDATES]]
        chosen, epochs = searched(some, scheduler, ladder, workers=workers)
        costs.append(epochs / EPOCHS)
        regrets.append(some[chosen, -1] - losses[:, -1].min())
    return {
        "search": scheduler,
        "rungs": " ".join(map(str, ladder.steps)),
        "workers": workers,
        **_summary(costs, regrets),
    }


def random_row(losses: Losses, trainings: int) -> dict[str, Any]:
    """So many candidates trained to the end."""
    regrets = []
    for order in range(ORDERS):
        some = np.random.default_rng(order).permutation(len(losses))[:trainings]
        regrets.append(losses[some, -1].min() - losses[:, -1].min())
    about = {"search": "random", "rungs": str(EPOCHS), "workers": 1}
    return {**about, **_summary([float(trainings)] * ORDERS, regrets)}


def _summary(costs: Sequence[float], regrets: Sequence[float]) -> dict[str, Any]:
    error = float(np.std(regrets) / np.sqrt(len(regrets)))
    return {
        "cost": round(float(np.mean(costs)), 3),
        "largest cost": round(max(costs), 3),
        "regret": round(float(np.mean(regrets)), 4),
        "standard error": round(error, 4),
    }


def coverage_row(losses: Losses, epochs: int, whole: int) -> dict[str, Any]:
    """Predictions from so many epochs, where `whole` candidates beside them were trained to the end."""
    taus, plain, off, widths = [], [], [], []
    inside: dict[str, list[float]] = {level: [] for level in LEVELS}
    for order in range(ORDERS // 4):
        some = losses[np.random.default_rng(order).permutation(len(losses))[:CANDIDATES]]
        curves = LearningCurves(EPOCHS)
        for cell, curve in enumerate(some):
            seen = EPOCHS if cell < whole else epochs
            curves.add(cell, {i + 1: float(curve[i]) for i in range(seen)})
        held_out = some[whole:]
        means, errors = np.array([curves.final(cell) for cell in range(whole, len(some))]).T
        z = np.abs(means - held_out[:, -1]) / errors
        for level, width in LEVELS.items():
            inside[level].append(float((z < width).mean()))
        off.append(float(np.abs(means - held_out[:, -1]).mean()))
        widths.append(float(errors.mean()))
        taus.append(kendall_tau(means, held_out[:, -1]))
        plain.append(kendall_tau(held_out[:, epochs - 1], held_out[:, -1]))
    return {
        "epochs": epochs,
        "whole trainings beside": whole,
        "tau of the prediction": round(float(np.mean(taus)), 3),
        "tau of the loss so far": round(float(np.mean(plain)), 3),
        "mean error": round(float(np.mean(off)), 3),
        "mean stated error": round(float(np.mean(widths)), 3),
        **{f"within {level}": round(float(np.mean(inside[level])), 3) for level in LEVELS},
    }


def main(words: Sequence[str] | None = None) -> int:
    """Replay, keep and print."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("curves", type=Path, help="the zip of log files")
    losses = read(parser.parse_args(words).curves)
    rows = [
        schedule_row(losses, scheduler, Ladder(steps), workers=workers)
        for scheduler, workers in SEARCHES
        for steps in LADDERS
    ]
    rows += [random_row(losses, trainings) for trainings in (2, 3, CANDIDATES)]
    predictions = [
        coverage_row(losses, epochs, whole) for whole in (0, 3) for epochs in (2, 4, 6, 12, 18, 25)
    ]
    keep(NAME, f"{COMMAND} CURVES.zip", rows, predictions=predictions, curves=len(losses))
    show_plainly(
        f"Regret in nats over {ORDERS} orders of {len(losses)} curves; cost in whole trainings", rows
    )
    show_plainly("Predictions of the loss after all epochs", predictions)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
