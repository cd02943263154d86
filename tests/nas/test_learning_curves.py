"""Learning curves: predictions of whole trainings, and how far their errors can be believed."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest

from evaluators.scoring.scratch import FromScratch
from evaluators.training.recipe import Recipe
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from foundation.statistics import kendall_tau
from nas.schedulers.base import Ladder, looks_of, schedulers
from nas.schedulers.curves import LearningCurves
from nas.strategies.surrogate.encoding import Encoding
from nas.strategies.surrogate.outcomes import Outcomes
from nas.study.trial import CANDIDATE, Fidelity, Trial, TrialState, Value
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.genotype import Genotype
from search_spaces.network.decoder import Decoder, Layer
from tests.evaluators.tiny import task
from tests.nas.toys import toy_space

FULL = 900
LOOKS = (25, 50, 100, 150, 300, 450, 900)
LAW = (2.0, 0.4)
"""Mean end and mean slope of the curves that are made here."""


def made(
    candidates: int, seed: int, *, noise: float = 0.01, power: float = 0.5
) -> dict[int, dict[int, float]]:
    """Curves of a power law, whose ends and slopes differ, by candidate and step."""
    dice = np.random.default_rng(seed)
    ends, slopes = (
        LAW[0] + 0.3 * dice.standard_normal(candidates),
        LAW[1] * dice.uniform(0.5, 1.5, candidates),
    )
    curves = {}
    for candidate, (end, slope) in enumerate(zip(ends, slopes, strict=True)):
        off = noise * dice.standard_normal(len(LOOKS))
        law = [end + slope * ((FULL / s) ** power - 1) for s in LOOKS]
        curves[candidate] = dict(zip(LOOKS, (law + off).tolist(), strict=True))
    return curves


def seen(curves: dict[int, dict[int, float]], steps: int, whole: int = 0) -> LearningCurves:
    """As far as so many steps; the first `whole` of them to the end."""
    found = LearningCurves(FULL)
    for candidate, scores in curves.items():
        most = FULL if candidate < whole else steps
        found.add(candidate, {s: score for s, score in scores.items() if s <= most})
    return found


def test_what_was_measured_at_the_end_is_not_predicted() -> None:
    curves = made(4, 0)
    assert seen(curves, 100, whole=2).final(1) == (curves[1][FULL], 0.0)


@pytest.mark.parametrize("steps", [100, 300])
def test_the_order_of_the_ends_is_predicted_better_than_by_the_scores_so_far(steps: int) -> None:
    better, plain = [], []
    for seed in range(8):
        curves = made(27, seed)
        ends = [scores[FULL] for scores in curves.values()]
        found = seen(curves, steps)
        better.append(kendall_tau([found.final(c)[0] for c in curves], ends))
        plain.append(kendall_tau([scores[steps] for scores in curves.values()], ends))
    assert np.mean(better) > np.mean(plain) + 0.05


@pytest.mark.parametrize(("steps", "whole"), [(50, 0), (100, 3), (300, 3)])
@pytest.mark.parametrize("power", [0.5, 0.35])
def test_the_stated_intervals_hold_the_truth_about_as_often_as_they_say(
    steps: int, whole: int, power: float
) -> None:
    z = []
    for seed in range(12):
        curves = made(27, seed, noise=0.03, power=power)
        found = seen(curves, steps, whole)
        for candidate in range(whole, 27):
            mean, error = found.final(candidate)
            z.append((curves[candidate][FULL] - mean) / error)
    within = float(np.mean(np.abs(z) < 1.96))
    assert within > (0.85 if power == 0.5 else 0.6)


def test_with_a_single_look_nothing_is_pretended() -> None:
    curves = made(12, 0)
    found = LearningCurves(FULL)
    for candidate, scores in curves.items():
        found.add(candidate, {100: scores[100]})
    means, errors = np.array([found.final(c) for c in curves]).T
    truth = np.array([scores[FULL] for scores in curves.values()])
    assert kendall_tau(means, [scores[100] for scores in curves.values()]) == 1
    assert (np.abs(means - truth) < 3 * errors).all()
    assert errors.min() > 0.3


@pytest.mark.parametrize("scores", [[1.0], [1.0, 1.0, 1.0], [1e9, 1.0], [-2.0, -2.0]])
def test_odd_curves_give_finite_numbers(scores: list[float]) -> None:
    found = LearningCurves(FULL)
    for candidate, score in enumerate(scores):
        found.add(candidate, {100: score, 50: score})
    for candidate in range(len(scores)):
        mean, error = found.final(candidate)
        assert math.isfinite(mean)
        assert 0 < error < math.inf


def trial(number: int, steps: int, value: Value, state: TrialState = TrialState.COMPLETE) -> Trial:
    memo = {CANDIDATE: 0} if number else {}
    fidelity = Fidelity(evaluator="scratch", steps=steps)
    return Trial(number=number, genotype=Genotype({"x": 1}), fidelity=fidelity, seed=0, state=state,
                 values={"loss": value}, memo=memo)  # fmt: skip


def test_a_strategy_hears_what_a_whole_training_would_score() -> None:
    scheduler = schedulers["halving"](
        Ladder((100, 300, FULL)), trials=9, point_of=lambda t: (t.values["loss"].value,), scores=["loss"]
    )
    first = trial(0, 100, Value(3.0, 0.1, "scratch", curve=((25, 4.0), (50, 3.4))))
    scheduler.tell(first)
    believed = scheduler.believed(first).values["loss"]
    assert believed.is_predicted
    assert believed.source == "predicted from 100 steps"
    assert believed.error is not None
    assert believed.value < 3.0
    again = scheduler.revised()
    assert [t.number for t in again] == [0]
    assert scheduler.revised() == ()
    last = trial(5, FULL, Value(2.2, 0.1, "scratch"))
    scheduler.tell(last)
    assert scheduler.believed(last) is last
    assert scheduler.revised() == ()


def test_a_curve_is_stored_and_damage_to_it_found() -> None:
    value = Value(3.0, 0.1, "scratch", curve=((25, 4.0), (50, 3.5)))
    assert Value.from_json(value.to_json()) == value
    for wrong in (3, [1], [[1, "x"]], [[1.5, 2.0]], [[1, math.nan]]):
        with pytest.raises(ValueError, match="a curve is of pairs of steps and a finite number"):
            Value.from_json({**value.to_json(), "curve": wrong})


def test_looks_are_before_each_rung_and_none_of_them() -> None:
    assert looks_of(Ladder((100, 300, 900))) == (25, 50, 75, 150, 225, 450)
    assert looks_of(Ladder((1, 2, 4))) == ()


def test_looks_change_no_weights_and_survive_a_stop(tmp_path: Path) -> None:
    spec = Decoder(vocab=256, d_model=8, layers=(Layer(sequence_mixer=ShortConv()),))
    data, recipe = task(tmp_path), Recipe(schedule=InverseSqrt(warm_up=2, constant=3))

    def scratch(folder: str, *looks: int) -> FromScratch:
        return FromScratch(data, str(tmp_path / folder), 4, recipe, horizon=12, looks=looks)

    plain = [scratch("plain").score(spec, steps, seed=1) for steps in (3, 6, 12)]
    looked = scratch("looked", 3, 6, 9)
    first, last = looked.score(spec, 6, seed=1), looked.score(spec, 12, seed=1)
    assert first.curve == ((3, plain[0].value),)
    assert last.samples == plain[-1].samples
    assert [steps for steps, _ in last.curve] == [3, 6, 9]
    assert last.curve[1] == (6, pytest.approx(plain[1].value))
    for file in (tmp_path / "looked").glob("*-looks.json"):
        file.write_text("{")
    assert looked.score(spec, 12, seed=1).curve == ()
    looked.forget(spec, 12, seed=1)
    assert not list((tmp_path / "looked").iterdir())


def test_auto_believes_the_newest_values_and_fits_by_those_first_told() -> None:
    space = toy_space()
    outcomes = Outcomes(Encoding(space), [("loss", False)])
    genotype = space.sample(Random(0))

    def outcome(number: int, value: float, error: float) -> Trial:
        fidelity = Fidelity(evaluator="scratch", steps=1)
        values = {"loss": Value(value, error)}
        return Trial(number=number, genotype=genotype, fidelity=fidelity, seed=0,
                     state=TrialState.COMPLETE, values=values)  # fmt: skip

    outcomes.tell(outcome(3, 2.0, 0.5))
    outcomes.refine(outcome(3, 1.5, 0.1))
    outcomes.refine(outcome(4, 9.0, 0.1))
    assert (outcomes.heard().values.tolist(), outcomes.heard().errors.tolist()) == ([[1.5]], [[0.1]])
    assert outcomes.first_learned().values.tolist() == [[2.0]]
    assert outcomes.heard().numbers.tolist() == [3]
