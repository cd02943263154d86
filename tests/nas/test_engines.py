"""Every engine: it refuses at once what it cannot search, prepares the same twice, claims plain values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from foundation.errors import NasError, SettingError, UnknownName
from nas.engines.base import (
    PROPOSED_BY,
    RANDOM,
    Engine,
    FoundThenRandom,
    Prepared,
    Setup,
    engines,
    make_engine,
)
from nas.store import Store
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.study import Study
from nas.validation.claims import Claims
from nas.validation.effort import effort_of, effort_text
from search_spaces.language.serialization import to_json
from tests.hw_profiles.tiny import registered, small_space
from tests.nas.little import little_setup

OBJECTIVES = ("recall_error", "decode_ms", "weight_bytes")
QUICK: dict[str, dict[str, Any]] = {
    "darts": {"steps": 2, "points": 1, "align": 0},
    "exact": {"windows": 4, "points": 8, "networks": 6, "least_tau": -1.0},
}
"""Settings with which an engine takes seconds; without an entry, its defaults do."""


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(params=sorted(engines))
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def plan_for(engine: str, **changes: Any) -> Plan:
    settings = {"objectives": OBJECTIVES, "settings": QUICK.get(engine, {}), **changes}
    return Plan(engine=engine, **settings)


def recorded(folder: Path, engine: str) -> tuple[Study, Setup]:
    """A study with this engine in a store, and what its engine is given; facts go to its record."""
    setup = little_setup(folder, engine, OBJECTIVES, 20)
    setup = replace(setup, plan=replace(setup.plan, settings=QUICK.get(engine, {})))
    space = setup.space
    record = Store(folder / "s.db").create_study(
        "s",
        space_digest=space.digest,
        space_json=to_json(space.root),
        config={"plan": setup.plan.to_plain(), "space": {"name": space.name, "size": "?"}},
    )
    study = Study(Store(folder / "s.db"), record, space)
    note = replace(setup, folder=study.folder / engine, note=lambda name, fact: add_fact(study, name, fact))
    return study, note


def check(plan: Plan) -> None:
    make_engine(plan).check(small_space(), plan)


def test_an_engine_says_what_it_is(engine: str) -> None:
    kind = engines[engine]
    assert issubclass(kind, Engine)
    assert kind.__module__.startswith(f"nas.engines.{engine}")
    about = inspect.getdoc(inspect.getmodule(kind))
    assert about
    assert len(about.splitlines()[0]) > 20
    with pytest.raises(UnknownName, match="no setting 'nonsense'"):
        check(plan_for(engine, settings={"nonsense": 1}))


def test_an_engine_of_shared_weights_needs_a_supernet_and_something_to_learn(engine: str) -> None:
    alone, nothing = plan_for(engine, evaluator="scratch"), plan_for(engine, objectives=("params",))
    for plan, reason in ((alone, "leave out evaluator='scratch'"), (nothing, "an objective must be learned")):
        if engines[engine].needs_supernet:
            with pytest.raises(SettingError, match=reason):
                make_engine(plan)
        else:
            check(plan)


def test_an_engine_that_proposes_by_itself_takes_no_strategy(engine: str) -> None:
    plan = plan_for(engine, strategy="random", settings={})
    if engines[engine].asks_strategy:
        check(plan)
    else:
        with pytest.raises(SettingError, match="leave out strategy='random'"):
            make_engine(plan)


def proposals(prepared: Prepared, count: int) -> list[Any]:
    asked = [prepared.strategy.ask(number) for number in range(count)]
    return [(proposal.genotype, dict(proposal.memo)) for proposal in asked]


def test_prepared_twice_an_engine_proposes_the_same_and_claims_plain_values(
    engine: str, tmp_path: Path
) -> None:
    study, setup = recorded(tmp_path, engine)
    made = make_engine(setup.plan)
    made.check(setup.space, setup.plan)
    assert made.claims(study) is None
    assert made.effort(study) == {}
    first = proposals(made.prepare(setup), 6)
    assert first == proposals(make_engine(setup.plan).prepare(setup), 6)
    for genotype, _ in first:
        setup.space.close(genotype)
    _require_plain(made.claims(study), made.effort(study), study)
    study.store.close()


def _require_plain(claims: Claims | None, effort: dict[str, int], study: Study) -> None:
    if claims is not None:
        assert claims.engine == study.plan.engine
        assert json.loads(json.dumps(claims.to_json())) == claims.to_json()
    assert all(isinstance(what, str) and count > 0 for what, count in effort.items())
    spent = effort_of(study)
    assert json.loads(json.dumps(spent)) == spent
    for what, count in effort.items():
        assert f"{count:,} {what}" in effort_text(spent)


def test_what_was_found_comes_first_and_then_chance(tmp_path: Path) -> None:
    setup = little_setup(tmp_path, "random", OBJECTIVES, 20)
    chosen = [setup.space.sample(dice) for dice in map(Random, range(3))]
    strategy = FoundThenRandom(setup, [*chosen, chosen[0]], engine="mine")
    asked = [strategy.ask(number) for number in range(5)]
    assert [proposal.genotype for proposal in asked[: len(set(chosen))]] == list(dict.fromkeys(chosen))
    assert {proposal.memo[PROPOSED_BY] for proposal in asked} == {"mine", RANDOM}
    assert asked[-1].memo[PROPOSED_BY] == RANDOM
    assert asked == [strategy.ask(number) for number in range(5)]


def test_a_study_that_learns_nothing_has_no_shared_weights(tmp_path: Path) -> None:
    setup = little_setup(tmp_path, "exact", OBJECTIVES, 20)
    evaluator, task = setup.shared_weights
    assert evaluator is setup.evaluator
    assert task is setup.task
    for missing in (replace(setup, evaluator=None), replace(setup, task=None)):
        with pytest.raises(NasError, match="engine exact needs an objective that is learned"):
            assert missing.shared_weights
