"""The strategy `auto`: what it never does, what it learns, and when it does without its model."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import nas
from foundation.errors import SettingError
from nas.pareto import hypervolume
from nas.strategies.auto import CHANCE, EVOLUTION, MODEL, START
from nas.strategies.base import Proposal, Strategy, make_strategy
from nas.strategies.surrogate.acquisition import expected_improvement
from nas.strategies.surrogate.breeding import breed
from nas.strategies.surrogate.choosing import Chooser
from nas.strategies.surrogate.encoding import SILENT, Encoding
from nas.strategies.surrogate.features import Featurizer
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.kernels import Kernels, Similarities
from nas.strategies.surrogate.knowledge import Learner
from nas.strategies.surrogate.model import Joint, Posterior, fitted_weights, rank_correlation
from nas.strategies.surrogate.scales import straight_share
from nas.strategies.surrogate.warping import POWERS, Warp
from nas.study.proposers import proposers_of
from nas.study.trial import FALLBACK, PARENTS, PROPOSER, SKILL, Fidelity, Trial, TrialState, Value
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from tests.nas.toys import Deep, Toy, Wide, rich, small, toy_space

GOALS = [("small", False), ("rich", False)]
SPACE = toy_space()


def make(space: Space = SPACE, goals: Any = GOALS, seed: int = 0, **settings: Any) -> Strategy:
    return make_strategy("auto", space, goals, seed=seed, settings=settings)


def trial_of(
    number: int, proposal: Proposal, *values: float, error: float | None = None, **more: Any
) -> Trial:
    names = [name for name, _ in GOALS] if len(values) == 2 else [f"v{k}" for k in range(len(values))]
    return Trial(
        number=number,
        genotype=proposal.genotype,
        fidelity=Fidelity(evaluator="toy"),
        seed=0,
        values={name: Value(v, error=error) for name, v in zip(names, values, strict=True)},
        memo=proposal.memo,
        **{"state": TrialState.COMPLETE, **more},
    )


def outcome(number: int, proposal: Proposal) -> Trial:
    spec = SPACE.close(proposal.genotype)
    return trial_of(number, proposal, small(spec), rich(spec))


def play(strategy: Strategy, trials: int, outcome_of: Any = outcome) -> list[Trial]:
    told: list[Trial] = []
    for number in range(trials):
        told.append(outcome_of(number, strategy.ask(number)))
        strategy.tell(told[-1])
    return told


@pytest.fixture(scope="module")
def played() -> list[Trial]:
    return play(make(), 90)


def test_no_architecture_is_proposed_twice(played: list[Trial]) -> None:
    assert len({trial.digest for trial in played}) == len(played)


def test_a_small_space_is_proposed_to_its_last_architecture() -> None:
    space = Space(Toy((one_of(Wide(one_of(1, 2, 3, 4), one_of(0, 1)), Deep(one_of(1, 2, 3))),) * 2))
    strategy = make(space)
    size = space.size()
    assert size == 121
    told = play(strategy, size, lambda n, p: trial_of(n, p, *map(float, Random(n).sample(range(99), 2))))
    assert len({trial.digest for trial in told}) == size
    assert space.contains(space.close(strategy.ask(size).genotype))  # it goes on when asked


def test_outcomes_may_come_in_any_order(played: list[Trial]) -> None:
    asked = make().ask
    in_order, shuffled = make(), make()
    for trial in played[:60]:
        in_order.tell(trial)
    for trial in Random(1).sample(played[:60], 60):
        shuffled.tell(trial)
    first, second = in_order.ask(60), shuffled.ask(60)
    assert (first.genotype, first.memo) == (second.genotype, second.memo)
    assert first.genotype == played[60].genotype
    assert asked(60).genotype != first.genotype


def test_a_stopped_search_with_workers_asks_what_it_would_have_asked(played: list[Trial]) -> None:
    outcomes = [replace(trial, told=i) for i, trial in enumerate(played[:40])]

    def heard_all() -> Strategy:
        strategy = make()
        for trial in outcomes:
            strategy.tell(trial)
        return strategy

    running = heard_all()
    pending = [running.ask(number) for number in range(40, 44)]
    resumed = heard_all()
    for number, proposal in enumerate(pending, 40):
        resumed.take_up(replace(outcome(number, proposal), heard=40, state=TrialState.RUNNING))
    expected = running.ask(44).genotype
    assert resumed.ask(44).genotype == expected
    assert expected not in {proposal.genotype for proposal in pending}
    assert heard_all().ask(40).genotype == pending[0].genotype
    earlier = heard_all()  # what was proposed before the last outcome came of other children
    for number, proposal in enumerate(pending, 40):
        earlier.take_up(replace(outcome(number, proposal), heard=39))
    assert earlier.ask(44).genotype not in {proposal.genotype for proposal in pending}


def test_proposals_without_news_come_of_one_scoring(played: list[Trial], monkeypatch: Any) -> None:
    scored = []
    whole = Chooser.shortlist
    monkeypatch.setattr(Chooser, "shortlist", lambda *given: scored.append(1) or whole(*given))
    strategy = make()
    for trial in played[:40]:
        strategy.tell(trial)
    batch = [strategy.ask(number) for number in range(40, 56)]
    assert len({proposal.genotype for proposal in batch}) == 16
    assert len(scored) == 1
    assert Counter(proposal.memo[PROPOSER] for proposal in batch)[MODEL] > 8
    strategy.tell(outcome(40, batch[0]))
    while strategy.ask(99).memo[PROPOSER] != MODEL:
        pass
    assert len(scored) == 2


def test_what_is_believed_narrows_its_like_as_the_exact_process_does(played: list[Trial]) -> None:
    encoding = Encoding(SPACE)
    rows = np.array([encoding.row(trial.genotype) for trial in played[:60]])
    features = Featurizer(encoding)(rows)
    kernels = Kernels(features, repeats=True)
    points = kernels(features)
    weights = np.append(np.full(kernels.kinds, 0.1), 0.05)
    known = points.take(np.arange(60) < 30)
    posterior, _, _ = Posterior.of(kernels(kernels.centres), known, np.zeros(30), np.zeros(30), weights)
    before = posterior.predict(points)[1]
    narrowed = before * Joint.of(posterior, points).narrowed(40)
    more = Similarities(points.between[:, [*range(30), 40]], points.own[:, [*range(30), 40]])
    again, _, _ = Posterior.of(kernels(kernels.centres), more, np.zeros(31), np.zeros(31), weights)
    assert narrowed == pytest.approx(again.predict(points)[1], rel=0.01)
    assert narrowed[40] < 0.7 * before[40]


def test_pending_candidates_are_not_proposed_again() -> None:
    strategy = make()
    asked = [strategy.ask(number).genotype for number in range(32)]
    for number, genotype in enumerate(asked):
        strategy.tell(outcome(number, Proposal(genotype)))
    batch = [strategy.ask(number) for number in range(32, 64)]
    assert len({*asked, *(proposal.genotype for proposal in batch)}) == 64
    assert {proposal.memo[PROPOSER] for proposal in batch} >= {MODEL}


def test_the_memo_says_what_proposed_and_how_well_the_model_predicts(played: list[Trial]) -> None:
    assert [trial.memo[PROPOSER] for trial in played[:16]] == [START] * 16
    by = Counter(trial.memo[PROPOSER] for trial in played[16:])
    assert by[MODEL] > by[EVOLUTION] > 0
    assert set(played[-1].memo[SKILL]) == {"small", "rich"}
    assert played[-1].memo[SKILL]["small"] > 0.9
    for trial in played[16:]:
        assert all(parent < trial.number for parent in trial.memo[PARENTS])
    assert any(len(trial.memo[PARENTS]) == 2 for trial in played)


def test_the_first_candidates_are_extreme(played: list[Trial]) -> None:
    depths = [len(SPACE.close(trial.genotype).stack) for trial in played[:2]]
    assert depths == [1, 3]


def test_pure_noise_is_left_to_evolution() -> None:
    def noise(number: int, proposal: Proposal) -> Trial:
        dice = Random(f"noise {number}")
        return trial_of(number, proposal, dice.gauss(0, 1), dice.gauss(0, 1))

    told = play(make(), 90, noise)
    by = Counter(trial.memo[PROPOSER] for trial in told[40:])
    assert by[EVOLUTION] > 0.8 * by.total()
    proposers = proposers_of(told)
    assert proposers is not None
    assert proposers.fallbacks == sum(FALLBACK in trial.memo for trial in told) > 30
    assert proposers.lines[-1].endswith("below 0.2: the search fell back to evolution")
    trusting = play(make(least_skill=-1), 50, noise)
    assert Counter(trial.memo[PROPOSER] for trial in trusting)[MODEL] > 20


def test_an_objective_that_never_differs_does_not_silence_the_model() -> None:
    told = play(make(), 40, lambda n, p: trial_of(n, p, small(SPACE.close(p.genotype)), 1.0))
    assert Counter(trial.memo[PROPOSER] for trial in told)[MODEL] > 10


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_any_number_of_objectives_is_improved(objectives: int) -> None:
    goals = [(f"v{k}", False) for k in range(objectives)] if objectives != 2 else GOALS
    reference = np.array([20.0, 160.0, 4.0][:objectives])

    def values(spec: Toy) -> list[float]:
        return [small(spec), rich(spec), float(3 - spec.shared)][:objectives][:: 1 if objectives > 1 else -1]

    if objectives == 1:
        reference = np.array([20.0])

    def reached(name: str, seed: int) -> float:
        strategy = make_strategy(name, SPACE, goals, seed=seed, settings={})
        told = play(strategy, 60, lambda n, p: trial_of(n, p, *values(SPACE.close(p.genotype))))
        return hypervolume([[v.value for v in t.values.values()] for t in told], reference)

    ours, chance = (np.mean([reached(name, seed) for seed in range(3)]) for name in ("auto", "random"))
    assert ours >= chance if objectives == 1 else ours > chance


def test_what_is_maximised_is_searched_upwards() -> None:
    strategy = make(goals=[("v0", True)])
    told = play(strategy, 60, lambda n, p: trial_of(n, p, rich(SPACE.close(p.genotype))))
    best = max(rich(SPACE.close(genotype)) for genotype in SPACE.enumerate())
    assert max(trial.values["v0"].value for trial in told) == best


def test_failed_and_infeasible_candidates_are_learned_from() -> None:
    def outcome_of(number: int, proposal: Proposal) -> Trial:
        trial = outcome(number, proposal)
        if SPACE.close(proposal.genotype).shared == 0:  # a third of the space
            return replace(trial, state=TrialState.FAILED, values={}, reason="a third fails")
        if SPACE.close(proposal.genotype).shared == 1:
            only = {"small": trial.values["small"]}
            return replace(trial, state=TrialState.INFEASIBLE, values=only, reason="another is too large")
        return trial

    told = play(make(), 60, outcome_of)
    asked = Counter(trial.state for trial in told if trial.memo[PROPOSER] == MODEL)
    assert asked[TrialState.COMPLETE] > 0.6 * asked.total()  # chance would be a third


def test_nothing_but_failures_goes_on() -> None:
    told = play(make(), 40, lambda n, p: replace(outcome(n, p), state=TrialState.FAILED, values={}))
    assert len({trial.digest for trial in told}) == 40


def test_a_proposal_moved_by_the_driver_is_awaited_at_its_new_place(played: list[Trial]) -> None:
    strategy = make()
    for trial in played[:20]:
        strategy.tell(trial)
    proposal = strategy.ask(20)
    elsewhere = played[50].genotype
    moved = strategy.moved(proposal, elsewhere, SPACE.close(elsewhere))
    assert moved.genotype == elsewhere
    later = {strategy.ask(number).genotype for number in range(21, 60)}
    assert elsewhere not in later


def test_errors_of_values_make_the_front_a_belief() -> None:
    def noisy(number: int, proposal: Proposal) -> Trial:
        spec = SPACE.close(proposal.genotype)
        shaken = rich(spec) + Random(f"shake {number}").gauss(0, 20)
        return trial_of(number, proposal, small(spec), shaken, error=20.0)

    first, second = (play(make(seed=2), 60, noisy) for _ in range(2))
    assert [t.genotype for t in first] == [t.genotype for t in second]
    assert Counter(t.memo[PROPOSER] for t in first)[MODEL] > 20


def test_a_search_runs_with_it(tmp_path: Path) -> None:
    study = nas.search(
        toy_space(),
        name="s",
        objectives=[small, rich],
        strategy="auto",
        trials=30,
        finalists=0,
        store=tmp_path / "s.db",
    )
    trials = study.trials()
    assert len({trial.digest for trial in trials}) == 30
    assert trials[-1].memo[PROPOSER] in (MODEL, EVOLUTION, CHANCE)


@pytest.mark.parametrize("settings", [{"start": 3}, {"plain": 2}, {"children": 0}, {"least_skill": "x"}])
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        make(**settings)


def test_the_start_is_told_where_the_model_is_never_asked() -> None:
    kind = type(make())
    assert "16 candidates" in kind.remark(kind.settings_kind(), 16)
    assert not kind.remark(kind.settings_kind(), 17)


def many_genes(layers: int) -> Space:
    return Space(Toy(repeat(Wide(one_of(1, 2, 3, 4), one_of(0, 1)), (layers // 2, layers))))


@pytest.mark.parametrize("genes", [16, 400])
def test_a_proposal_takes_no_longer_late_than_early(genes: int) -> None:
    space = many_genes(genes // 2)

    def value(number: int, proposal: Proposal) -> Trial:
        spec = space.close(proposal.genotype)
        sizes = np.array([part.size for part in spec.stack])
        return trial_of(number, proposal, float(sizes.sum()), float(-np.sqrt(sizes).sum()))

    strategy, chance = make(space), make_strategy("random", space, GOALS, seed=1, settings={})

    def seconds(first: int) -> float:
        """Of a proposal after news, where no posterior is formed for it, as for most."""
        spent = 0.0
        for number in range(first, first + 4):
            strategy.ask(number)
            strategy.refine(told[0])
            start = time.process_time()
            strategy.ask(number + 100)
            spent += time.process_time() - start
        return spent / 4

    told = [value(number, chance.ask(number)) for number in range(2000)]
    for trial in told:
        strategy.tell(trial)
        if trial.number == 299:
            early = seconds(5001)
    assert seconds(6001) < 3 * early


def test_rows_are_genotypes() -> None:
    encoding = Encoding(SPACE)
    chance = np.random.default_rng(0)
    rows = encoding.canonical(encoding.random(200, chance))
    for row in rows:
        answers = encoding.answers(row)
        genotype, _ = SPACE.draw(lambda path, labels, answers=answers: answers[path])  # type: ignore[misc]
        assert dict(genotype.genes) == answers
        assert (encoding.row(genotype) == row).all()
    assert {r.tobytes() for r in map(encoding.row, SPACE.enumerate())} >= {r.tobytes() for r in rows}


def test_a_choice_that_is_shared_is_asked_where_any_of_its_places_is() -> None:
    @dataclass(frozen=True)
    class Holder:
        first: Any
        second: Any

    rate = one_of(1, 2, 3, name="rate")
    space = Space(Holder(one_of(Deep(rate), Wide()), one_of(Deep(rate), Wide())))
    encoding = Encoding(space)
    rows = encoding.canonical(encoding.random(100, np.random.default_rng(0)))
    assert {row.tobytes() for row in rows} == {encoding.row(g).tobytes() for g in space.enumerate()}


def test_children_differ_in_genes_that_are_asked() -> None:
    encoding, chance = Encoding(SPACE), np.random.default_rng(0)
    parents = encoding.canonical(encoding.random(5, chance))
    children = breed(encoding, parents, 400, chance)
    alone = children.parents[:, 0] == children.parents[:, 1]
    changed = (children.rows != parents[children.parents[:, 0]]).any(axis=1)
    assert changed[alone].all()
    assert (children.rows < encoding.sizes).all()
    assert (children.rows >= SILENT).all()


def test_features_of_silent_genes_are_zero_and_neighbours_alike() -> None:
    encoding = Encoding(many_genes(4))
    features = Featurizer(encoding)
    assert features.repeats
    rows = encoding.canonical(np.zeros((1, len(encoding.genes)), np.int16))
    assert np.count_nonzero(rows == SILENT) == 4
    one, two, four = (
        Featurizer(Encoding(Space(Wide(one_of(1, 2, 3, 4)))))(np.array([[i]])) for i in (0, 1, 3)
    )
    assert np.linalg.norm(one.genes - two.genes) < np.linalg.norm(one.genes - four.genes)
    assert np.isfinite(features(rows).sums).all()


def test_the_model_is_an_exact_gaussian_process_where_every_point_is_a_centre() -> None:
    encoding, chance = Encoding(SPACE), np.random.default_rng(0)
    rows = np.unique(encoding.canonical(encoding.random(60, chance)), axis=0)
    features = Featurizer(encoding)(rows)
    values, errors = chance.standard_normal(len(rows)), np.full(len(rows), 0.1)
    kernels = Kernels(features, repeats=True)
    similarities = kernels(features)
    weights = np.full(kernels.kinds + 1, 0.3)
    posterior, without, _ = Posterior.of(similarities, similarities, values, errors, weights)
    covariance = np.tensordot(weights[:-1], similarities.between, 1)
    inverse = np.linalg.inv(covariance + np.eye(len(rows)) * (0.3 + 0.01))
    mean, deviation = posterior.predict(similarities)
    np.testing.assert_allclose(mean, covariance @ inverse @ values, atol=1e-3)
    variance = np.diag(covariance - covariance @ inverse @ covariance)
    np.testing.assert_allclose(deviation**2, variance, atol=1e-3)
    np.testing.assert_allclose(without, values - (inverse @ values) / np.diag(inverse), atol=1e-3)
    assert (posterior.given(similarities).predict(similarities)[1] < deviation).all()


def test_a_part_resembles_only_the_very_same_part() -> None:
    encoding = Encoding(SPACE)
    chance = np.random.default_rng(0)
    rows = np.unique(encoding.canonical(encoding.random(40, chance)), axis=0)
    parts = Featurizer(encoding)(rows).parts
    specs = [SPACE.draw(_answers(encoding, row))[1] for row in rows]
    for i, first in enumerate(specs):
        for j, second in enumerate(specs):
            alike = sum(a == b for a, b in zip(first.stack, second.stack, strict=False))
            outside = (len(first.stack), first.shared) == (len(second.stack), second.shared)
            same = int(((parts[i] == parts[j]) & (parts[i] > 0)).sum())
            assert same - alike in ((1,) if outside else (0, 1)), (first, second)


@pytest.mark.parametrize("power", POWERS)
def test_a_warp_is_undone_and_has_the_slope_it_says(power: float) -> None:
    values = np.linspace(-3, 12, 41)
    warp = Warp.of(power, values)
    bent = warp.bend(values)
    assert abs(bent.mean()) < 1e-9
    assert abs(bent.std() - 1) < 1e-9
    assert (np.diff(bent) > 0).all()
    straight, deviations = warp.straighten(bent, np.full(41, 1e-3))
    np.testing.assert_allclose(straight, values, atol=1e-9)
    slopes = (warp.bend(values + 1e-6) - warp.bend(values - 1e-6)) / 2e-6
    np.testing.assert_allclose(deviations, 1e-3 / slopes, rtol=1e-3)


def test_what_grows_by_factors_is_modelled_on_a_scale_of_logarithms() -> None:
    space = many_genes(12)
    encoding, chance = Encoding(space), np.random.default_rng(0)
    rows = np.unique(encoding.canonical(encoding.random(150, chance)), axis=0)
    chance.shuffle(rows)
    sizes = np.array(
        [sum(part.size for part in space.draw(_answers(encoding, row))[1].stack) for row in rows], float
    )
    values = np.stack((np.exp(sizes / 4), sizes), axis=1)
    known, rest = rows[:80], rows[80:]
    nothing = np.zeros((80, 2))
    model = Learner(encoding).model(
        Heard(np.arange(80), known, np.ones(80, bool), values[:80], nothing, nothing > 0)
    )
    assert model is not None
    assert model.warps[0].power < 0.75 < model.warps[1].power
    means, deviations = model.predict(model.similarities(rest))
    z = (means - model.scale(values[80:])) / deviations
    assert np.sqrt((z**2).mean(axis=0)).max() < 2


def _answers(encoding: Encoding, row: Any) -> Any:
    answers = encoding.answers(row)
    return lambda path, labels: answers[path]


def test_scales_propose_as_often_as_they_lead_to_the_front() -> None:
    half = {number: number % 2 == 0 for number in range(100)}  # straight ones have even numbers
    assert straight_share({}, set()) == straight_share(half, set()) == 0.5
    assert straight_share(half, {60, 62, 64, 66}) > 0.8
    assert straight_share(half, {61, 63, 65, 67}) == pytest.approx(1 - straight_share(half, {60, 62, 64, 66}))
    assert straight_share(half, set(range(1, 100, 2))) == 0.1  # a tenth is left
    assert straight_share(half, {0, 2, 4}) == 0.5  # long ago


def test_a_model_of_bent_scales_has_one_of_straight_ones_beside_it() -> None:
    sizes = np.arange(60)
    space = many_genes(8)
    encoding = Encoding(space)
    rows = encoding.canonical(encoding.random(60, np.random.default_rng(0)))
    counted = np.maximum(rows, 0).sum(axis=1).astype(float)
    values = np.stack((counted, np.exp(counted)), axis=1)
    none = np.zeros_like(values)
    heard = Heard(sizes, rows, np.ones(60, bool), values, none, none.astype(bool))
    model = Learner(encoding).model(heard)
    assert model is not None
    assert model.straight is not None
    assert model.warps[1].power == 0
    assert {warp.power for warp in model.straight.warps} == {1.0}
    assert model.straight.straight is None
    scaled = model.scale(values)
    for each in (model, model.straight):
        means, _ = each.predict(each.similarities(rows))
        assert np.corrcoef(means[:, 0], scaled[:, 0])[0, 1] > 0.99
    best = scaled[:, 1] < np.median(scaled[:, 1])
    bent, plain = (each.predict(each.similarities(rows))[0][best, 1] for each in (model, model.straight))
    assert np.abs(bent - scaled[best, 1]).mean() < np.abs(plain - scaled[best, 1]).mean()


def test_weights_are_where_the_likelihood_has_its_maximum() -> None:
    chance = np.random.default_rng(0)
    points = chance.standard_normal((80, 6))
    similarities = np.stack((points @ points.T / 6, (points @ points.T / 6) ** 2))
    values = points @ chance.standard_normal(6)
    weights, evidence = fitted_weights(similarities, values / values.std(), np.zeros(80))
    _, worse = fitted_weights(similarities, chance.standard_normal(80), np.zeros(80))
    assert evidence > worse
    assert weights[0] > 20 * weights[1]
    assert weights[0] > 20 * weights[2]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_expected_improvement_is_the_mean_of_what_is_added(objectives: int) -> None:
    chance = np.random.default_rng(0)
    reference = np.full(objectives, 2.0)
    front = chance.uniform(0, 1.5, (6, objectives))
    means, deviations = chance.uniform(0, 1.5, (8, objectives)), chance.uniform(0.1, 0.5, (8, objectives))
    gains = expected_improvement(means, deviations, front, reference, chance)
    before = hypervolume(front, reference)
    sampled = [
        np.mean(
            [
                hypervolume(
                    np.vstack((front, mean + deviation * chance.standard_normal(objectives))), reference
                )
                - before
                for _ in range(1500)
            ]
        )
        for mean, deviation in zip(means, deviations, strict=True)
    ]
    if objectives < 3:
        np.testing.assert_allclose(gains, sampled, rtol=0.15, atol=0.01)
    else:  # up to a factor that is the same for all
        assert rank_correlation(gains, np.array(sampled)) > 0.85


def test_ranks_are_compared_with_ties() -> None:
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 20, 30])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0
    assert rank_correlation(np.arange(3.0), np.ones(3)) == 1
    assert not math.isnan(rank_correlation(np.ones(3), np.ones(3)))
