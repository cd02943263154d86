"""The winners of a front: finalists trained from scratch by successive halving.

The proxy ranks many networks cheaply; the few that matter are trained by themselves. All finalists are
trained to the first rung; a third goes on to the next, resumed from its checkpoint (Jamieson & Talwalkar
2016, arXiv:1502.07943). Who goes on is decided among all objectives, with the quality just measured: those
that no other dominates first, and of these a spread that contains the best. So a front is halved, not only
its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas.executors.base import Executor
from nas.pareto import nondominated
from nas.study.scoring import score_all
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState
from search_spaces.language.genotype import Genotype


def spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Indices of up to `count` points far from each other, the best in the first objective among them."""
    if not points or count < 1:
        return []
    values = np.asarray(points, dtype=float)
    span = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    chosen = [int(values[:, 0].argmin())]
    while len(chosen) < min(count, len(points)):
        distance = np.linalg.norm(scaled[:, None] - scaled[None, chosen], axis=-1).min(axis=1)
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return chosen


def by_rank_and_spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Up to `count` indices: whole fronts first, and of the front that does not fit, a spread."""
    left, chosen = list(range(len(points))), list[int]()
    while left and len(chosen) < count:
        kept = nondominated([points[i] for i in left])
        front = [i for i, keep in zip(left, kept, strict=True) if keep]
        chosen += [front[j] for j in spread([points[i] for i in front], count - len(chosen))]
        left = [i for i in left if i not in front]
    return chosen


def choose_finalists(study: Study, count: int, picks: Sequence[Genotype] = ()) -> list[Genotype]:
    """The user's picks, then members of the front that are spread over it, then those that come next."""
    known = study.complete()
    chosen = [known[i].genotype for i in by_rank_and_spread(study.points(known), count)]
    return list(dict.fromkeys([*picks, *chosen]))[: max(count, len(picks))]


def halve(
    study: Study,
    finalists: Sequence[Genotype],
    executor: Executor,
    *,
    picks: Sequence[Genotype] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Train finalists rung by rung; the trials of the last rung that was reached. `picks` always go on."""
    plan, alive, trials = study.plan, list(finalists), list[Trial]()
    for rung, steps in enumerate(plan.rungs):
        fidelity = Fidelity(evaluator="scratch", steps=steps)
        trials = score_all(study, alive, executor, stage="final", fidelity=fidelity, on_trial=on_trial)
        trials = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        if rung + 1 < len(plan.rungs):
            count = max(1, math.ceil(len(trials) * plan.keep))
            chosen = [trials[i].genotype for i in by_rank_and_spread(study.points(trials), count)]
            alive = list(dict.fromkeys([*(p for p in picks if p in alive), *chosen]))
    return trials


def runs_of(finalists: int, rungs: Sequence[int], keep: float) -> int:
    """How many trials `halve` will make: for progress bars."""
    total = 0
    for _ in rungs:
        total += finalists
        finalists = max(1, math.ceil(finalists * keep))
    return total
