"""What `auto` makes of scores on shared samples, and of costs that are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import pytest

from nas.objectives.base import CostModel, Objective
from nas.pareto import hypervolume
from nas.strategies.base import Proposal, Strategy, make_strategy
from nas.strategies.surrogate.encoding import Encoding
from nas.strategies.surrogate.outcomes import Outcomes
from nas.strategies.surrogate.pairing import paired
from nas.study.known_costs import KnownCosts
from nas.study.seed import Seed
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.choices import one_of
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.scenario import Scenario

WINDOWS = 32
GOALS = [("loss", False), ("bytes", False)]


@dataclass(frozen=True)
class Vector:
    """Numbers side by side."""

    x: Any


SPACE = Space(Vector((one_of(0, 1, 2, 3),) * 8), name="vector")


def cost(spec: Vector) -> float:
    """What counts are factors."""
    return 1e4 * math.exp(0.2 * sum(spec.x))


KNOWN = KnownCosts(
    objectives=(
        Objective(name="bytes", unit="B", about="bytes", cheap=lambda spec, model: Value(cost(spec))),
    ),
    cost_model=CostModel.of([Scenario()]),
)


def loss(spec: Vector) -> float:
    """Falls with what costs, in every place as much as it will."""
    return 3 - sum(0.02 * (1 + i % 3) * math.sqrt(x) for i, x in enumerate(spec.x))


def outcome(number: int, proposal: Proposal, *, samples: bool = True) -> Trial:
    spec = SPACE.close(proposal.genotype)
    hard = np.random.default_rng(1).standard_normal(WINDOWS)  # of each window, for all alike
    own = 0.02 * np.random.default_rng(number).standard_normal(WINDOWS)
    scores = loss(spec) + (hard - hard.mean()) + (own - own.mean())
    error = float(scores.std(ddof=1)) / math.sqrt(WINDOWS)
    values = {
        "loss": Value(float(scores.mean()), error, samples=tuple(scores.tolist()) if samples else ()),
        "bytes": Value(cost(spec), error=0.2 * cost(spec)),
    }
    return trial_of(number, proposal.genotype, values, proposal.memo)


def trial_of(number: int, genotype: Genotype, values: dict[str, Value], memo: Any = None) -> Trial:
    return Trial(
        number=number,
        genotype=genotype,
        fidelity=Fidelity(evaluator="toy"),
        seed=0,
        state=TrialState.COMPLETE,
        values=values,
        memo=memo or {},
    )


def make() -> Strategy:
    strategy = make_strategy("auto", SPACE, GOALS, seed=0, settings={})
    strategy.inform(KNOWN)
    return strategy


def share(trials: list[Trial]) -> float:
    """Of the volume below the worst corner, costs in logarithms."""
    points = [(trial.values["loss"].value, math.log(trial.values["bytes"].value)) for trial in trials]
    return hypervolume(points, np.array([3.0, math.log(1e4) + 4.9]))


def search(trials: int, **how: Any) -> list[Trial]:
    strategy, told = make(), list[Trial]()
    for number in range(trials):
        told.append(outcome(number, strategy.ask(number), **how))
        strategy.tell(told[-1])
    return told


def test_errors_are_of_what_tells_candidates_apart() -> None:
    chance = np.random.default_rng(0)
    hard, own = 3 * chance.standard_normal(400), chance.standard_normal((50, 400))
    scores = hard + 0.1 * own
    alone = scores.std(axis=1, ddof=1) / 20
    found = paired(alone, list(scores))
    np.testing.assert_allclose(found, 0.1 / 20, rtol=0.15)
    # what is more than the samples explain is something else, which stays
    np.testing.assert_allclose(paired(np.hypot(alone, 0.3), list(scores)), np.hypot(found, 0.3))
    # without samples, with others, or alone there is nothing to compare with
    some = [scores[0], scores[1], None, scores[2, :30], scores[3, :1]]
    mixed = paired(alone[:5], some)
    assert (mixed[:2] < 0.1 * alone[:2]).all()
    assert np.array_equal(mixed[2:], alone[2:5])
    assert len(paired(alone[:0], [])) == 0


def test_every_goal_has_samples_of_its_own() -> None:
    outcomes = Outcomes(Encoding(SPACE), GOALS)
    chance = np.random.default_rng(0)
    for number in range(20):
        scores = 5 * np.arange(WINDOWS) + chance.standard_normal((2, WINDOWS)) * [[0.1], [1.0]]
        errors = scores.std(axis=1, ddof=1) / math.sqrt(WINDOWS)
        each = zip(GOALS, scores, errors, strict=True)
        values = {n: Value(float(s.mean()), float(e), samples=tuple(s.tolist())) for (n, _), s, e in each}
        outcomes.tell(trial_of(number, SPACE.sample(Random(number)), values))
    heard = outcomes.heard()
    assert (heard.errors > 5).all()  # as told
    np.testing.assert_allclose(
        heard.reconciled().errors.mean(axis=0) * math.sqrt(WINDOWS), [0.1, 1.0], rtol=0.1
    )


def test_what_is_computed_is_heard_in_logarithms_and_without_errors() -> None:
    encoding = Encoding(SPACE)
    genotypes = [SPACE.sample(Random(i)) for i in range(4)]
    outcomes = Outcomes(encoding, [("loss", False), ("bytes", False), ("speed", True)])
    outcomes.inform(["bytes", "speed", "unasked"])

    def tell(number: int, size: float) -> None:
        values = {"loss": Value(2.0, 0.1), "bytes": Value(size, 5.0), "speed": Value(100.0, 1.0)}
        outcomes.tell(trial_of(number, genotypes[number], values))

    assert outcomes.heard().values.shape == (0, 3)
    tell(0, 10.0)
    tell(1, 1000.0)
    heard = outcomes.heard()
    logarithms = [[2.0, math.log(size), -math.log(100)] for size in (10, 1000)]
    np.testing.assert_allclose(heard.values, logarithms)
    np.testing.assert_allclose(heard.errors, [[0.1, 0, 0]] * 2)
    tell(2, 0.0)  # what may be nothing has no factors
    np.testing.assert_allclose(outcomes.heard().values[:, 1], [10, 1000, 0])
    np.testing.assert_allclose(outcomes.heard().values[:, 2], -math.log(100))


def test_values_of_other_studies_are_on_the_same_scales() -> None:
    outcomes = Outcomes(Encoding(SPACE), GOALS)
    genotypes = list(dict.fromkeys(SPACE.sample(Random(i)) for i in range(9)))
    outcomes.learn_from([Seed(genotypes[0], "x", values={"loss": Value(2.0), "bytes": Value(0.0)})])
    outcomes.inform(["bytes"])
    outcomes.tell(trial_of(0, genotypes[1], {"loss": Value(2.0), "bytes": Value(50.0)}))
    assert outcomes.learned().values[:, 1].tolist() == [0.0, 50.0]
    assert outcomes.heard().values[:, 1].tolist() == [50.0]


@pytest.mark.parametrize("late", [None, 30], ids=["costs are positive", "a zero comes late"])
def test_a_stopped_search_asks_what_it_would_have_asked(late: int | None) -> None:
    running, told = make(), list[Trial]()
    for number in range(36):
        trial = outcome(number, running.ask(number))
        if number == late:
            trial = replace(trial, values={**trial.values, "bytes": Value(0.0)})
        told.append(trial)
        running.tell(trial)
    resumed = make()
    for trial in told:
        values = {name: Value.from_json(value.to_json()) for name, value in trial.values.items()}
        resumed.tell(replace(trial, values=values))
    expected, again = running.ask(36), resumed.ask(36)
    assert (again.genotype, again.memo) == (expected.genotype, expected.memo)


def test_what_windows_have_in_common_hides_nothing() -> None:
    with_samples, without = (search(60, samples=samples) for samples in (True, False))
    assert share(with_samples) > 1.02 * share(without)
