"""Baselines: read or refused when a study is created, trained as the finalists were, held against them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import NasError
from foundation.files import write_json
from nas.steps.base import Context, run_steps
from nas.study.baseline_gaps import Verdict, verdicts
from nas.study.baselines import RECORD, rungs_of
from nas.study.creation import create_study
from nas.study.export import best_weights
from nas.study.given_networks import genotype_of_given, given_name, given_network, is_given
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import to_plain
from search_spaces.sizing import weight_bytes
from search_spaces.zoo import zoo
from tests.nas.test_crash import write_text
from tests.nas.test_steps import EXAMPLE, SPACE
from tests.nas.toys import small, toy_space

TWO = ("zoo:transformer", "zoo:mamba2")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines") / "text"
    write_text(folder)
    return folder


def created(folder: Path, text: Path, **changes: Any) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        **EXAMPLE.to_plain(),
        "baselines": TWO,
        "finalists": 3,
        "final_seeds": 1,
        "data": str(text),
        **changes,
    }
    return create_study(SPACE, Plan.from_plain(plain), name="s", store=folder / "s.db")


@pytest.fixture(scope="module")
def searched(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = created(tmp_path_factory.mktemp("searched"), text)
    run_steps(Context(study=study))
    return study


def test_every_rung_has_baselines_beside_it_that_were_trained_as_long(searched: Study) -> None:
    trials, finals = searched.trials("baseline"), searched.trials("final")
    assert {t.fidelity for t in trials} == {t.fidelity for t in finals}
    assert {given_name(t.genotype) for t in trials} == {"transformer", "mamba2"}
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert len({len(t.values["bits_per_byte"].samples) for t in [*trials, *finals]}) == 1
    for rung in rungs_of(searched):
        members = [weight_bytes(searched.spec(t)) for t in rung.members]
        beside = [weight_bytes(searched.spec(t)) for t in trials if t.fidelity == rung.fidelity]
        assert len(members) <= len(beside) <= 2 * len(members)
        assert max(beside) >= min(members)


def test_a_baseline_is_shown_exported_and_found_like_any_network(searched: Study) -> None:
    trial = searched.trials("baseline")[0]
    assert searched.trial(trial.digest).digest == trial.digest
    assert {"weight_bytes", "params", "decode_ms"} <= set(trial.values)
    model, about = best_weights(searched, searched.trial(trial.digest))
    assert model.spec == searched.spec(trial)
    assert about["weights"].startswith("trained from scratch for")
    assert list(searched.frame("baseline")["baseline"]) == [
        given_name(t.genotype) for t in searched.trials("baseline")
    ]


def test_the_verdict_names_every_baseline_at_equal_cost(searched: Study) -> None:
    by_cost = {verdict.cost: verdict for verdict in verdicts(searched)}
    assert set(by_cost) == {"decode_ms", "weight_bytes"}
    for verdict in by_cost.values():
        assert {g.baseline for g in verdict.gaps} | set(verdict.apart) == {"transformer", "mamba2"}
        assert all(name in str(verdict) for name in ("transformer", "mamba2"))
        for gap in verdict.gaps:
            assert gap.network.fidelity == gap.member.fidelity
            scores = [t.values["bits_per_byte"].value for t in (gap.network, gap.member)]
            assert math.isclose(gap.gain, scores[0] - scores[1], abs_tol=1e-4)


def test_files_are_read_once_and_what_they_held_is_kept(text: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    write_json(file, [{"name": "lfm2", "spec": to_plain(zoo["lfm2"].spec)}])  # as `nas zoo` prints it
    study = created(tmp_path, text, baselines=[str(file)], finalists=1)
    study.store.close()
    file.unlink()
    again = created(tmp_path, text, baselines=[str(file)], finalists=1)
    run_steps(Context(study=again))
    assert {again.spec(t) for t in again.trials("baseline")} == {zoo["lfm2"].spec}
    assert {given_name(t.genotype) for t in again.trials("baseline")} == {"mine"}
    again.store.close()


def test_baselines_may_be_added_later_and_switched_off(text: Path, tmp_path: Path) -> None:
    study = created(tmp_path, text, baselines="none", finalists=1)
    run_steps(Context(study=study))
    assert study.plan.baselines == ()
    assert study.trials("baseline") == []
    assert verdicts(study) == []
    study.store.close()
    more = created(tmp_path, text, baselines="zoo:griffin", finalists=1)
    assert set(more.record.config[RECORD]) == {"zoo:griffin"}
    run_steps(Context(study=more))
    assert {given_name(t.genotype) for t in more.trials("baseline")} == {"griffin"}
    assert len(more.trials("final")) == 2
    more.store.close()


def test_where_the_search_trains_from_scratch_its_front_is_what_baselines_are_held_against(
    text: Path, tmp_path: Path
) -> None:
    study = created(tmp_path, text, evaluator="scratch", finalists=0, trials=3, train_steps=2)
    run_steps(Context(study=study))
    (rung,) = rungs_of(study)
    assert {t.digest for t in rung.members} == {t.digest for t in study.predicted_front()}
    assert {t.fidelity for t in study.trials("baseline")} == {Fidelity(evaluator="scratch", steps=2)}
    assert verdicts(study)
    study.store.close()


DAMAGED = {
    "nothing.json": None,
    "cut.json": '{"type": "Decoder", "d_model"',
    "number.json": "7",
    "block.json": json.dumps(to_plain(zoo["lfm2"].spec.layers[0])),
    "unknown.json": '{"type": "Decodr", "d_model": 8, "layers": []}',
    "open.json": json.dumps(to_plain(SPACE.root)),
    "wrong.json": json.dumps({**to_plain(zoo["lfm2"].spec), "d_model": 0}),
    "little.json": json.dumps({**to_plain(zoo["lfm2"].spec), "vocab": 16}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_files_that_hold_no_network_are_refused_before_anything_is_stored(
    name: str, text: Path, tmp_path: Path
) -> None:
    if (content := DAMAGED[name]) is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(NasError, match=rf"baseline .*{name}"):
        created(tmp_path, text, baselines=[str(tmp_path / name)])
    assert not (tmp_path / "s.db").exists()


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        ("zoo:lfm3", "baseline zoo:lfm3: unknown architecture 'lfm3'; did you mean 'lfm2'"),
        ("lfm2", "baseline lfm2: write zoo:lfm2"),
        ("mamba9", "write zoo:NAME .* or a FILE.json"),
        ("zoo:lfm2,zoo:lfm2", "two are called lfm2"),
        ("zoo:jamba", "baseline zoo:jamba: it has no size within the widths and depths of tiny"),
    ],
)
def test_names_that_stand_for_no_baseline_are_refused(
    baselines: str, message: str, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(NasError, match=message):
        created(tmp_path, text, baselines=baselines)
    assert not (tmp_path / "s.db").exists()


def test_only_decoders_have_baselines(tmp_path: Path) -> None:
    plan = Plan(objectives=("small",), baselines=("zoo:lfm2",), finalists=0, trials=2)
    with pytest.raises(NasError, match="only spaces of Decoder"):
        create_study(toy_space(), plan, name="s", store=tmp_path / "s.db", functions={"small": small})


def test_a_given_network_is_its_genotype() -> None:
    genotype = genotype_of_given("lfm2", zoo["lfm2"].spec)
    again = Genotype.from_json(genotype.to_json())
    assert is_given(again)
    assert not is_given(Genotype({"d_model": 8}))
    assert given_network(again) == zoo["lfm2"].spec
    assert again.digest == genotype.digest != genotype_of_given("mine", zoo["lfm2"].spec).digest


def trial(name: str, *, score: float, cost: float, steps: int = 8, error: float | None = None) -> Trial:
    samples = tuple(score + noise for noise in (-0.1, 0.0, 0.1))
    genotype = genotype_of_given(name, zoo["lfm2"].spec) if name else Genotype({"cost": cost})
    return Trial(
        number=0,
        genotype=genotype,
        fidelity=Fidelity(evaluator="scratch", steps=steps),
        seed=0,
        stage="baseline" if name else "final",
        state=TrialState.COMPLETE,
        values={
            "bits_per_byte": Value(score, 0.1, "scratch", samples),
            "decode_ms": Value(cost, error, "measured"),
        },
    )


def judged(
    searched: Study,
    monkeypatch: pytest.MonkeyPatch,
    members: Sequence[Trial],
    others: Sequence[Trial],
    repeats: Sequence[Trial] = (),
) -> Verdict:
    stages = {"final": list(members), "baseline": list(others), "repeat": list(repeats)}
    monkeypatch.setattr(searched, "trials", lambda stage="search": stages[stage])
    monkeypatch.setattr(searched, "measured", dict)
    return verdicts(searched)[0]


def test_a_front_beats_is_tied_or_is_beaten_and_a_trade_off_is_no_verdict(
    searched: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [trial("", score=2.0, cost=5.0), trial("", score=1.5, cost=9.0)]
    others = [
        trial("worse", score=2.2, cost=6.0),
        trial("same", score=2.0, cost=6.0),
        trial("better", score=1.2, cost=9.0),
        trial("cheaper", score=2.5, cost=4.0),
        trial("dearer", score=1.0, cost=20.0),
    ]
    verdict = judged(searched, monkeypatch, members, others)
    assert [g.baseline for g in verdict.beaten] == ["worse"]
    assert [g.baseline for g in verdict.tied] == ["same"]
    assert [g.baseline for g in verdict.better] == ["better"]
    assert verdict.apart == ("cheaper", "dearer")
    assert str(verdict) == (
        "at equal decode_ms the front beats worse by 0.2000 bits per byte, beyond the noise; it is beaten by"
        " better by 0.3000 bits per byte, beyond the noise; same (+0) is within the noise; no network of the"
        " front at the cost of cheaper or dearer was trained as long (after 8 steps)"
    )


def test_what_costs_far_more_can_be_beaten_but_not_beat(
    searched: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [trial("", score=2.0, cost=5.0)]
    assert judged(searched, monkeypatch, members, [trial("b", score=2.1, cost=50.0)]).beaten
    assert judged(searched, monkeypatch, members, [trial("b", score=1.9, cost=50.0)]).apart == ("b",)
    assert judged(searched, monkeypatch, members, [trial("b", score=1.9, cost=6.0)]).better
    assert judged(searched, monkeypatch, members, [trial("b", score=1.9, cost=0.5)]).better


def test_of_several_seeds_the_gap_is_the_mean_and_its_error_has_their_spread(
    searched: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, other = trial("", score=2.0, cost=5.0), trial("b", score=2.2, cost=5.0)
    scores = {1: (2.0, 2.4), 2: (2.1, 2.1)}  # gaps of 0.4 and 0.0, beside the first of 0.2
    repeats = [
        replace(one, stage="repeat", seed=seed, values={"bits_per_byte": Value(s, 0.0, "scratch", (s, s))})
        for seed, both in scores.items()
        for one, s in zip((member, other), both, strict=True)
    ]
    (gap,) = judged(searched, monkeypatch, [member], [other], repeats).gaps
    assert gap.seeds == 3
    assert math.isclose(gap.gain, 0.2)
    assert gap.error is not None
    assert math.isclose(gap.error, 0.2 / math.sqrt(3))
    assert not gap.significant  # the luck of the seeds is larger than the gap
    assert judged(searched, monkeypatch, [member], [other]).beaten  # as it would seem with one
    assert "3 seeds each" in str(judged(searched, monkeypatch, [member], [other], repeats))
    only = [r for r in repeats if r.digest == member.digest]
    assert judged(searched, monkeypatch, [member], [other], only).gaps[0].seeds == 1


def test_costs_that_differ_within_their_errors_are_equal(
    searched: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trial("other", score=2.2, cost=4.9, error=0.1)
    assert judged(searched, monkeypatch, [trial("", score=2.0, cost=5.0, error=0.1)], [other]).beaten
    assert judged(searched, monkeypatch, [trial("", score=2.0, cost=5.0)], [other]).beaten
    assert judged(searched, monkeypatch, [trial("", score=2.0, cost=5.2)], [other]).apart == ("other",)


def test_of_a_baseline_the_longest_training_and_the_strongest_size_count(
    searched: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [trial("", score=2.0, cost=5.0, steps=s) for s in (4, 8)]
    weak, strong = trial("b", score=2.6, cost=6.0), trial("b", score=2.1, cost=8.0)
    early = trial("b", score=1.0, cost=6.0, steps=4)
    (gap,) = judged(searched, monkeypatch, members, [early, weak, strong]).gaps
    assert (gap.network, gap.steps) == (strong, 8)
    assert math.isclose(gap.gain, 0.1)
    (gap,) = judged(searched, monkeypatch, members, [trial("b", score=1.0, cost=9.0), early]).gaps
    assert gap.steps == 4  # at 8 steps no member costs about as much
