"""MnasNet: the paper's reward, and a policy that finds the optimum of a small known space."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.search.known_optimum import GOALS, SPACE, TARGET, best_reward, outcome, trials_to_optimum
from foundation.errors import SettingError, UnknownName
from nas.strategies.base import make_strategy
from nas.strategies.mnasnet import LOG_PROBABILITY, MnasNet
from nas.study.trial import Trial, TrialState
from search_spaces.language.space import Space


def make(seed: int = 0, **settings: Any) -> MnasNet:
    strategy = make_strategy("mnasnet", SPACE, GOALS, seed=seed, settings={"target": TARGET, **settings})
    assert isinstance(strategy, MnasNet)
    return strategy


def play(strategy: MnasNet, trials: int) -> list[Trial]:
    told = []
    for number in range(trials):
        told.append(outcome(number, strategy.ask(number)))
        strategy.tell(told[-1])
    return told


def test_the_reward_is_that_of_the_paper() -> None:
    # at twice the target 2 ** -0.07 is 0.9526: the 5 % of quality that twice the latency is worth
    soft, hard = make(target=10.0), make(target=10.0, form="hard")
    assert soft.reward(0.0, 20.0) == pytest.approx(2**-0.07)
    assert soft.reward(0.0, 5.0) == pytest.approx(2**0.07)
    assert hard.reward(0.0, 5.0) == 1.0
    assert hard.reward(0.0, 20.0) == 0.5
    assert soft.reward(1.0, 10.0) == 0.5
    own = make(target=10.0, alpha=-0.5, beta=-2.0)
    assert own.reward(0.0, 2.5) == pytest.approx(2.0)
    assert own.reward(0.0, 20.0) == pytest.approx(0.25)
    maximised = MnasNet(SPACE, [("error", True), ("size", False)], seed=0)
    maximised._target = 10.0
    assert maximised.reward(0.75, 10.0) == 0.75


@pytest.mark.parametrize(("algorithm", "within"), [("ppo", 350), ("reinforce", 500)])
def test_the_optimum_of_a_small_known_space_is_found(algorithm: str, within: int) -> None:
    tries = [trials_to_optimum("mnasnet", seed, within, algorithm=algorithm) for seed in range(3)]
    assert None not in tries, tries


def test_the_policy_learns_what_is_rewarded() -> None:
    strategy = make(seed=1)
    rewards = [strategy.reward(*(v.value for v in t.values.values())) for t in play(strategy, 320)]
    assert np.mean(rewards[-64:]) > np.mean(rewards[:64]) + 0.3 * (
        best_reward(strategy) - np.mean(rewards[:64])
    )


def test_the_probability_in_the_memo_is_that_of_the_answers() -> None:
    strategy = make()
    everything = [strategy._answers(genotype) for genotype in SPACE.enumerate()]
    for _ in range(2):
        with torch.no_grad():
            logs, _ = strategy._policy(everything)
        assert float(logs.exp().sum()) == pytest.approx(1.0)
        play(strategy, 48)
    proposal = strategy.ask(48)
    assert proposal.memo == strategy._memo(proposal.genotype)
    assert proposal.memo[LOG_PROBABILITY] < 0


def test_proposals_do_not_depend_on_the_order_in_which_workers_finish() -> None:
    first, second = make(), make()
    asked = [first.ask(number) for number in range(40)]
    trials = [outcome(number, proposal) for number, proposal in enumerate(asked)]
    for trial in trials:
        first.tell(trial)
    for trial in reversed(trials):
        second.tell(trial)
    assert first.ask(40) == second.ask(40)


def test_what_failed_has_no_reward_and_what_never_comes_is_not_awaited_for_ever() -> None:
    strategy = make(batch=4)
    trials = [outcome(number, strategy.ask(number)) for number in range(40)]
    strategy.tell(replace(trials[0], state=TrialState.FAILED, values={}, reason="no"))
    for trial in trials[2:]:  # number 1 is lost
        strategy.tell(trial)
    assert strategy._learned == 10


def test_constraints_and_moves_keep_probabilities_true() -> None:
    few = Space(SPACE.root, constraints=[lambda spec: spec.layers[0] != spec.layers[1]], name="few")
    strategy = MnasNet(few, GOALS, seed=0)
    proposal = strategy.ask(0)
    other = few.sample(Random(1))
    moved = strategy.moved(proposal, other, few.close(other))
    assert moved.memo == strategy._memo(other)
    assert moved.genotype == other


@pytest.mark.parametrize(
    ("goals", "settings", "word"),
    [
        ([("error", False)], {}, "two objectives"),
        (GOALS, {"quality": "eror"}, "quality is one of"),
        (GOALS, {"quality": "error", "cost": "error"}, "two objectives"),
        ([("error", False), ("size", True)], {}, "no cost"),
        (GOALS, {"target": 0}, "target"),
        (GOALS, {"beta": 0.5}, "beta"),
        (GOALS, {"algorithm": "a2c"}, "algorithm"),
    ],
)
def test_senseless_settings_are_refused(goals: Any, settings: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingError, match=word):
        make_strategy("mnasnet", SPACE, goals, seed=0, settings=settings)


def test_negative_numbers_have_no_reward() -> None:
    with pytest.raises(SettingError, match="must not be negative"):
        make().reward(-1.5, 10.0)
    with pytest.raises(UnknownName):
        make(lerning_rate=1)
