"""Every registered strategy keeps the contract; NSGA-II inherits conditional genes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from foundation.errors import SettingError, UnknownName
from nas.pareto import hypervolume
from nas.strategies.base import Proposal, Strategy, make_strategy
from nas.strategies.genetic import GENERATION, SILENT
from nas.strategies.nsga2 import crowding_distances
from nas.study.constraints import Constraint
from nas.study.known_costs import KnownCosts
from nas.study.trial import PARENTS, Fidelity, Trial, TrialState, Value
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from tests.nas.every_strategy import QUICK
from tests.nas.toys import Deep, Toy, Wide, rich, small, toy_space

GOALS = [("small", False), ("rich", False)]
SPACE = toy_space()


def make(name: str, seed: int = 0, **settings: Any) -> Strategy:
    return make_strategy(name, SPACE, GOALS, seed=seed, settings=settings)


def trial_of(number: int, proposal: Proposal, values: dict[str, float]) -> Trial:
    return Trial(
        number=number,
        genotype=proposal.genotype,
        fidelity=Fidelity(evaluator="toy"),
        seed=0,
        state=TrialState.COMPLETE,
        values={name: Value(value) for name, value in values.items()},
        memo=proposal.memo,
    )


def outcome(number: int, proposal: Proposal, space: Space = SPACE) -> Trial:
    spec = space.close(proposal.genotype)
    return trial_of(number, proposal, {"small": small(spec), "rich": rich(spec)})


class OnlySmall(KnownCosts):
    """A constraint on what `small` computes."""

    def __init__(self) -> None:
        super().__init__(constraints=(Constraint("small", "<", 8.0),))

    def violation(self, spec: Any) -> str | None:
        return self.broken({"small": Value(small(spec))})


def play(strategy: Strategy, trials: int) -> list[Trial]:
    told = []
    for number in range(trials):
        told.append(outcome(number, strategy.ask(number)))
        strategy.tell(told[-1])
    return told


@pytest.mark.parametrize("name", QUICK)
def test_proposals_are_allowed_and_the_same_again(name: str) -> None:
    first, second = (play(make(name, seed=3), 80) for _ in range(2))
    assert [t.genotype for t in first] == [t.genotype for t in second]
    assert all(SPACE.contains(SPACE.close(t.genotype)) for t in first)
    assert [t.genotype for t in play(make(name, seed=4), 80)] != [t.genotype for t in first]


@pytest.mark.parametrize("name", QUICK)
def test_constraints_in_code_are_kept(name: str) -> None:
    space = Space(
        SPACE.root, constraints=[lambda spec: len(spec.stack) != 2, lambda spec: spec.shared < 2], name="few"
    )
    strategy = make_strategy(name, space, GOALS, seed=1, settings={})
    for number in range(80):
        proposal = strategy.ask(number)
        assert space.contains(space.close(proposal.genotype))
        assert proposal.spec in (None, space.close(proposal.genotype))
        strategy.tell(outcome(number, proposal, space))


@pytest.mark.parametrize("name", QUICK)
def test_many_may_be_asked_before_one_is_told(name: str) -> None:
    strategy = make(name)
    for start in range(0, 96, 8):
        asked = [strategy.ask(number) for number in range(start, start + 8)]
        assert len({p.genotype for p in asked}) > 1
        for number, proposal in reversed([*enumerate(asked, start)]):
            strategy.tell(outcome(number, proposal))


@pytest.mark.parametrize("name", QUICK)
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


@pytest.mark.parametrize("name", QUICK)
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


def test_nsga2_proposes_nothing_twice_while_there_is_another() -> None:
    space = Space(Toy((one_of(Wide(one_of(1, 2, 3, 4), one_of(0, 1)), Deep(one_of(1, 2, 3))),) * 2))
    strategy = make_strategy("nsga2", space, GOALS, seed=0, settings={"population": 10})
    told = [strategy.ask(number) for number in range(8)]
    for number in range(space.size()):
        if number >= 8:
            told.append(strategy.ask(number))
        strategy.tell(outcome(number, told[number], space))
    assert len({proposal.genotype for proposal in told}) == space.size()
    assert space.contains(space.close(strategy.ask(space.size()).genotype))  # it goes on when asked


def test_nsga2_changes_one_of_the_genes_that_are_asked() -> None:
    many = Wide(Toy(tuple(Deep(one_of(1, 2, 3)) for _ in range(60))))
    space = Space(Toy((one_of(many, Deep(1)), *(Deep(one_of(*range(9))) for _ in range(12)))))
    strategy = make_strategy("nsga2", space, GOALS[:1], seed=0, settings={"crossover_prob": 0.0})
    told: list[Trial] = []
    for number in range(400):
        proposal = strategy.ask(number)
        cost = float(len(proposal.genotype.genes))  # the branch of many genes dies out
        told.append(trial_of(number, proposal, {"small": cost}))
        strategy.tell(told[-1])
    changes = [
        sum(trial.genotype.genes[path] != answer for path, answer in told[parent].genotype.genes.items())
        for trial in told[200:]
        for parent in trial.memo[PARENTS]
        if len(trial.genotype.genes) == len(told[parent].genotype.genes) == 13
    ]
    # one on average, of those that change anything: 1 / (1 - (12 / 13) ** 13) is 1.55
    assert len(changes) > 150
    assert 1.3 < np.mean(changes) < 1.8


def test_nsga2_keeps_constraints_on_costs_that_are_known() -> None:
    strategy = make("nsga2")
    strategy.inform(OnlySmall())
    told = play(strategy, 100)
    assert all(small(SPACE.close(trial.genotype)) < 8 for trial in told)


def test_nsga2_remembers_what_is_being_scored_and_where_it_was_moved() -> None:
    whole = make("nsga2")
    for trial in play(make("nsga2"), 30):
        whole.tell(trial)
    elsewhere = next(g for g in SPACE.enumerate() if whole.is_new(g))  # type: ignore[attr-defined]
    asked = [whole.ask(number) for number in (30, 31)]
    moved = whole.moved(asked[1], elsewhere, SPACE.close(elsewhere))
    resumed = make("nsga2")
    for trial in play(make("nsga2"), 30):
        resumed.tell(trial)
    for number, proposal in ((30, asked[0]), (31, moved)):
        resumed.take_up(outcome(number, proposal))
    for strategy in (whole, resumed):
        assert not strategy.is_new(asked[0].genotype)  # type: ignore[attr-defined]
        assert strategy.is_new(asked[1].genotype)  # type: ignore[attr-defined]
        assert not strategy.is_new(elsewhere)  # type: ignore[attr-defined]
    assert resumed.ask(32) == whole.ask(32)


def test_crowding_distance_is_the_sum_of_relative_gaps() -> None:
    values = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    np.testing.assert_allclose(crowding_distances(values), [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf])


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
        make("nsg2")
