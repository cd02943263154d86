"""Every registered strategy keeps the contract; NSGA-II inherits conditional genes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from foundation.errors import SettingError, UnknownName
from nas.pareto import hypervolume
from nas.strategies.base import Proposal, Strategy, make_strategy, strategies
from nas.strategies.nsga2 import GENERATION, SILENT
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.space import Space
from tests.nas.toys import rich, small, toy_space

GOALS = [("small", False), ("rich", False)]
SPACE = toy_space()


def make(name: str, seed: int = 0, **settings: Any) -> Strategy:
    return make_strategy(name, SPACE, GOALS, seed=seed, settings=settings)


def outcome(number: int, proposal: Proposal) -> Trial:
    spec = SPACE.close(proposal.genotype)
    return Trial(
        number=number,
        genotype=proposal.genotype,
        fidelity=Fidelity(evaluator="toy"),
        seed=0,
        state=TrialState.COMPLETE,
        values={"small": Value(small(spec)), "rich": Value(rich(spec))},
        memo=proposal.memo,
    )


def play(strategy: Strategy, trials: int) -> list[Trial]:
    told = []
    for number in range(trials):
        told.append(outcome(number, strategy.ask(number)))
        strategy.tell(told[-1])
    return told


@pytest.mark.parametrize("name", list(strategies))
def test_proposals_are_allowed_and_the_same_again(name: str) -> None:
    first, second = (play(make(name, seed=3), 80) for _ in range(2))
    assert [t.genotype for t in first] == [t.genotype for t in second]
    assert all(SPACE.contains(SPACE.close(t.genotype)) for t in first)
    assert [t.genotype for t in play(make(name, seed=4), 80)] != [t.genotype for t in first]


@pytest.mark.parametrize("name", list(strategies))
def test_constraints_in_code_are_kept(name: str) -> None:
    space = Space(
        SPACE.root, constraints=[lambda spec: len(spec.stack) != 2, lambda spec: spec.shared < 2], name="few"
    )
    strategy = make_strategy(name, space, GOALS, seed=1, settings={})
    for number in range(80):
        proposal = strategy.ask(number)
        assert space.contains(space.close(proposal.genotype))
        assert proposal.spec in (None, space.close(proposal.genotype))
        strategy.tell(outcome(number, proposal))


@pytest.mark.parametrize("name", list(strategies))
def test_many_may_be_asked_before_one_is_told(name: str) -> None:
    strategy = make(name)
    for start in range(0, 96, 8):
        asked = [strategy.ask(number) for number in range(start, start + 8)]
        assert len({p.genotype for p in asked}) > 1
        for number, proposal in reversed([*enumerate(asked, start)]):
            strategy.tell(outcome(number, proposal))


@pytest.mark.parametrize("name", list(strategies))
@pytest.mark.parametrize("stopped", [1, 23, 24, 25, 61])
def test_a_resumed_strategy_asks_what_it_would_have_asked(name: str, stopped: int) -> None:
    whole = play(make(name), 80)
    resumed = make(name)
    for trial in whole[:stopped]:
        resumed.tell(trial)
    for number in range(stopped, 80):
        proposal = resumed.ask(number)
        assert proposal.genotype == whole[number].genotype
        assert dict(proposal.memo) == dict(whole[number].memo)
        resumed.tell(whole[number])


@pytest.mark.parametrize("name", list(strategies))
def test_chance_is_the_strategys_own(name: str) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state is what must not matter
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    play(make(name), 30)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_nsga2_inherits_every_conditional_gene() -> None:
    strategy = make("nsga2", population=10, mutation_prob=0.0)
    told = play(strategy, 100)
    genomes = [{**t.memo[SILENT], **t.genotype.genes} for t in told]
    assert {t.memo[GENERATION] for t in told} == set(range(10))
    assert all(set(genome) == {gene.path for gene in SPACE.genes} for genome in genomes)
    for number, trial in enumerate(told):
        if trial.memo[GENERATION] == 0:
            continue
        earlier = [
            g for g, t in zip(genomes, told, strict=True) if t.memo[GENERATION] < trial.memo[GENERATION]
        ]
        for path, answer in genomes[number].items():
            assert answer in {g[path] for g in earlier}, f"{path} was drawn afresh"


def test_nsga2_is_deaf_to_failures() -> None:
    strategy, other = make("nsga2"), make("nsga2")
    told = play(strategy, 30)
    for trial in told:
        other.tell(trial)
    broken = Trial(
        number=30,
        genotype=told[0].genotype,
        fidelity=told[0].fidelity,
        seed=0,
        state=TrialState.FAILED,
        memo=told[0].memo,
    )
    other.tell(broken)
    assert other.ask(31).genotype == strategy.ask(31).genotype


def test_nsga2_beats_random_search() -> None:
    def reached(name: str, seed: int) -> float:
        points = [(t.values["small"].value, t.values["rich"].value) for t in play(make(name, seed=seed), 150)]
        return hypervolume(points, np.array([20.0, 160.0]))

    ours, chance = (np.mean([reached(name, seed) for seed in range(6)]) for name in ("nsga2", "random"))
    assert ours > chance


@pytest.mark.parametrize(("name", "setting"), [("nsga2", "populaton"), ("random", "population")])
def test_a_wrong_setting_is_named(name: str, setting: str) -> None:
    with pytest.raises(UnknownName, match=setting):
        make(name, **{setting: 3})


@pytest.mark.parametrize(
    "settings",
    [
        {"population": 1},
        {"population": 2.5},
        {"population": "x"},
        {"crossover_prob": 2},
        {"mutation_prob": "x"},
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        make("nsga2", **settings)


def test_an_unknown_strategy_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'nsga2'"):
        make("nsga")
