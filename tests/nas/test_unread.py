"""Settings that a user wrote and that would count for nothing are refused, with what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nas
from foundation.errors import SettingError
from nas.engines.base import make_engine
from nas.store import Store
from nas.study.plan import Plan
from nas.study.unread import require_read

COMPUTED = {"objectives": ("params", "weight_bytes")}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"engine": "darts", "strategy": "auto"},
            "strategy='auto' counts for nothing: engine darts proposes by itself: leave it out, or add",
        ),
        ({"engine": "random", "strategy": "auto"}, "engine random proposes by itself"),
        ({"seeds_first": 4}, "seeds_first=4 counts for nothing: .* add seed_from='STUDY', or leave it out"),
        ({"keep": 0.5, "finalists": 0}, "keep=0.5 counts for nothing: .* add scheduler='halving'"),
        ({"keep": 0.5, "finalist_steps": (100,)}, "nothing is promoted from rung to rung"),
        ({"keep": 0.5, **COMPUTED}, "nothing is promoted from rung to rung"),
        (
            {"final_seeds": 3, "finalists": 0},
            "final_seeds=3 .* no network is trained by itself: add finalists",
        ),
        ({"baselines": ("zoo:mamba2",), "finalists": 0}, "no network is trained by itself"),
        ({"strict_table": True, "roofline": "h100-sxm"}, "roofline='h100-sxm' takes the place of tables"),
        ({"measure": ("memory",), **COMPUTED}, "measure=.* the networks have no weights: add an objective"),
        ({"shared_training": True}, "shared_training=True .* there are not several tasks to share it"),
    ],
)
def test_what_would_count_for_nothing_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingError, match=why) as refused:
        require_read(Plan.from_plain(given), given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"strategy": "auto"},
        {"engine": "exact"},
        {"seeds_first": 4, "seed_from": ("zoo",)},
        {"seeds_first": 0},
        {"keep": 0.5},
        {"keep": 0.5, "scheduler": "halving", "evaluator": "scratch", "finalists": 0},
        {"final_seeds": 3},
        {"final_seeds": 3, "evaluator": "scratch", "finalists": 0},
        {"final_seeds": 1, "finalists": 0},
        {"baselines": (), "finalists": 0},
        {"strict_table": True},
        {"strict_table": False, "roofline": "h100-sxm"},
        {"measure": ("memory",)},
        {"shared_training": True, "objectives": ("recall_error", "bits_per_byte")},
    ],
)
def test_what_counts_is_taken(given: dict[str, Any]) -> None:
    require_read(Plan.from_plain(given), given)


def test_only_what_was_written_is_looked_at() -> None:
    require_read(Plan(engine="darts", keep=0.5, finalists=0, final_seeds=3), ("engine", "finalists"))


def test_what_a_supernet_has_learned_with_is_not_chosen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.study.unread.read_about", lambda folder: {"steps": 5, "batch": 4})
    for given, field in (({"train_steps": 9}, "5"), ({"train_batch": 2}, "4")):
        with pytest.raises(SettingError, match=f"counts for nothing: net learned with {field}: leave it out"):
            require_read(Plan(supernet="net", **given), given)  # type: ignore[arg-type]
    given = {"train_steps": 5, "train_batch": 4}
    require_read(Plan(supernet="net", **given), given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "settings", "why"),
    [
        ("darts", {"points": 2, "targets": (5.0,)}, "targets are named, so points counts for nothing"),
        ("darts", {"variant": "gdas", "align": 3}, "variant=gdas aligns nothing"),
        ("exact", {"batch": 4}, "without steps of alignment batch counts for nothing: set align"),
    ],
)
def test_an_engine_refuses_its_own_settings_that_count_for_nothing(
    engine: str, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(SettingError, match=why):
        make_engine(Plan(engine=engine, settings=settings))


def test_a_refused_search_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="engine darts proposes by itself"):
        nas.search("laptop", name="x", engine="darts", strategy="auto", store=tmp_path / "s.db")
    assert not list(tmp_path.iterdir())


def test_a_study_that_goes_on_is_told_too(tmp_path: Path) -> None:
    study = nas.search(
        "laptop",
        name="x",
        objectives=["params", "weight_bytes"],
        trials=2,
        finalists=0,
        strategy="random",
        store=tmp_path / "s.db",
        progress=False,
    )
    with pytest.raises(SettingError, match="final_seeds=2 counts for nothing"):
        study.resume(final_seeds=2)
    study.store.close()
    with Store(tmp_path / "s.db", read_only=True) as opened:
        assert opened.study("x").config["plan"]["final_seeds"] == 1
