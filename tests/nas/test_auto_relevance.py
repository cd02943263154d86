"""Which genes `auto` finds relevant, and how its children climb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from nas.pareto import reference_point
from nas.strategies.surrogate import choosing
from nas.strategies.surrogate.breeding import breed
from nas.strategies.surrogate.choosing import Beliefs, Chooser
from nas.strategies.surrogate.encoding import Encoding
from nas.strategies.surrogate.features import Featurizer
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.kernels import Kernels
from nas.strategies.surrogate.knowledge import Learner
from nas.strategies.surrogate.model import unlikeliness
from nas.strategies.surrogate.outcomes import Outcomes
from nas.strategies.surrogate.relevance import MOST_GENES, fitted
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from tests.nas.toys import toy_space


@dataclass(frozen=True)
class Vector:
    """Numbers side by side."""

    x: Any


def vector(genes: int) -> Space:
    return Space(Vector((one_of(0, 1, 2, 3),) * genes), name="vector")


def drawn(genes: int, count: int, space: Any = None) -> tuple[Encoding, Any, Kernels, Featurizer]:
    encoding = Encoding(space or vector(genes))
    rows = encoding.canonical(encoding.random(count, np.random.default_rng(0)))
    featurizer = Featurizer(encoding)
    return encoding, rows, Kernels(featurizer(rows), repeats=featurizer.repeats), featurizer


def heard_of(rows: Any, values: Any) -> Heard:
    none = np.zeros_like(values)
    return Heard(np.arange(len(rows)), rows, np.ones(len(rows), bool), values, none, none.astype(bool))


def test_similarities_beside_known_ones_are_the_same() -> None:
    _, rows, kernels, featurizer = drawn(0, 30, toy_space())
    features = featurizer(rows[:20])
    relevance = np.exp(np.random.default_rng(1).standard_normal(len(featurizer.gene)))
    weighed = kernels.by(relevance)
    assert kernels.repeats
    anew, beside = weighed(features), weighed(features, kernels(features))
    assert np.array_equal(anew.between, beside.between)
    assert np.array_equal(anew.own, beside.own)
    assert not np.allclose(anew.between, kernels(features).between)


def test_likelihood_rises_with_relevance_as_it_says() -> None:
    _, rows, kernels, featurizer = drawn(0, 25, toy_space())
    chance = np.random.default_rng(2)
    values, weights = chance.standard_normal(25), np.exp(chance.standard_normal(kernels.kinds + 1))
    logs = 0.3 * chance.standard_normal(len(featurizer.gene))

    def against(logs: Any) -> tuple[float, Any]:
        weighed = kernels.by(np.exp(logs))
        similarities = weighed(featurizer(rows))
        cost, _, slack = unlikeliness(similarities.between, values, np.zeros(25), weights)
        return cost, weighed.slopes(similarities, weights, slack)

    step = 1e-5
    for feature in range(len(logs)):
        aside = step * (np.arange(len(logs)) == feature)
        rise = (against(logs + aside)[0] - against(logs - aside)[0]) / (2 * step)
        assert against(logs)[1][feature] == pytest.approx(rise, rel=1e-4, abs=1e-6)


def test_the_gene_that_decides_is_the_relevant_one() -> None:
    _, rows, kernels, featurizer = drawn(20, 60)
    values = np.sin(rows[:, 7].astype(float))
    weighed, _ = fitted(kernels, featurizer.gene, (values - values.mean()) / values.std(), np.zeros(60))
    others = np.delete(weighed.relevance, 7)
    assert weighed.relevance[7] > 3
    assert others.max() < 1


def test_genes_are_alike_where_nothing_can_be_told() -> None:
    _, _, kernels, featurizer = drawn(20, 40)
    values = np.random.default_rng(3).standard_normal(40)
    weighed, _ = fitted(kernels, featurizer.gene, values / values.std(), np.zeros(40))
    assert 0.5 < weighed.relevance.min() <= weighed.relevance.max() < 2
    _, _, kernels, featurizer = drawn(MOST_GENES + 1, 10)
    weighed, _ = fitted(kernels, featurizer.gene, values[:10], np.zeros(10))
    assert (weighed.relevance == 1).all()


def test_what_one_gene_decides_is_predicted_from_few_candidates(monkeypatch: Any) -> None:
    encoding, rows, _, _ = drawn(20, 30)
    rest = encoding.canonical(encoding.random(200, np.random.default_rng(9)))

    def values_of(rows: Any) -> Any:
        return np.stack((np.abs(rows[:, 3] - 1.5), rows.sum(axis=1)), axis=1).astype(float)

    def error() -> float:
        model = Learner(encoding).model(heard_of(rows, values_of(rows)))
        assert model is not None
        means, _ = model.predict(model.similarities(rest))
        return float(np.sqrt(((means[:, 0] - model.scale(values_of(rest))[:, 0]) ** 2).mean()))

    known = error()
    monkeypatch.setattr("nas.strategies.surrogate.relevance.MOST_GENES", 0)
    assert known < 0.5 * error()


def test_children_of_the_best_children_are_expected_to_add_more() -> None:
    encoding, rows, _, _ = drawn(20, 60)
    values = np.stack((rows.sum(axis=1), (3 - rows[:, ::2]).sum(axis=1) + rows[:, 1]), axis=1).astype(float)
    heard = heard_of(rows, values)
    model = Learner(encoding).model(heard)
    assert model is not None
    beliefs = Beliefs.of(heard, model, {})
    chooser = Chooser(encoding, Outcomes(encoding, [("a", False), ("b", False)]), 1000)
    scored: list[tuple[Any, Any]] = []
    whole = choosing.expected_improvement

    def noted(*given: Any) -> Any:
        scored.append((given, whole(*given)))
        return scored[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "expected_improvement", noted)
        chooser.shortlist(model, beliefs, np.random.default_rng(0))
    climbed = max(gains.max() for _, gains in scored)
    (_, _, front, reference, _), _ = scored[0]
    judge = model if np.array_equal(front, choosing._front(model, heard)) else model.straight
    assert judge is not None
    plain = breed(encoding, heard.rows[beliefs.parents], 1000, np.random.default_rng(1)).rows
    means, deviations = judge.predict(judge.similarities(plain))
    alone = whole(means, deviations, front, reference, np.random.default_rng(2))
    assert climbed > 1.2 * alone.max()
    assert sum(len(gains) for _, gains in scored) <= 1010


def test_more_children_breed_while_others_are_being_scored(monkeypatch: Any) -> None:
    encoding, rows, _, _ = drawn(20, 60)
    values = np.stack((rows.sum(axis=1), (3 - rows[:, ::2]).sum(axis=1)), axis=1).astype(float)
    heard = heard_of(rows, values)
    outcomes = Outcomes(encoding, [("a", False), ("b", False)])
    model = Learner(encoding).model(heard)
    assert model is not None
    parents: list[int] = []
    monkeypatch.setattr(choosing, "breed", lambda *given: parents.append(len(given[1])) or breed(*given))

    def bred() -> list[int]:
        parents.clear()
        chooser = Chooser(encoding, outcomes, 1000)
        chooser.shortlist(model, Beliefs.of(heard, model, {}), np.random.default_rng(0))
        return parents[1:]

    assert bred() == [choosing.BEST] * choosing.ROUNDS
    other = vector(20).draw(lambda path, labels: labels[0])[0]
    outcomes.await_trial(60, other)
    assert bred() == [choosing.BEST_AMONG_OTHERS] * choosing.ROUNDS


def test_hypervolume_counts_beyond_the_front_or_past_its_ends() -> None:
    front, worst = np.array([[0.0, 1.0]]), np.array([5.0, 6.0])
    near = reference_point(front)
    chance = np.random.default_rng(0)
    drawn = [tuple(choosing._reference(front, worst, chance)) for _ in range(2000)]
    shares = {point: drawn.count(point) / len(drawn) for point in set(drawn)}
    ends = [(near[0], worst[1]), (worst[0], near[1])]
    assert set(shares) == {tuple(near), tuple(worst), *ends}
    # four standard deviations of a share of 2,000 draws
    assert shares[tuple(near)] == pytest.approx(0.5, abs=0.045)
    assert shares[tuple(worst)] == pytest.approx(0.25, abs=0.04)
    assert [shares[end] for end in ends] == pytest.approx([0.125, 0.125], abs=0.03)
