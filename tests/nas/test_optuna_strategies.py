"""Samplers of Optuna as strategies: by name, with their own arguments, and what they hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

import nas
from foundation.errors import NasError, SettingError, UnknownName
from nas.pareto import hypervolume
from nas.strategies.base import Proposal, Strategy, make_strategy, strategies
from nas.strategies.optuna_sampler import NOTES, OptunaStrategy
from nas.study.trial import Trial, TrialState, Value
from tests.nas.test_strategy_contracts import GOALS, SPACE, Bounded, outcome, play
from tests.nas.toys import rich, small, toy_space

State = optuna.trial.TrialState


def make(name: str, goals: Any = GOALS, **settings: Any) -> OptunaStrategy:
    strategy = make_strategy(name, SPACE, goals, seed=0, settings=settings)
    assert isinstance(strategy, OptunaStrategy)
    return strategy


def resumed(strategy: Strategy, done: Sequence[Trial], running: Sequence[Trial]) -> Strategy:
    for trial in done:
        strategy.tell(trial)
    for trial in running:
        strategy.take_up(replace(trial, state=TrialState.RUNNING, values={}))
    return strategy


def heard(strategy: OptunaStrategy) -> list[optuna.trial.FrozenTrial]:
    return strategy._study.get_trials(deepcopy=False)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("optuna:TPESample", {}, "unknown sampler of Optuna 'TPESample'; did you mean 'TPESampler'"),
        ("optuna:tpesampler", {}, "did you mean 'TPESampler'"),
        ("optuna:BaseSampler", {}, "unknown sampler"),
        ("optuna:", {}, "known: BruteForceSampler"),
        ("optuna:GridSampler", {}, "needs search_space, which no setting can say"),
        ("optuna:CmaEsSampler", {}, "multi-objective optimization, CmaEsSampler cannot be used"),
        ("optuna:TPESampler", {"n_startup": 3}, "did you mean 'n_startup_trials'"),
        ("optuna:TPESampler", {"n_startup_trials": "x"}, "n_startup_trials must be a whole number, got 'x'"),
        ("optuna:TPESampler", {"n_startup_trials": -8}, "n_startup_trials must be at least 0, got -8"),
        ("optuna:TPESampler", {"seed": 3}, "has no setting 'seed'"),
        ("optuna:TPESampler", {"gamma": 3}, "has no setting 'gamma'"),
        ("optuna:TPESampler", {"n_ei_candidates": 0}, "with n_ei_candidates=0"),
        ("optuna:TPESampler", {"n_ei_candidates": 0, "n_startup_trials": 60}, "with n_startup_trials=60, n_"),
        ("optuna:TPESampler", {"n_ei_candidates": 10**9}, "n_ei_candidates must be at most 100000"),
        ("optuna:NSGAIIISampler", {"dividing_parameter": 0}, "with dividing_parameter=0"),
        ("optuna:NSGAIISampler", {"population_size": 1}, "`population_size` must be greater than"),
        ("optuna:QMCSampler", {"qmc_type": "faure"}, "Choose either `halton` or `sobol`"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError) as error:
        make(name, **settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_arguments_are_those_of_the_sampler() -> None:
    strategy = make("optuna:QMCSampler", qmc_type="halton", scramble="true")
    sampler = strategy.sampler(3)
    assert (sampler._qmc_type, sampler._scramble) == ("halton", True)  # type: ignore[attr-defined]
    tpe = strategies["optuna:TPESampler"].settings_kind
    assert tpe.from_text({"multivariate": "true"}).to_plain()["multivariate"] is True
    assert tpe().to_plain()["constant_liar"] is True


def test_only_what_is_asked_is_a_parameter() -> None:
    strategy = make("optuna:TPESampler")
    told = play(strategy, 30)
    kept = [trial for trial in heard(strategy) if trial.state is State.COMPLETE]
    assert [set(trial.params) for trial in kept] == [set(trial.genotype.genes) for trial in told]
    sizes = {type(kept[0].distributions["stack"]), *(type(t.distributions["stack.0"]) for t in kept)}
    assert sizes == {optuna.distributions.IntDistribution, optuna.distributions.CategoricalDistribution}


def test_outcomes_are_told_as_what_they_are() -> None:
    strategy = make("optuna:TPESampler")
    strategy.inform(Bounded())
    states = (TrialState.COMPLETE, TrialState.FAILED, TrialState.INFEASIBLE, TrialState.ILLEGAL)
    for number, state in enumerate(states):
        trial = outcome(number, strategy.ask(number))
        values = {"small": Value(25.0)} if state is TrialState.INFEASIBLE else trial.values
        strategy.tell(replace(trial, state=state, values=values, reason="as it is"))
    strategy.ask(4)
    told = heard(strategy)
    assert [trial.state for trial in told] == [
        State.COMPLETE,
        State.FAIL,
        State.PRUNED,
        State.FAIL,
        State.RUNNING,
    ]
    assert told[0].constraints == {"0": 0.0}
    assert told[2].constraints == {"0": 1.5}  # a bound of 10, relatively
    resumed_one = make("optuna:TPESampler")
    resumed_one.inform(Bounded())
    resumed_one.tell(replace(outcome(0, strategy.ask(5)), values={"small": Value(3.0), "rich": Value(1.0)}))
    resumed_one.ask(1)
    assert heard(resumed_one)[0].constraints == {"0": 0.0}


def test_what_is_maximised_is_maximised() -> None:
    strategy = make("optuna:TPESampler", [("small", True), ("rich", False)])
    assert [direction.name for direction in strategy._study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(
    ("name", "settings", "workers"),
    [
        ("optuna:TPESampler", {}, 4),
        ("optuna:TPESampler", {"multivariate": True, "group": True}, 4),
        ("optuna:QMCSampler", {}, 4),
        ("optuna:RandomSampler", {}, 4),
        ("optuna:BruteForceSampler", {}, 4),
        ("optuna:NSGAIISampler", {"population_size": 10}, 1),
        ("gp", {"n_startup_trials": 38}, 2),
    ],
)
def test_a_stopped_search_asks_what_it_would_have_asked(
    name: str, settings: dict[str, Any], workers: int
) -> None:
    whole = make(name, **settings)
    told = play(whole, 40, workers=workers)
    end = len(told) - workers + 1
    again = resumed(make(name, **settings), told[:end], told[end:])
    for number in (40, 41) if name != "gp" else (40,):
        first, second = whole.ask(number), again.ask(number)
        assert (first.genotype, dict(first.memo)) == (second.genotype, dict(second.memo))
    assert first.genotype not in {trial.genotype for trial in told}


def test_what_ends_before_the_first_proposal_is_heard_once() -> None:
    whole, again = make("optuna:TPESampler"), make("optuna:TPESampler")
    told = play(whole, 20)
    resumed(again, told[:-1], told[-1:])
    again.tell(told[-1])  # it was being scored when the search stopped, and is scored before anything else
    assert again.ask(20).genotype == whole.ask(20).genotype
    assert [trial.state for trial in heard(again)[:20]] == [State.COMPLETE] * 20


def test_a_given_candidate_that_is_moved_is_none_of_the_samplers() -> None:
    strategy = make("optuna:TPESampler")
    given, goal = play(make("motpe"), 2)
    moved = strategy.moved(Proposal(given.genotype), goal.genotype, SPACE.close(goal.genotype))
    strategy.tell(outcome(0, moved))
    strategy.ask(1)
    assert heard(strategy)[0].state is State.COMPLETE


def test_those_that_go_on_otherwise_say_so() -> None:
    def remark(name: str) -> str:
        kind = strategies[name]
        return kind.remark(kind.settings_kind(), 100)

    assert "may go on otherwise after a stop" in remark("optuna:NSGAIIISampler")
    assert not remark("optuna:TPESampler")
    assert not remark("motpe")


def test_no_proposal_is_repeated_and_the_sampler_hears_what_was_proposed_instead() -> None:
    strategy = make("optuna:NSGAIISampler", population_size=4, mutation_prob=0.0)
    told = play(strategy, 60)
    assert len({trial.digest for trial in told}) == 60
    trials = heard(strategy)
    assert sum(trial.state is State.FAIL for trial in trials) > 5  # what it had suggested again
    assert sum(trial.state is State.COMPLETE for trial in trials) == 60


def test_a_proposal_that_was_moved_is_heard_at_its_new_place() -> None:
    strategy = make("optuna:TPESampler")
    proposal, goal = strategy.ask(0), SPACE.genotype_of(SPACE.close(play(make("motpe"), 5)[-1].genotype))
    moved = strategy.moved(proposal, goal, SPACE.close(goal))
    strategy.tell(outcome(0, moved))
    complete = [trial for trial in heard(strategy) if trial.state is State.COMPLETE]
    assert [set(trial.params) for trial in complete] == [set(goal.genes)]


@pytest.mark.parametrize("notes", [3, {"trial": 3}, {"trial": {"cma:optimizer": "80049500"}, "study": [1]}])
def test_of_a_stored_memo_nothing_is_believed_but_numbers(notes: Any) -> None:
    strategy = make("optuna:TPESampler")
    strategy.tell(replace(outcome(0, make("optuna:TPESampler").ask(0)), memo={NOTES: notes}))
    strategy.ask(1)
    assert not heard(strategy)[0].system_attrs


def test_tpe_finds_more_than_chance() -> None:
    def reached(name: str, seed: int) -> float:
        strategy = make_strategy(name, SPACE, GOALS, seed=seed, settings={})
        told = play(strategy, 50)
        points = [(trial.values["small"].value, trial.values["rich"].value) for trial in told]
        return hypervolume(points, np.array([20.0, 160.0]))

    ours, chance = (np.mean([reached(each, seed) for seed in range(2)]) for each in ("motpe", "random"))
    assert ours > chance


def test_a_search_by_name_is_continued(tmp_path: Any) -> None:
    def search(trials: int, name: str = "s") -> list[Trial]:
        study = nas.search(
            toy_space(),
            name=name,
            objectives=[small, rich],
            strategy="optuna:TPESampler",
            settings={"n_startup_trials": 5},
            trials=trials,
            finalists=0,
            store=tmp_path / "s.db",
            progress=False,
        )
        return study.trials()

    whole = search(14, "whole")
    search(9)
    assert [trial.genotype for trial in search(14)] == [trial.genotype for trial in whole]
    with pytest.raises(UnknownName, match="did you mean 'TPESampler'"):
        nas.search(
            toy_space(), name="t", objectives=[small], strategy="optuna:TPESamplr", store=tmp_path / "s.db"
        )
    with pytest.raises(NasError, match="multi-objective"):
        nas.search(
            toy_space(),
            name="u",
            objectives=[small, rich],
            strategy="optuna:CmaEsSampler",
            finalists=0,
            store=tmp_path / "s.db",
        )
