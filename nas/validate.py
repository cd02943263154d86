"""How far the proxy can be trusted: its ranking of random networks against training each from scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from nas.executors.base import Executor
from nas.quality import QUALITY
from nas.stages import add_fact, score_all
from nas.study import Study
from nas.trial import Fidelity, Trial, TrialState
from search_spaces.errors import SettingError
from search_spaces.genotype import Genotype

RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of two rankings with its 95 % bootstrap interval, and the pairs behind it."""

    tau: float
    interval: tuple[float, float]
    pairs: tuple[tuple[float, float, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"tau": self.tau, "interval": list(self.interval), "pairs": [list(p) for p in self.pairs]}


def agreement(pairs: Sequence[tuple[float, float, str]], seed: int = 0) -> Agreement:
    """Kendall's tau of (proxy, truth) pairs; the interval resamples the networks.

    Raises:
        SettingError: fewer than three pairs, or a score that is the same for all: they say nothing.
    """
    if len(pairs) < 3:
        raise SettingError(f"a rank correlation needs at least 3 networks, got {len(pairs)}")
    values = np.array([pair[:2] for pair in pairs], dtype=float)
    if (values == values[0]).all(axis=0).any():
        raise SettingError("a rank correlation needs scores that differ, and these are all the same")
    dice = np.random.default_rng(seed)
    drawn = [_tau(values[dice.integers(len(pairs), size=len(pairs))]) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Agreement(_tau(values), (float(low), float(high)), tuple(pairs))


def random_networks(study: Study, count: int) -> list[Genotype]:
    """Distinct random architectures of the study's space, the same at every call."""
    dice, found = Random(f"validate/{study.plan.seed}"), dict[Genotype, None]()
    for _ in range(100 * count):
        found[study.space.sample(dice)] = None
        if len(found) == count:
            return list(found)
    raise SettingError(f"the space has no {count} distinct architectures to validate on")


def validate(
    study: Study,
    networks: int,
    steps: int,
    *,
    proxy: Executor,
    truth: Executor,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Agreement:
    """Score random networks by the study's proxy and by training from scratch; compare the rankings."""
    genotypes = random_networks(study, networks)
    plan = study.plan
    by_proxy = score_all(
        study,
        genotypes,
        proxy,
        stage="validate",
        fidelity=Fidelity(evaluator=plan.evaluator, steps=plan.steps),
        on_trial=on_trial,
    )
    by_truth = score_all(
        study,
        genotypes,
        truth,
        stage="validate",
        fidelity=Fidelity(evaluator="scratch", steps=steps),
        on_trial=on_trial,
    )
    pairs = [
        (one.values[QUALITY].value, other.values[QUALITY].value, one.digest)
        for one, other in zip(by_proxy, by_truth, strict=True)
        if one.state is other.state is TrialState.COMPLETE
    ]
    found = agreement(pairs)
    add_fact(study, "validation", {**found.to_json(), "steps": steps, "proxy": plan.evaluator})
    return found


def _tau(values: Any) -> float:
    return float(kendalltau(values[:, 0], values[:, 1]).statistic)
