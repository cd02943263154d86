"""Which studies are alike in all but the seed, and the median and range of their curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dashboards.app.growth_view import Growths
from dashboards.app.live_store import LiveStore
from dashboards.facts.growth import HypervolumeFacts
from dashboards.facts.seeds import LEAST_SEEDS, family_of, seed_bands, with_siblings
from nas.store import Store, StudyRecord
from tests.dashboards.made import make_study

PLAN = {"seed": 0, "strategy": "nsga2", "trials": 9}


def record(name: str, space: str = "s", **plan: object) -> StudyRecord:
    return StudyRecord(1, name, 0.0, space, "{}", {"plan": {**PLAN, **plan}})


def test_studies_of_one_plan_and_space_are_a_family_whatever_their_seed() -> None:
    first = family_of(record("a"))
    assert family_of(record("b", seed=7, trials=400)) == first, "the number of trials may be raised later"
    assert family_of(record("c", strategy="random")) != first
    assert family_of(record("d", space="t")) != first
    assert family_of(replace(record("e"), config={"plan": "<x>"})) != first


def test_a_seed_counts_once() -> None:
    records = [record("a"), record("b", seed=1), record("copy of b", seed=1), record("z", strategy="random")]
    assert list(with_siblings(["a"], records)) == ["a", "b"]
    assert list(with_siblings(["copy of b"], records)) == ["copy of b", "a"]
    assert list(with_siblings(["a", "z"], records)) == ["a", "z", "b"]
    assert with_siblings(["gone"], records) == {}


def test_a_band_is_the_median_and_range_of_its_curves_as_far_as_the_shortest_goes() -> None:
    curves = {
        "a": HypervolumeFacts((0, 4, 9), (0.2, 0.5, 0.9)),
        "b": HypervolumeFacts((1, 6), (0.3, 0.7)),
        "c": HypervolumeFacts((2, 3, 20), (0.1, 0.6, 1.0)),
        "other": HypervolumeFacts((0, 9), (0.5, 0.5)),
    }
    bands, others = seed_bands(curves, dict.fromkeys("abc", "family"))
    assert list(others) == ["other"]
    (band,) = bands
    assert band.studies == ("a", "b", "c")
    assert band.numbers[-1] == 6
    for number, low, median, high in zip(band.numbers, band.low, band.median, band.high, strict=True):
        shares = [
            max((s for n, s in zip(c.numbers, c.shares, strict=True) if n <= number), default=0.0)
            for c in (curves["a"], curves["b"], curves["c"])
        ]
        assert (low, median, high) == pytest.approx((min(shares), np.median(shares), max(shares)))
    two, all_of_them = seed_bands({"a": curves["a"], "b": curves["b"]}, dict.fromkeys("ab", "family"))
    assert (two, len(all_of_them)) == ([], 2), f"{LEAST_SEEDS} make a median"


def test_the_page_draws_the_family_of_a_study_with_its_own_curve(tmp_path: Path) -> None:
    with Store(tmp_path / "studies.db") as store:
        for seed in range(3):
            make_study(store, f"s{seed}", trials=12, complete=False, dice=seed, seed=seed)
        make_study(store, "alone", trials=12, complete=False, strategy="random")
        live = LiveStore(store)
        grown = Growths(live).of([live.study("s0")])
        figure = grown.figure(5)
        named = [trace.name for trace in figure.data if trace.showlegend is not False]
        assert named == ["s0 and 2 other seeds, median", "s0"]
        assert "s0, s1 and s2: a line is their median" in grown.told
        alone = Growths(live).of([live.study("alone")])
        assert (alone.bands, list(alone.curves)) == ((), ["alone"])
