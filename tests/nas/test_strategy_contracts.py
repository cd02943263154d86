"""Promises that every registered strategy keeps, on spaces of different make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.pareto import hypervolume
from nas.strategies.base import Proposal, Strategy, make_strategy, strategies
from nas.strategies.local import CLIMB
from nas.study.constraints import Constraint
from nas.study.known_costs import KnownCosts
from nas.study.trial import PARENTS, Fidelity, Trial, TrialState, Value
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from tests.nas.toys import Deep, Toy, Wide, rich, small, toy_space

GOALS = [("small", False), ("rich", False)]
SPACE = toy_space()
SMALL = Space(Toy((one_of(Wide(one_of(1, 2), one_of(0, 1)), Deep(one_of(1, 2, 3))),) * 2), name="few")
ONE_GENE = Space(Toy((Wide(one_of(1, 2, 3, 4)),)), name="one gene")
MANY_GENES = Space(Toy(repeat(Wide(one_of(1, 2, 3, 4), one_of(0, 1)), (100, 150))), name="many genes")

REPEATS = {"random", "mnasnet"}
"""Independent draws, and draws of a policy, which are the more alike the more it has learned."""

NAMES = list(strategies)

LATE = {"gp": {"n_startup_trials": 46}, "motpe": {"n_startup_trials": 30}}
"""Models that cost seconds, or a tenth of one; test_optuna_strategies.py asks the former."""


class Bounded(KnownCosts):
    """A constraint that can be computed: `small` below 10."""

    def __init__(self) -> None:
        super().__init__(constraints=(Constraint("small", "<", 10.0),))

    def violation(self, spec: Any) -> str | None:
        return self.broken({"small": Value(small(spec))})


def make(name: str, space: Space = SPACE, seed: int = 0) -> Strategy:
    return make_strategy(name, space, GOALS, seed=seed, settings=LATE.get(name, {}))


def outcome(number: int, proposal: Proposal, space: Space = SPACE) -> Trial:
    spec = space.close(proposal.genotype)
    return Trial(
        number=number,
        genotype=proposal.genotype,
        fidelity=Fidelity(evaluator="toy"),
        seed=0,
        state=TrialState.COMPLETE,
        values={"small": Value(small(spec)), "rich": Value(rich(spec))},
        memo=proposal.memo,
    )


def play(strategy: Strategy, trials: int, space: Space = SPACE, workers: int = 1) -> list[Trial]:
    """Trials of a search in which so many candidates are scored at once, and end in a fixed disorder."""
    told: list[Trial] = []
    running: list[Trial] = []
    for number in range(trials):
        running.append(outcome(number, strategy.ask(number), space))
        if len(running) == workers:
            told.append(running.pop(number % workers))
            strategy.tell(told[-1])
    return told + running


def resumed(
    name: str, told: Sequence[Trial], running: Sequence[Trial] = (), space: Space = SPACE
) -> Strategy:
    strategy = make(name, space)
    for trial in told:
        strategy.tell(trial)
    for trial in running:
        strategy.take_up(replace(trial, state=TrialState.RUNNING, values={}))
    return strategy


@pytest.mark.parametrize("name", sorted(set(NAMES) - REPEATS))
def test_nothing_is_proposed_twice_while_there_is_another(name: str) -> None:
    told = play(make(name, SMALL), SMALL.size(), SMALL, workers=3)
    assert len({trial.digest for trial in told}) == SMALL.size() == 49
    strategy = resumed(name, told, space=SMALL)
    assert SMALL.contains(SMALL.close(strategy.ask(SMALL.size()).genotype))  # it goes on when asked


@pytest.mark.parametrize("name", NAMES)
def test_a_search_with_workers_that_stopped_asks_what_it_would_have_asked(name: str) -> None:
    whole = make(name)
    told = play(whole, 40, workers=4)
    done, running = told[:-3], told[-3:]
    again = resumed(name, done, sorted(running, key=lambda trial: trial.number))
    for number in range(40, 44):
        first, second = whole.ask(number), again.ask(number)
        assert (first.genotype, dict(first.memo)) == (second.genotype, dict(second.memo))
    for trial in running:
        whole.tell(trial)
        again.tell(trial)
    assert whole.ask(44).genotype == again.ask(44).genotype


@pytest.mark.parametrize("name", NAMES)
def test_failures_and_broken_constraints_are_outcomes(name: str) -> None:
    strategy = make(name)
    states = (TrialState.FAILED, TrialState.INFEASIBLE, TrialState.ILLEGAL)
    proposed = []
    for number in range(45):
        trial = outcome(number, strategy.ask(number))
        state = states[number % 3] if number < 30 else TrialState.COMPLETE
        if state is not TrialState.COMPLETE:
            trial = replace(trial, state=state, values={}, reason="no good")
        proposed.append(trial)
        strategy.tell(trial)
    assert len({trial.digest for trial in proposed}) > 30
    again = resumed(name, proposed)
    assert strategy.ask(45).genotype == again.ask(45).genotype


@pytest.mark.parametrize("name", NAMES)
def test_a_space_of_one_gene_is_searched(name: str) -> None:
    told = play(make(name, ONE_GENE), 4 if name not in REPEATS else 20, ONE_GENE)
    assert {trial.genotype.genes["stack.0.size"] for trial in told} == {1, 2, 3, 4}


@pytest.mark.parametrize("name", NAMES)
def test_a_space_of_one_architecture_is_answered(name: str) -> None:
    space = Space(Toy((Wide(one_of(1)),)), name="one")
    assert len({trial.digest for trial in play(make(name, space), 3, space)}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_hundreds_of_genes_are_searched(name: str) -> None:
    trials = 24 if name in LATE else 36
    told = play(make(name, MANY_GENES), trials, MANY_GENES)
    assert len({trial.digest for trial in told}) == trials
    assert all(MANY_GENES.contains(MANY_GENES.close(trial.genotype)) for trial in told[-3:])


@pytest.mark.parametrize("name", NAMES)
def test_parents_are_earlier_trials(name: str) -> None:
    for trial in play(make(name), 45, workers=3):
        assert all(parent < trial.number for parent in trial.memo[PARENTS])


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "aging", "local"])
def test_constraints_that_can_be_computed_are_kept(name: str) -> None:
    strategy = make(name)
    strategy.inform(Bounded())
    broken = [small(SPACE.close(trial.genotype)) >= 10 for trial in play(strategy, 120)]
    assert not any(broken[40:])


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "aging", "local"])
def test_it_finds_more_than_chance(name: str) -> None:
    def reached(name: str, seed: int) -> float:
        told = play(make(name, seed=seed), 200)
        points = [(trial.values["small"].value, trial.values["rich"].value) for trial in told]
        return hypervolume(points, np.array([20.0, 160.0]))

    ours, chance = (np.mean([reached(each, seed) for seed in range(5)]) for each in (name, "random"))
    assert ours > chance


def test_the_old_die() -> None:
    strategy = make_strategy("aging", SPACE, GOALS, seed=0, settings={"population": 5, "tournament": 2})
    for trial in play(strategy, 60)[6:]:
        (parent,) = trial.memo[PARENTS]
        assert trial.number - 6 < parent < trial.number


def test_a_climb_tries_every_neighbour_of_its_front_and_the_next_begins_elsewhere() -> None:
    space = Space(Toy(tuple(Wide(one_of(*range(5)), one_of(*range(5))) for _ in range(2))), name="grid")
    strategy = make_strategy("local", space, GOALS[:1], seed=1, settings={"start": 2})
    told = play(strategy, 120, space)
    assert min(trial.values["small"].value for trial in told) == 2  # the only optimum
    assert {trial.memo[CLIMB] for trial in told} >= {0, 1}
    begun = [trial for trial in told if not trial.memo[PARENTS]]
    assert all(sum(trial.memo[CLIMB] == climb for trial in begun) == 2 for climb in (0, 1))
    for trial in told:
        for number in trial.memo[PARENTS]:
            genes, parents = trial.genotype.genes, told[number].genotype.genes
            assert sum(genes[path] != parents[path] for path in genes) == 1
    best = next(trial for trial in told if trial.values["small"].value == 2)
    assert sum(best.number in trial.memo[PARENTS] for trial in told) > 8
