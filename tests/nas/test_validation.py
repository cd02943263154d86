"""Validation without any training: what is asked, compared, kept on record and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evaluators.blockwise.replacement import Replacements
from evaluators.supernet.sandwich import sandwich
from evaluators.tasks.recall import Recall
from nas.engines.base import engines
from nas.executors.local import InProcess
from nas.objectives.base import CostModel
from nas.store import Store
from nas.study.constraints import Constraint
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Value
from nas.validation.agreement import agreement
from nas.validation.effort import effort_of, effort_text
from nas.validation.errors import NothingToCompare
from nas.validation.gain import gain
from nas.validation.proxy import ProxyCheck, check_proxy, top_fidelity
from nas.validation.random_baseline import (
    GainOverRandom,
    gain_over_random,
    searched_and_random,
    still_wanted,
)
from nas.validation.random_networks import random_networks
from nas.validation.validate import Validation, lines_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.supernet import Supernet
from tests.dashboards.made import make_study

PAIRS = [(float(i), float(i * i), str(i)) for i in range(6)]


class Scorer:
    """Says that small networks are good, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        self.asked += 1
        return Value(spec.d_model / 10 + len(spec.layers), 0.1, "supernet", (1.0, 2.0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


def made(store: Store, **plan: Any) -> Study:
    settings = {"trials": 20, "complete": False, "objectives": ("bits_per_byte", "weight_bytes"), **plan}
    return make_study(store, "made", **settings)


def cost_model(study: Study) -> CostModel:
    return CostModel.of(study.plan.scenarios)


def by_engine(study: Study, count: int) -> None:
    """Let the first trials be the engine's, and the others random."""
    trials = study.trials()
    kept = [replace(t, memo={"by": "exact" if i < count else "random"}) for i, t in enumerate(trials)]
    study.store.save(study.record.id, kept)


def test_random_choice_is_scored_once_with_all_objectives_and_as_often_as_the_search(store: Store) -> None:
    study, scorer = made(store), Scorer()
    found = len(searched_and_random(study)[0])
    assert still_wanted(study) == found
    executor = InProcess({"bits_per_byte": scorer})
    one = gain_over_random(study, cost_model(study), executor)
    assert scorer.asked == found == one.equal.candidates == one.equal.against == one.over_all.against
    again = gain_over_random(study, cost_model(study), executor)
    assert (scorer.asked, again) == (found, one)
    trials = study.trials("validate")
    assert all({"bits_per_byte", "weight_bytes"} <= set(trial.values) for trial in trials)
    fact = study.facts["validation"]["gain"]
    assert (fact["ratio"], fact["scored_here"]) == (one.equal.ratio, found)
    assert "both sides cost the same" in fact["effort"]


def test_random_trials_on_record_are_used_and_more_are_scored_only_where_wanted(store: Store) -> None:
    study, scorer = made(store, engine="exact", evaluator="scratch"), Scorer()
    by_engine(study, 5)
    mine, by_chance = searched_and_random(study)
    assert len(mine) == 5
    assert still_wanted(study) == 0  # from scratch each would cost a whole training
    one = gain_over_random(study, cost_model(study), InProcess({"bits_per_byte": scorer}))
    assert scorer.asked == 0
    assert (one.equal.against, one.over_all.against) == (5, len(by_chance))
    more = gain_over_random(
        study, cost_model(study), InProcess({"bits_per_byte": scorer}), random=len(by_chance) + 3
    )
    assert (scorer.asked, more.over_all.available) == (3, len(by_chance) + 3)


def test_random_networks_keep_the_constraints_and_are_always_the_same(store: Store) -> None:
    text = "weight_bytes<100000"
    study = made(store, constraints=(text,))
    drawn = random_networks(study, 6)
    assert drawn == random_networks(study, 9)[:6]
    constraint = Constraint.parse(text)
    for genotype in drawn:
        size = study.space.close(genotype).cost(study.plan.scenarios[0]).weight_bytes
        assert constraint.violation({"weight_bytes": Value(size, None, "counted")}) is None


def test_a_function_of_a_program_cannot_be_asked_of_others(store: Store) -> None:
    study = made(store)
    study.plan = replace(study.plan, objectives=("bits_per_byte", "mine"))
    with pytest.raises(NothingToCompare, match="by mine: a function of a program"):
        gain_over_random(study, cost_model(study), InProcess({}))


def test_the_proxy_is_held_against_the_last_rung(store: Store) -> None:
    study, scorer = made(store), Scorer()
    assert top_fidelity(study) == 800
    executor = InProcess({"bits_per_byte": scorer})
    found = check_proxy(study, 5, 800, proxy=executor, truth=executor)
    assert found.agreement.tau.value == pytest.approx(1.0)
    assert found.claims is None
    fact = study.facts["validation"]
    assert (fact["steps"], fact["proxy"], len(fact["pairs"])) == (800, "supernet", 5)
    gain_over_random(study, cost_model(study), executor)
    assert study.facts["validation"]["tau"] == fact["tau"]


def test_training_is_no_proxy_for_itself(store: Store) -> None:
    study = made(store, evaluator="scratch", train_steps=800)
    with pytest.raises(NothingToCompare, match="there is no proxy to check"):
        check_proxy(study, 5, 800, proxy=InProcess({}), truth=InProcess({}))


def test_the_exact_engine_is_held_to_its_sums(store: Store) -> None:
    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=1, head_dim=4), ShortConv()),
        channel_mixer=SwiGLU(expansion=one_of(1, 2)),
    )
    space = Space(Decoder(vocab=16, d_model=8, layers=(layer, layer)), name="two")
    plan = Plan(objectives=("recall_error", "weight_bytes"), engine="exact", finalists=0)
    record = store.create_study(
        "two",
        space_digest=space.digest,
        space_json=to_json(space.root),
        config={"plan": plan.to_plain(), "space": {"name": space.name, "size": "16"}},
    )
    study = Study(store, record, space)
    networks = [[0.1 * i, 0.2 * i, 1.0 + i] for i in range(6)]
    add_fact(study, "exact", {"networks": networks, "scored": 9, "warning": "careful"})
    parent = sandwich(space, Random(0))[0]
    task = Recall(tokens=16, length=9, pairs=2, sequences=50, windows=4)
    Replacements(Supernet(space, seed=0), parent, task).measure(study.folder / "exact" / "scores.json")

    class ByName(Scorer):
        def __call__(self, spec: Any, steps: int, seed: int) -> Value:
            return Value(len(to_json(spec)) + (spec != parent), 0.1, "scratch")

    executor = InProcess({"recall_error": ByName()})
    found = check_proxy(study, 6, 50, proxy=executor, truth=executor)
    assert found.claims is not None
    against = dict(found.claims.agreements)
    assert len(against["training from scratch for 50 steps"].pairs) == 6
    assert against["scores from the shared weights"].tau.value == pytest.approx(1.0)
    assert against["real divergences from its parent"].tau.value == pytest.approx(1.0)
    assert found.claims.remarks == ("careful",)
    assert study.facts["validation"]["claims"]["agreements"][0]["networks"] == 6
    assert "9 sublayers scored, 6 random networks tried" in effort_text(effort_of(study))


def test_differentiable_search_is_held_to_its_targets_and_findings(store: Store) -> None:
    study = made(store, engine="darts")
    assert engines[study.plan.engine].claims(study) is None
    point = {"targets": {"decode_ms": 2.0}, "costs": {"decode_ms": 2.05}, "findings": [{"text": "collapsed"}]}
    missed = {**point, "costs": {"decode_ms": 2.5}}
    add_fact(study, "darts", {"points": [point, missed]})
    claims = engines[study.plan.engine].claims(study)
    assert claims is not None
    assert claims.remarks == ("1 of 2 targets met within 5 %", "collapsed")
    assert "2 searches run" in effort_text(effort_of(study))


def test_what_an_engine_took_is_told_in_candidates() -> None:
    text = effort_text(
        {"engine": "exact", "did": {"sublayers scored": 1200}, "seconds": 60.0, "candidate_seconds": 0.5}
    )
    assert "(1,200 sublayers scored): 60 s, in which about 120 more candidates" in text
    assert "not on record" in effort_text({"engine": "exact", "did": {"sublayers scored": 12}})


def test_all_of_it_is_told_in_lines(store: Store) -> None:
    study = made(store, engine="darts")
    add_fact(study, "darts", {"points": []})
    points = [(float(i), float(-i)) for i in range(4)]
    both = GainOverRandom(gain(points, points), gain(points[:2], points, against=4))
    lines = lines_of(
        study,
        Validation(
            800, ProxyCheck(agreement(PAIRS), engines[study.plan.engine].claims(study)), both, ("no more",)
        ),
    )
    assert lines[0].startswith(
        "Kendall tau of supernet against 800 steps from scratch, 6 random networks: 1.00"
    )
    assert "hypervolume 1.00 times" in lines[1]
    assert lines[-1] == "no more"
