"""Searches that begin with what is known: other studies, and the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from foundation.errors import NasError, SettingError, StoreError, UnknownName
from nas.pareto import hypervolume
from nas.store import Store
from nas.strategies.base import SEED, SEEDS, make_strategy, strategies
from nas.strategies.surrogate.heard import Heard
from nas.study.creation import create_study
from nas.study.plan import Plan
from nas.study.seed import Seed
from nas.study.seeds import ZOO, described_seeds, seeds_of
from nas.study.study import open_study
from nas.study.trial import PROPOSER, Value
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.spaces import spaces
from tests.nas.toys import Deep, Toy, Wide, rich, small, toy_space

FIRST = 5


def search(store: Path, name: str, trials: int, space: Space | None = None, **settings: Any) -> Any:
    return nas.search(
        space or toy_space(),
        name=name,
        objectives=[small, rich],
        trials=trials,
        finalists=0,
        store=store,
        progress=False,
        **settings,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    search(path, "old", 60, strategy="random")
    return path


def begun(store: Path, name: str, trials: int, **settings: Any) -> Any:
    return search(store, name, trials, seed_from=("old",), seeds_first=FIRST, seed=1, **settings)


def test_the_front_of_another_study_is_proposed_first(store: Path) -> None:
    front = {trial.digest for trial in open_study("old", store).predicted_front()}
    trials = begun(store, "new", 30).trials()
    assert {trial.digest for trial in trials[:FIRST]} <= front
    assert [trial.memo.get(PROPOSER) == SEEDS for trial in trials[: FIRST + 1]] == [True] * FIRST + [False]
    assert {trial.memo[SEED] for trial in trials[:FIRST]} == {"old"}
    assert len({trial.digest for trial in trials}) == 30


def test_it_goes_on_the_same_when_it_was_stopped_and_the_other_study_is_gone(store: Path) -> None:
    whole = begun(store, "whole", 24).trials()
    begun(store, "parts", 9)
    begun(store, "parts", 19)
    Store(store).delete_study("old")
    parts = begun(store, "parts", 24)
    assert [t.genotype for t in parts.trials()] == [t.genotype for t in whole]
    assert not parts.replay(progress=False).differs
    with pytest.raises(UnknownName, match="old"):
        begun(store, "another", 9)


def test_a_study_is_not_continued_with_other_seeds(store: Path) -> None:
    begun(store, "new", 6)
    with pytest.raises(SettingError, match="seed"):
        search(store, "new", 9, seed=1)


def test_only_what_lies_in_the_space_is_taken_over_and_the_rest_is_counted(store: Path) -> None:
    part = one_of(Wide(one_of(1, 2, 3, 4), one_of(0, 1)), Deep(one_of(1, 2)))
    narrower = Space(Toy(repeat(part, (1, 2)), toy_space().root.shared))
    said: list[str] = []
    plan = Plan(objectives=("small", "rich"), seed_from=("old",))
    seeds = [Seed.from_plain(plain) for plain in described_seeds(narrower, plan, store, said.append)]
    old = open_study("old", store)
    within = [trial for trial in old.comparable() if narrower.contains(old.spec(trial))]
    assert 0 < len(within) < len(old.comparable())
    with_values = {seed.genotype for seed in seeds if seed.values}
    assert with_values == {narrower.genotype_of(old.spec(trial)) for trial in within}
    assert f"{len(within)} with their values" in said[0]
    assert "left out: " in said[0]


def test_nothing_that_fits_is_an_error(store: Path) -> None:
    elsewhere = Space(Deep(one_of(7, 8)))
    with pytest.raises(SettingError, match="nothing to begin with"):
        described_seeds(elsewhere, Plan(objectives=("small",), seed_from=("old",)), store, print)


def test_a_study_that_does_not_fit_refuses_no_other(store: Path) -> None:
    said: list[str] = []
    sources = (ZOO, "old")  # published language models are none of toys
    plan = Plan(objectives=("small", "rich"), seed_from=sources)
    assert described_seeds(toy_space(), plan, store, said.append)
    assert "from old" in said[0]
    assert "'zoo': nothing to begin with" in said[1]


def test_published_architectures_in_the_space_come_first(tmp_path: Path) -> None:
    space, said = spaces["hybrid_lm"](), list[str]()
    plan = Plan(seed_from=("zoo",), seeds_first=3)
    seeds = [Seed.from_plain(plain) for plain in described_seeds(space, plan, tmp_path / "s.db", said.append)]
    assert sum(seed.first for seed in seeds) == 3
    assert all(seed.source.startswith("zoo:") and not seed.values for seed in seeds)
    assert len(seeds) > 20
    assert said[0].startswith(f"from zoo: {len(seeds)} networks taken over")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed_from": ("old", "old")}, "twice"),
        ({"seed_from": ("older",)}, "older"),
        ({"seeds_first": -1}, "seeds"),
    ],
)
def test_what_cannot_be_is_refused(store: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((SettingError, UnknownName), match=message):
        search(store, "new", 9, **{"seed_from": ("old",), **settings})


def test_an_engine_that_proposes_by_itself_takes_none(store: Path) -> None:
    plan = Plan(engine="exact", seed_from=("old",))
    with pytest.raises(SettingError, match="proposes by itself"):
        create_study(spaces["laptop"](), plan, name="new", store=store)


def test_a_malformed_record_is_refused(store: Path) -> None:
    begun(store, "new", 6)
    opened = Store(store)
    record = opened.study("new")
    opened.update_config(record.id, {**record.config, "seeds": [{"genes": 3}]})
    with pytest.raises(StoreError, match="malformed"):
        seeds_of(open_study("new", store))


@pytest.mark.parametrize("name", list(strategies))
def test_every_strategy_begins_with_what_it_is_given(name: str) -> None:
    space = toy_space()
    try:
        strategy = make_strategy(name, space, [("small", False), ("rich", False)], seed=0, settings={})
    except NasError as error:  # its library is not installed
        pytest.skip(str(error))
    genotypes = list(space.enumerate())[:3]
    strategy.begin_with([Seed(genotype, "x", first=i < 2) for i, genotype in enumerate(genotypes)])
    assert [strategy.ask(number).genotype for number in range(2)] == genotypes[:2]
    assert space.contains(space.close(strategy.ask(2).genotype))


def heard(own: np.ndarray, others: np.ndarray) -> Heard:
    """Values of own candidates 0, 1, ..., and of the same in another study."""
    count = len(own) + len(others)
    rows = np.concatenate((np.arange(len(others)), np.arange(len(own))))[:, None].astype(np.int16)
    unlike = (np.arange(count) < len(others))[:, None]
    values = np.concatenate((others, own))[:, None]
    numbers = np.concatenate((np.arange(-len(others), 0), np.arange(len(own))))
    return Heard(numbers, rows, np.ones(count, bool), values, np.zeros((count, 1)), unlike)


def test_values_of_other_training_are_moved_and_trusted_as_far_as_they_agree() -> None:
    chance = np.random.default_rng(0)
    true = chance.standard_normal(40)
    others = true + 3 + 0.1 * chance.standard_normal(40)
    alone = heard(true[:0], others).reconciled()
    np.testing.assert_allclose(alone.errors, np.std(others))
    beside = heard(true[:12], others).reconciled()
    assert abs((beside.values[:40, 0] - true).mean()) < 0.1
    assert 0.1 < beside.errors[0, 0] < 0.5
    assert (beside.errors[40:] == 0).all()
    assert not beside.unlike.any()


@pytest.mark.parametrize("unlike", [frozenset[str](), frozenset({"rich"})])
def test_values_of_another_study_save_trials(unlike: frozenset[str]) -> None:
    space = Space(Toy(repeat(Wide(one_of(*range(1, 9)), one_of(0, 1)), (3, 6)), one_of(0, 1, 2)))
    goals, dice = [("small", False), ("rich", False)], np.random.default_rng(0)

    def value(spec: Toy) -> tuple[float, float]:
        sizes = np.array([part.size for part in spec.stack], float)
        return float(sizes.sum()), float(-np.sqrt(sizes).sum() - spec.shared)

    known = [space.draw(lambda path, labels: labels[dice.integers(len(labels))]) for _ in range(80)]
    seeds = [
        Seed(
            genotype,
            "x",
            {n: Value(v + 50 * (n in unlike)) for n, v in zip(("small", "rich"), value(spec), strict=True)},
            unlike,
            first=i < 6,
        )
        for i, (genotype, spec) in enumerate(known)
    ]

    def reached(begin: list[Seed], seed: int) -> float:
        from tests.nas.test_strategy_auto import play, trial_of

        strategy = make_strategy("auto", space, goals, seed=seed, settings={})
        strategy.begin_with(begin)
        told = play(strategy, 20, lambda n, p: trial_of(n, p, *value(space.close(p.genotype))))
        return hypervolume([[v.value for v in t.values.values()] for t in told], np.array([50.0, 0.0]))

    first = [Seed(seed.genotype, "x", first=seed.first) for seed in seeds]  # candidates without values
    ahead = [reached(seeds, seed) - reached(first, seed) for seed in range(2)]
    assert np.mean(ahead) > 0
