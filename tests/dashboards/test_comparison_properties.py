"""Comparisons of studies with random scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from dashboards.facts import ComparisonFacts, read_comparison
from dashboards.figures.comparison import fronts_figure, progress_figure
from dashboards.report.comparison import comparison_html, lead
from nas.pareto import nondominated
from nas.store import Store
from nas.study.study import Study
from nas.study.trial import Trial, Value
from tests.dashboards.made import make_study

NAMES = ("first", "second", "third")
OBJECTIVES = ("bits_per_byte", "decode_ms")
WINDOWS = 8
SEEDS = pytest.mark.parametrize("seed", range(4))


def rescored(trial: Trial, dice: Random) -> Trial:
    """The trial with scores drawn at random."""
    samples = tuple(dice.uniform(1.5, 3.0) for _ in range(WINDOWS))
    values = {
        "bits_per_byte": Value(sum(samples) / WINDOWS, 0.1, "supernet", samples),
        "decode_ms": Value(dice.uniform(0.2, 5.0), None, "predicted"),
    }
    return replace(trial, values=values)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """For each seed three studies: two that scored different networks, and one that scored those of both."""
    with Store(tmp_path_factory.mktemp("random") / "studies.db") as opened:
        for seed in range(4):
            dice = Random(seed)
            made = [
                make_study(
                    opened,
                    f"{name}{seed}",
                    trials=0,
                    complete=False,
                    objectives=OBJECTIVES,
                    validation_windows=WINDOWS,
                )
                for name in NAMES
            ]
            source = make_study(opened, f"source{seed}", trials=14, complete=False, dice=seed)
            known = [rescored(trial, dice) for trial in source.complete() if trial.reused is None]
            for study, part in zip(made, (known[::2], known[1::2], known), strict=True):
                study.store.save(study.record, part)
        yield opened


def compare(store: Store, seed: int, names: Sequence[str] = NAMES) -> ComparisonFacts:
    return read_comparison([Study(store, store.study(f"{name}{seed}")) for name in names])


@SEEDS
def test_shares_are_between_none_and_all_and_cover_the_joint_volume(store: Store, seed: int) -> None:
    facts = compare(store, seed, NAMES[:2])
    for compared in facts.studies:
        assert 0 < compared.share <= 1 + 1e-12
        assert list(compared.trace) == sorted(compared.trace)
        assert compared.volume == pytest.approx(compared.share * facts.volume)
        assert compared.error is not None
        assert compared.error >= 0
    assert sum(compared.share for compared in facts.studies) >= 1 - 1e-9


@SEEDS
def test_who_scored_everything_dominates_everything(store: Store, seed: int) -> None:
    *parts, whole = compare(store, seed).studies
    assert whole.share == pytest.approx(1.0)
    assert all(part.share <= whole.share + 1e-12 for part in parts)
    assert whole.exclusive == 0
    assert all(part.exclusive == 0 for part in parts)


@SEEDS
def test_the_joint_front_is_nondominated_and_counts_add_up(store: Store, seed: int) -> None:
    facts = compare(store, seed, NAMES[:2])
    points = [[m.network.values[name].value for name in OBJECTIVES] for m in facts.joint]
    assert all(nondominated(points))
    assert len({member.network.digest for member in facts.joint}) == len(facts.joint)
    discoveries = [discovery.index for member in facts.joint for discovery in member.discoveries]
    for index, compared in enumerate(facts.studies):
        assert compared.joint == discoveries.count(index)
        assert compared.exclusive <= compared.joint
    # the two studies have no network in common
    assert sum(compared.exclusive for compared in facts.studies) == len(facts.joint)


@SEEDS
def test_the_order_of_studies_does_not_matter(store: Store, seed: int) -> None:
    here, there = compare(store, seed), compare(store, seed, NAMES[::-1])
    assert here.volume == pytest.approx(there.volume)
    assert here.reference == pytest.approx(there.reference)
    for compared, same in zip(here.studies, there.studies[::-1], strict=True):
        assert compared.study.name == same.study.name
        assert compared.share == pytest.approx(same.share)
        assert (compared.joint, compared.exclusive) == (same.joint, same.exclusive)


@SEEDS
def test_the_reference_point_is_worse_than_every_front(store: Store, seed: int) -> None:
    facts = compare(store, seed)
    for compared in facts.studies:
        for network in compared.front:
            values = [network.values[objective.name].value for objective in facts.objectives]
            assert all(value < worst for value, worst in zip(values, facts.reference, strict=True))


@SEEDS
def test_json_has_only_finite_numbers_and_one_entry_for_each_study(store: Store, seed: int) -> None:
    facts = compare(store, seed)
    plain = json.loads(json.dumps(facts.to_json(), allow_nan=False))
    assert [study["study"] for study in plain["studies"]] == [f"{name}{seed}" for name in NAMES]
    assert len(plain["front"]) == len(facts.joint)
    assert set(plain["reference"]) == set(OBJECTIVES)


@SEEDS
def test_figures_and_page_have_no_missing_numbers(store: Store, seed: int) -> None:
    facts = compare(store, seed)
    for figure in (fronts_figure(facts), progress_figure(facts)):
        json.dumps(json.loads(figure.to_json()), allow_nan=False)
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
    visible = comparison_html(facts).partition("<script")[0]
    for word in ("nan", "None", "inf "):
        assert f" {word}" not in visible
    assert lead(facts).count("%") >= len(NAMES)
