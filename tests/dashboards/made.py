"""A study as a search would leave it, made up in a second: for tests, and for looking at the pages.

`python -m tests.dashboards.made FOLDER` writes one store to play with.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from nas.objectives.costs import COUNTED, cost_of
from nas.steps.finalists import choose_finalists
from nas.store import Measurement, Store
from nas.strategies.base import make_strategy
from nas.study.baselines import RECORD, baselines_of, described_baselines, rungs_of
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.serialization import to_json
from search_spaces.spaces import spaces

BEGAN = 1_767_000_000.0
GAINS = {"Attention": 0.16, "Mamba2": 0.15, "GatedLinearAttention": 0.12, "RGLRU": 0.07, "ShortConv": 0.0}
SLOWNESS = {"Attention": 0.13, "Mamba2": 0.17, "GatedLinearAttention": 0.11, "RGLRU": 0.08, "ShortConv": 0.04}
PACE = {"Attention": 1.35, "Mamba2": 1.0, "GatedLinearAttention": 0.95, "RGLRU": 0.9, "ShortConv": 0.7}


class Invented:
    """Numbers that behave like those of a search: windows shared by all, a slope for size, noise."""

    def __init__(self, study: Study, seed: int = 7) -> None:
        self.study, self.seed = study, seed
        dice = Random(seed)
        self.hardness = [dice.gauss(0, 0.32) for _ in range(study.plan.validation_windows or 64)]

    def quality(self, trial: Trial, source: str, steps: int = 250) -> Value:
        spec, dice = self.study.spec(trial), Random(f"{self.seed}/{trial.digest}/{source}/{steps}")
        mixers = [type(layer.sequence_mixer).__name__ for layer in spec.layers]
        size = math.log10(cost_of(spec, self.study.plan.scenarios[0]).params)
        gain = sum(GAINS[mixer] for mixer in mixers) / len(mixers) + 0.15 * len(set(mixers)) / len(mixers)
        rough = sum({16: 0.0, 8: 0.004, 4: 0.04}[layer.bits.weight] for layer in spec.layers)
        mean = 4.9 - 0.42 * size - gain + rough + dice.gauss(0, 0.015)
        if source == "scratch":
            pace = sum(PACE[mixer] for mixer in mixers) / len(mixers)
            mean += 0.9 * math.exp(-steps / 330 / pace) - 0.32 * pace - 0.1
        samples = tuple(round(mean + hard + dice.gauss(0, 0.035), 5) for hard in self.hardness)
        middle = sum(samples) / len(samples)
        spread = math.sqrt(sum((s - middle) ** 2 for s in samples) / (len(samples) - 1) / len(samples))
        return Value(middle, spread, source, samples)

    def cheap(self, trial: Trial) -> dict[str, Value]:
        plan, spec = self.study.plan, self.study.spec(trial)
        cost = cost_of(spec, plan.scenarios[0])
        values = {name: Value(float(getattr(cost, name)), None, "counted") for name, _, _ in COUNTED}
        prefill, decode = cost.prefill_flops / 9e9 + 0.6 * len(spec.layers), cost.decode_flops / 2.2e9
        decode += sum(SLOWNESS[type(layer.sequence_mixer).__name__] for layer in spec.layers)
        decode += spec.d_model / 900 + cost.state_bytes / 3e6
        values["prefill_ms"] = Value(prefill, 0.04 * prefill, "predicted")
        values["decode_ms"] = Value(decode, 0.06 * decode, "predicted")
        return values


def make_study(
    store: Store,
    name: str = "laptop",
    *,
    trials: int = 230,
    complete: bool = True,
    dice: int = 3,
    space: str = "laptop",
    **plan: Any,
) -> Study:
    """A study over a ready-made space; with `complete`, also all that comes after the search.

    `dice` is the strategy's seed: studies that differ in it read the same weights and find something else.
    """
    longer: dict[str, Any] = {"finalists": 9, "finalist_steps": (100, 300, 800)}
    if complete:
        longer["baselines"] = ("zoo:transformer", "zoo:lfm2")
    settings = Plan(**{"trials": trials or 5, "strategy": "nsga2", **longer, **plan})
    searched = spaces[space]()
    record = store.create_study(
        name,
        space_digest=searched.digest,
        space_json=to_json(searched.root),
        config={
            "plan": settings.to_plain(),
            "space": {"name": searched.name, "size": str(searched.size())},
            RECORD: described_baselines(searched, settings, {}),
        },
    )
    study = Study(store, record, searched)
    invented = Invented(study)
    search(study, invented, trials, dice)
    if complete and trials:
        finish(study, invented)
    return Study(store, store.study(name))


def search(study: Study, invented: Invented, trials: int, dice: int) -> None:
    """The trials that a strategy would have asked for, with every kind of outcome."""
    plan = study.plan
    strategy = make_strategy(
        plan.strategy, study.space, [(n, False) for n in plan.objectives], seed=dice, settings={}
    )
    known: dict[str, int] = {}
    told: list[Trial] = []
    number = -1
    while sum(trial.state is not TrialState.INFEASIBLE for trial in told) < trials:
        number += 1
        began = BEGAN + 4.1 * number
        proposal = strategy.ask(number)
        trial = Trial(
            number=number,
            genotype=proposal.genotype,
            fidelity=Fidelity(evaluator="supernet", steps=plan.train_steps),
            seed=plan.seed,
            started=began,
            finished=began + 3.9,
            memo=proposal.memo,
        )
        values = {**invented.cheap(trial), "bits_per_byte": invented.quality(trial, "supernet")}
        trial = replace(trial, state=TrialState.COMPLETE, values=values, reused=known.get(trial.digest))
        cheap = {name: value for name, value in values.items() if name != "bits_per_byte"}
        if number % 41 == 40:
            trial = replace(
                trial, state=TrialState.FAILED, values=cheap, reason="a worker was lost", reused=None
            )
        elif number % 37 == 36:
            trial = replace(
                trial,
                state=TrialState.INFEASIBLE,
                values=cheap,
                reason="decode_ms is 6.1, not decode_ms<6",
                reused=None,
            )
        else:
            known.setdefault(trial.digest, number)
        strategy.tell(trial)
        told.append(trial)
    study.store.save(study.record, told)


def finish(study: Study, invented: Invented) -> None:
    """Measured fronts, finalists, a validation, and the facts of each phase."""
    dice = Random(11)
    measure(study, study.predicted_front(), dice)
    train_finalists(study, invented)
    train_baselines(study, invented)
    measure(study, study.complete("baseline"), dice)
    add_facts(study, invented, dice)


def measure(study: Study, trials: Sequence[Trial], dice: Random) -> None:
    """Latencies about as predicted."""
    for trial in trials:
        found = [
            Measurement(
                trial.digest,
                f"{name}_measured",
                study.plan.scenarios[0].to_json(),
                Value(
                    trial.values[name].value * dice.gauss(1.02, 0.05),
                    0.008 * trial.values[name].value,
                    "measured",
                ),
                time.time(),
            )
            for name in ("prefill_ms", "decode_ms")
        ]
        study.store.add_measurements(study.record, found)


def train_baselines(study: Study, invented: Invented) -> None:
    """Those beside every rung."""
    number = 0
    for rung in rungs_of(study):
        done = []
        for genotype in baselines_of(study, rung):
            trial = Trial(
                number=number,
                genotype=genotype,
                stage="baseline",
                fidelity=rung.fidelity,
                seed=study.plan.seed,
                started=BEGAN + 3000 + 30 * number,
                finished=BEGAN + 3028 + 30 * number,
            )
            quality = invented.quality(trial, "scratch", rung.fidelity.steps)
            values = {**invented.cheap(trial), "bits_per_byte": quality}
            done.append(replace(trial, state=TrialState.COMPLETE, values=values))
            number += 1
        study.store.save(study.record, done)


def train_finalists(study: Study, invented: Invented) -> None:
    """Three rungs, of which each keeps a third."""
    alive, number, by_digest = (
        choose_finalists(study, study.plan.finalists),
        0,
        {t.digest: t for t in study.predicted_front()},
    )
    for steps in study.plan.finalist_steps:
        done = []
        for genotype in alive:
            trial = replace(
                by_digest[genotype.digest],
                number=number,
                stage="final",
                fidelity=Fidelity(evaluator="scratch", steps=steps),
                started=BEGAN + 2000 + 30 * number,
                finished=BEGAN + 2028 + 30 * number,
                memo={},
            )
            values = {**trial.values, "bits_per_byte": invented.quality(trial, "scratch", steps)}
            done.append(replace(trial, values=values))
            number += 1
        study.store.save(study.record, done)
        done.sort(key=lambda trial: trial.values["bits_per_byte"].value)
        alive = [trial.genotype for trial in done[: max(1, math.ceil(len(done) / 3))]]


def add_facts(study: Study, invented: Invented, dice: Random) -> None:
    """What the phases of a study write down."""
    reference = {"zlib": 2.094, "bz2": 1.902, "xz": 1.868}
    add_fact(
        study,
        "corpus",
        {
            "name": "python standard library",
            "digest": "4c1f22ab90de",
            "train_bytes": 9_120_334,
            "valid_bytes": 480_112,
            "reference": reference,
        },
    )
    losses = [
        [
            s,
            round(2.3 + 5.4 * math.exp(-s / 50) + dice.gauss(0, 0.06), 4),
            round(2.6 + 5.2 * math.exp(-s / 60) + dice.gauss(0, 0.06), 4),
        ]
        for s in range(1, 251)
    ]
    add_fact(study, "supernet", {"steps": 250, "seconds": 71.4, "loss": losses})
    table: dict[str, Any] = {"seconds": 40.3, "machine": "AMD EPYC 9B14, 1 thread, torch 2.11", "notes": []}
    for name, middle, noise in (("prefill_ms", 7.0, 0.05), ("decode_ms", 1.1, 0.07)):
        pairs = [(p, p * dice.gauss(1, noise)) for p in (middle * dice.uniform(0.5, 1.7) for _ in range(12))]
        mape = sum(abs(p - m) / m for p, m in pairs) / len(pairs)
        table[name] = {
            "mape": mape,
            "tau": 0.91,
            "tau_interval": [0.74, 0.98],
            "held_out": [list(p) for p in pairs],
        }
    add_fact(study, "table", table)
    chosen = study.complete()[:12]
    scored = [
        [t.values["bits_per_byte"].value, invented.quality(t, "scratch", 300).value, t.digest] for t in chosen
    ]
    add_fact(
        study,
        "validation",
        {"tau": 0.67, "interval": [0.38, 0.88], "pairs": scored, "steps": 300, "proxy": "supernet"},
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with Store(folder / "studies.db") as opened:
        make_study(opened)
        make_study(
            opened, "two-objectives", trials=60, complete=False, objectives=("bits_per_byte", "decode_ms")
        )
        make_study(opened, "just-begun", trials=1, complete=False)
