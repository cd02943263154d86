"""The differentiable engine: targets are met by the table, a killed search goes on, findings are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import evaluators.training.fit
import nas.engines.darts.point as point_module
from evaluators.differentiable.expected_cost import expected_cost
from evaluators.differentiable.search import DifferentiableSearch
from foundation.errors import SettingError, SpaceError, UnknownName
from nas.engines.base import PROPOSED_BY, Setup, engines, make_engine
from nas.engines.darts import Darts
from nas.study.plan import Plan
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import Genes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.early_exit import EarlyExit
from tests.hw_profiles.tiny import registered, round_table, small_space
from tests.nas.little import little_setup


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return little_setup(tmp_path, "darts", ("recall_error", "prefill_ms", "decode_ms"), 10)


@pytest.mark.parametrize("reading", ["prefill_ms", "decode_ms"])
def test_expected_latency_is_the_tables_prediction(reading: str) -> None:
    space, table = small_space(), round_table()
    cost = expected_cost(space, lambda specs: [p[reading][0] for p in table.predict_many(specs)])
    genes, dice = Genes(space), Random(4)
    assert cost.exact
    for _ in range(30):
        genotype = space.sample(dice)
        found = float(cost(genes.one_hot(genotype)))
        assert found == pytest.approx(table.predict(space.close(genotype))[reading][0], rel=1e-6)


@pytest.mark.parametrize(("variant", "align"), [("modern", 3), ("gdas", 0), ("first", 0)])
def test_every_target_is_met_by_the_table(setup: Setup, variant: str, align: int) -> None:
    engine = Darts(variant=variant, align=align, steps=10, rate=0.2, points=2, guard=False)
    facts = dict[str, Any]()
    prepared = engine.prepare(replace(setup, note=facts.__setitem__))
    points, table = facts["darts"]["points"], setup.cost_model.table
    assert table is not None
    assert len(points) == 2
    for number, point in enumerate(points):
        proposal = prepared.strategy.ask(number)
        assert proposal.genotype.genes == point["genotype"]
        assert proposal.memo == {PROPOSED_BY: "darts", "parents": []}
        found = table.predict(setup.space.close(proposal.genotype))["prefill_ms"][0]
        assert found == pytest.approx(point["targets"]["prefill_ms"], rel=0.05)
        assert found == pytest.approx(point["costs"]["prefill_ms"])
    # random choice always runs beside it
    assert prepared.strategy.ask(2).memo == {PROPOSED_BY: "random", "parents": []}
    json.dumps(facts)


def test_given_targets_and_constraints_hold(setup: Setup) -> None:
    plan = replace(setup.plan, constraints=("decode_ms<2.6",))
    engine = Darts(targets=(2.0, 2.5, 2.5), cost="decode_ms", steps=4, align=0, choose="perturbation")
    strategy = engine.prepare(replace(setup, plan=plan)).strategy
    assert setup.cost_model.table is not None
    for number in range(2):
        genotype = strategy.ask(number).genotype
        assert setup.cost_model.table.predict(setup.space.close(genotype))["decode_ms"][0] < 2.6
    assert strategy.ask(2).memo == {PROPOSED_BY: "random", "parents": []}


def test_a_killed_engine_goes_on_and_a_finished_one_is_read(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Darts(steps=8, points=2, align=2, guard=False)
    whole = engine.prepare(replace(setup, folder=setup.folder.with_name("whole")))
    steps = list[int]()
    plain = DifferentiableSearch.advance

    def counted(self: DifferentiableSearch) -> Any:
        steps.append(self.step)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return plain(self)

    monkeypatch.setattr(DifferentiableSearch, "advance", counted)
    monkeypatch.setattr(evaluators.training.fit, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        engine.prepare(setup)
    again = Darts(steps=8, points=2, align=2, guard=False).prepare(setup)
    assert [again.strategy.ask(i).genotype for i in range(2)] == [
        whole.strategy.ask(i).genotype for i in range(2)
    ]
    assert steps == [*range(8), 0, 1, 2, 3, *range(3, 8)]  # the second search went on after its third step
    engine.prepare(setup)
    assert len(steps) == 17  # nothing was searched again


def test_unseen_genes_are_decided_by_reading_subnets(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    plain = point_module.decided_by_score

    def told(genes: Any, genotype: Any, paths: Any, score: Any, price: Any) -> Any:
        asked.extend(paths)
        return plain(genes, genotype, paths, score, price)

    monkeypatch.setattr(point_module, "decided_by_score", told)
    Darts(steps=2, points=1, align=0).prepare(setup)
    assert set(asked) == {f"layers.{i}.bits.state" for i in range(4)}


def test_findings_are_put_on_the_record(setup: Setup) -> None:
    facts = dict[str, Any]()
    engine = Darts(targets=(1e6,), steps=2, align=0)
    engine.prepare(replace(setup, note=facts.__setitem__))
    (point,) = facts["darts"]["points"]
    assert "target missed" in [finding["kind"] for finding in point["findings"]]


def test_it_is_an_engine_with_settings() -> None:
    assert engines["darts"] is Darts
    plan = Plan(engine="darts", settings={"variant": "gdas", "steps": 5})
    made = make_engine(plan)
    assert isinstance(made, Darts)
    assert made.variant == "gdas"
    assert made.alignment_steps == 0
    with pytest.raises(UnknownName, match="variants"):
        make_engine(replace(plan, settings={"variants": "gdas"}))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"variant": "x"}, "variant must be one of"),
        ({"choose": "x"}, "choose must be one of"),
        ({"points": 0}, "points"),
        ({"targets": "soon"}, "targets must be a sequence, each a number"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Darts(**wrong)


def test_spaces_and_plans_that_cannot_be_searched_are_refused_at_once(setup: Setup) -> None:
    leaving = Layer(sequence_mixer=ShortConv(), exit=one_of(None, EarlyExit()))
    with pytest.raises(SpaceError, match=r"layers\.0\.exit"):
        Darts().check(Space(Decoder(vocab=16, d_model=8, layers=(leaving,))), setup.plan)
    Darts().check(setup.space, setup.plan)
    plan = replace(setup.plan, objectives=("recall_error",))
    with pytest.raises(SettingError, match="targets need an objective"):
        Darts(targets=(3.0,)).check(setup.space, plan)
    with pytest.raises(SettingError, match="only known after training"):
        Darts(cost="bits_per_byte").check(setup.space, plan)
    with pytest.raises(SettingError, match="that is learned"):
        Darts().prepare(replace(setup, evaluator=None))
    found = Darts(steps=2, align=0).prepare(replace(setup, plan=plan)).strategy
    assert [found.ask(i).memo[PROPOSED_BY] for i in range(2)] == [
        "darts",
        "random",
    ]  # without a cost, one search


def test_the_studys_weights_stay(setup: Setup) -> None:
    assert setup.evaluator is not None
    before = {name: weight.detach().clone() for name, weight in setup.evaluator.supernet.weights.items()}
    Darts(variant="modern", steps=3, points=1, align=2).prepare(setup)
    Darts(variant="first", steps=3, points=1).prepare(replace(setup, folder=setup.folder / "first"))
    after = setup.evaluator.supernet.weights
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
