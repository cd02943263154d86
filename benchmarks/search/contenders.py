"""What is compared: this project's strategies, Optuna's TPE, and pymoo's NSGA-II where it is installed.

Each is a loop that asks for architectures and is told their values. Optuna is given the questions as they
come up, numbers as whole numbers; pymoo every gene of the space as a whole number, of which those that an
architecture does not ask are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from nas.strategies.base import make_strategy
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Label
from search_spaces.language.space import Space

Score: TypeAlias = Callable[[Any], tuple[float, ...]]
"""The values of an architecture as they are measured."""

Contender: TypeAlias = Callable[[Space, int, float, Score, int, int], float]
"""Search `space` for so many objectives, of which the last has this error, with a budget and a seed; the
seconds of the search's own."""


def ours(name: str) -> Contender:
    """A strategy of this project."""

    def search(space: Space, objectives: int, error: float, score: Score, budget: int, seed: int) -> float:
        names = [f"objective {k}" for k in range(objectives)]
        strategy = make_strategy(name, space, [(n, False) for n in names], seed=seed, settings={})
        spent = 0.0
        for number in range(budget):
            start = time.process_time()
            proposal = strategy.ask(number)
            spent += time.process_time() - start
            values = score(space.close(proposal.genotype))
            errors = [None] * (objectives - 1) + [error or None]
            trial = Trial(
                number=number,
                genotype=proposal.genotype,
                fidelity=Fidelity(evaluator="benchmark"),
                seed=0,
                state=TrialState.COMPLETE,
                values={n: Value(v, error=e) for n, v, e in zip(names, values, errors, strict=True)},
                memo=proposal.memo,
            )
            start = time.process_time()
            strategy.tell(trial)
            spent += time.process_time() - start
        return spent

    return search


def optuna_tpe(space: Space, objectives: int, error: float, score: Score, budget: int, seed: int) -> float:
    """Optuna's TPE with its defaults for several objectives."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    spent = 0.0
    for _ in range(budget):
        start = time.process_time()
        trial = study.ask()

        def answer(path: str, labels: tuple[Label, ...], trial: Any = trial) -> Label:
            if len(labels) > 2 and all(isinstance(label, (int, float)) for label in labels):
                return labels[trial.suggest_int(path, 0, len(labels) - 1)]
            chosen: Label = trial.suggest_categorical(path, labels)
            return chosen

        _, spec = space.draw(answer)
        spent += time.process_time() - start
        values = score(spec)
        start = time.process_time()
        study.tell(trial, values)
        spent += time.process_time() - start
    return spent


def pymoo_nsga2(space: Space, objectives: int, error: float, score: Score, budget: int, seed: int) -> float:
    """pymoo's NSGA-II with its operators for whole numbers, a population of 50."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    columns = {gene.path: i for i, gene in enumerate(space.genes)}
    scoring = 0.0

    class Whole(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            most = np.array([len(gene.labels) - 1 for gene in space.genes])
            super().__init__(n_var=len(most), n_obj=objectives, xl=np.zeros_like(most), xu=most, vtype=int)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            nonlocal scoring
            _, spec = space.draw(lambda path, labels: labels[int(x[columns[path]])])
            start = time.process_time()
            out["F"] = score(spec)
            scoring += time.process_time() - start

    start = time.process_time()
    minimize(
        Whole(),
        NSGA2(
            pop_size=50,
            sampling=IntegerRandomSampling(),
            crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        ),
        ("n_eval", budget),
        seed=seed,
    )
    return time.process_time() - start - scoring


CONTENDERS: Mapping[str, Contender] = {
    "auto": ours("auto"),
    "nsga2": ours("nsga2"),
    "random": ours("random"),
    "Optuna TPE": optuna_tpe,
    "pymoo NSGA-II": pymoo_nsga2,
}
