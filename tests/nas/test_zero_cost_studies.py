"""Zero-cost scores in studies: as columns, as objectives, and held against training by a validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nas
from foundation.errors import SettingError, UnknownName
from nas.objectives.zero_cost import SOURCE
from nas.study.facts import VALIDATION
from nas.validation.zero_cost import REFERENCE
from tests.nas.test_several_tasks import SPACE, TASKS

ALL = ("synflow", "snip", "gradient_norm", "naswot", "effective_rank", REFERENCE)


def searched(folder: Path, **settings: Any) -> nas.Study:
    """A study of the recall of little networks."""
    asked: dict[str, Any] = {
        "objectives": ["recall_error", "params"],
        "evaluator": "scratch",
        "strategy": "random",
        "trials": 6,
        "train_steps": 2,
        "train_batch": 4,
        "task_settings": TASKS,
        "finalists": 0,
        "profile_seconds": 0.0,
    }
    return nas.search(SPACE, name="z", store=folder / "s.db", progress=False, **{**asked, **settings})


def test_scores_are_columns_where_they_are_asked_for(tmp_path: Path) -> None:
    study = searched(tmp_path, zero_cost=ALL)
    for trial in study.complete():
        assert {trial.values[name].source for name in ALL} == {SOURCE}
        assert trial.values[REFERENCE].value == trial.values["params"].value - 256 * 8
    assert all(len(point) == 2 for point in study.points(study.complete()))
    assert set(ALL) <= set(study.front().columns)
    plain = searched(tmp_path / "plain")
    assert not set(ALL) & set(plain.complete()[0].values)


def test_a_score_is_an_objective_by_name_and_needs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog " * 900)
    study = searched(tmp_path, objectives=["synflow", "params"], data=str(text), window=16, task_settings={})
    assert not (study.folder / "scratch").exists()
    best = max(study.complete(), key=lambda trial: trial.values["synflow"].value)
    assert best.digest in {trial.digest for trial in study.front()}  # it is maximised
    assert "corpus" in study.facts


def test_a_validation_ranks_trained_networks_by_every_score(tmp_path: Path) -> None:
    study = searched(tmp_path, train_steps=2)
    validation = study.validate(scratch_networks=5, train_steps=3, random_baseline=0, progress=False)
    assert validation.zero_cost is not None
    assert {name for name, _ in validation.zero_cost.agreements} >= set(ALL)
    told = study.facts[VALIDATION]["zero_cost"]
    assert told["networks"] == 5
    assert told["verdict"] in validation.lines
    assert any(
        line.startswith("zero-cost scores against recall_error of 5 trained") for line in validation.lines
    )


def test_where_the_search_trained_all_its_networks_are_ranked(tmp_path: Path) -> None:
    study = searched(tmp_path, train_steps=2)
    validation = study.validate(scratch_networks=5, train_steps=2, random_baseline=0, progress=False)
    assert validation.zero_cost is not None
    assert validation.zero_cost.networks == len(study.complete())


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"zero_cost": ("sinflow",)}, UnknownName, "zero-cost score 'sinflow'; did you mean 'synflow'"),
        ({"zero_cost": ("params",)}, UnknownName, "unknown zero-cost score 'params'"),
        ({"constraints": ("synflow>1",)}, SettingError, "synflow is a zero-cost score, never a bound"),
        (
            {
                "objectives": ["recall_error", "snip"],
                "engine": "exact",
                "evaluator": "supernet",
                "strategy": "auto",
            },
            SettingError,
            "engine exact knows scores and costs, not zero-cost scores",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        searched(tmp_path, **settings)
