"""Modifiers at the end of a study: what they make joins the front, and kills lose nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from dashboards.app.modified_table import modified_table
from dashboards.facts import read_facts
from dashboards.facts.modified import modified_facts
from dashboards.report.study import report_html
from foundation.errors import SettingError, UnknownName
from nas.modification import figures_of
from nas.modifiers.base import modifier_of
from nas.modifiers.lists import line_of, modifiers_of, texts_of
from nas.modifiers.quantize import Quantize
from nas.modifiers.shrink import Shrink
from nas.steps.base import Context, run_steps
from nas.study.export import best_weights, export
from nas.study.modified import LIST, OF, RECORDS, front_after, then_lines
from nas.study.resuming import _plan
from nas.study.study import Study, open_study
from nas.study.task import task_of
from nas.study.trial import TrialState
from search_spaces.network.model_files import read_config
from tests.forks import Fork, until
from tests.nas.drive import command
from tests.nas.test_crash import write_text
from tests.nas.test_steps import example

THEN = ("prune,pattern=2:4,calibration=2", "distill,steps=60,batch=2", "quantize,method=nearest")
SHORT = {"trials": 3, "baselines": [], "final_seeds": 1, "finalists": 1, "finalist_steps": [2]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modified") / "text"
    write_text(folder)
    return folder


@pytest.fixture(scope="module")
def study(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    made = example(tmp_path_factory.mktemp("study"), text, **SHORT, then=list(THEN))
    run_steps(Context(study=made))
    yield made
    made.store.close()


def test_what_modifiers_make_is_a_measured_point_that_says_what_it_went_through(study: Study) -> None:
    (final,), (trial,) = study.trials("final"), study.trials("modified")
    assert trial.state is TrialState.COMPLETE
    assert trial.memo[OF] == final.digest
    assert [modifier["name"] for modifier in trial.memo[LIST]] == ["prune", "distill", "quantize"]
    assert [record["modifier"] for record in trial.memo[RECORDS]] == trial.memo[LIST]
    assert study.spec(trial).layers[0].bits.weight == 4
    assert trial.values["weight_bytes"].value < final.values["weight_bytes"].value
    assert trial.values["decode_ms"].is_predicted  # by the card, as everything in this study
    model, about = best_weights(study, trial)
    score = figures_of(model, task_of(study)).score
    assert trial.values["bits_per_byte"].value == pytest.approx(score.value)
    assert about["weights"].endswith(
        "then prune,pattern=2:4,calibration=2, then distill,steps=60,batch=2, then quantize,method=nearest"
    )


def test_the_front_afterwards_holds_what_no_other_beats(study: Study) -> None:
    (trial,) = study.trials("modified")
    front = front_after(study)
    assert trial in list(front)
    assert "modified afterwards" in then_lines(study, front)[-1]
    assert study.trial(trial.digest) == trial
    assert trial not in list(study.front())  # whose scores are those of the supernet
    assert {row[0] for row in front.rows} == {""}  # a number would be that of another network
    page = report_html(read_facts(study))
    assert "Modified afterwards" in page
    assert trial.digest in str(modified_table(modified_facts(study), study.name))
    assert trial.digest in page


def test_what_was_made_is_exported_with_its_records(study: Study, tmp_path: Path) -> None:
    (trial,) = study.trials("modified")
    export(study, trial.digest, tmp_path / "out")
    about = read_config(tmp_path / "out")["about"]
    assert about["digest"] == trial.digest
    assert len(about["modified"]) == 3


@pytest.mark.slow
def test_a_list_that_is_killed_goes_on_behind_what_is_done(study: Study, text: Path, tmp_path: Path) -> None:
    killed = example(tmp_path, text, **SHORT, then=list(THEN))
    run_steps(Context(study=killed), ["corpus", "profile", "train", "search", "finalists"])
    folder = killed.folder / "modified"
    killed.store.close()
    words = ["resume", "s", "--store", str(tmp_path / "s.db")]

    def is_pruned() -> bool:
        return any(
            len(read_config(made.parent)["about"].get("modified", [])) == 1
            for made in folder.glob("*/config.json")
        )

    driver = Fork(command, words)
    until(is_pruned, driver)
    assert driver.kill().returncode == -signal.SIGKILL, "it ended before it could be killed"
    ended = Fork(command, words).wait()
    assert ended.returncode == 0, ended.stderr
    assert "pruning" not in ended.stderr
    taken_up = open_study("s", tmp_path / "s.db")
    (once,), (twice,) = study.trials("modified"), taken_up.trials("modified")
    assert (once.genotype, once.values, once.memo) == (twice.genotype, twice.values, twice.memo)
    for (name, weight), other in zip(
        best_weights(study, once)[0].named_parameters(),
        best_weights(taken_up, twice)[0].parameters(),
        strict=True,
    ):
        assert torch.equal(weight, other), name
    taken_up.store.close()


def test_another_list_is_a_point_of_its_own_and_one_that_cannot_be_applied_is_told(
    text: Path, tmp_path: Path
) -> None:
    first = example(tmp_path, text, **SHORT, then=["quantize,method=nearest"])
    run_steps(Context(study=first))
    first.store.close()
    second = example(tmp_path, text, **SHORT, then=["adapt,rank=512"])
    run_steps(Context(study=second))
    made, failed = second.trials("modified")
    assert (made.state, failed.state) == (TrialState.COMPLETE, TrialState.FAILED)
    assert "rank 512 is larger than every matrix" in str(failed.reason)
    lines = then_lines(second, front_after(second))
    assert any("adapt,rank=512 failed: adapt: rank 512" in line for line in lines)
    run_steps(Context(study=second))
    assert second.trials("modified") == [made, failed]
    assert _plan(second, {"then": ["none"]}).then == ()  # `nas resume --then none`
    second.store.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"then": ["pruun"]}, "did you mean 'prune'"),
        ({"then": ["prune,sparsity=2"]}, "modifier 'prune,sparsity=2': sparsity must be"),
        ({"then": ["none", "prune"]}, "none is the empty list, and stands alone"),
        ({"measure": ["serving"]}, "needs requests to serve: name a scenario with arrivals"),
        ({"then": ["{"]}, "no JSON object"),
        ({"then": ["distill,teacher=/nowhere"]}, "distill: there is no folder /nowhere"),
        ({"then": ["prune"], "objectives": ["params"], "finalists": 0}, "nothing is trained"),
        (
            {"then": ["prune"], "objectives": ["bits_per_byte", "recall_error"]},
            "each of bits_per_byte, recall_error has a training of its own",
        ),
    ],
)
def test_what_could_never_be_applied_is_refused_at_once(
    changes: dict[str, Any], message: str, text: Path, tmp_path: Path
) -> None:
    with pytest.raises((SettingError, UnknownName), match=message):
        example(tmp_path, text, **changes)


def test_lists_mean_the_same_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text(json.dumps(["prune", {"name": "shrink", "channels": [0.5, 0.25]}]))
    texts = texts_of(["list.json", Quantize(bits=3), "distill,teacher=there"])
    assert modifiers_of(texts) == (
        modifier_of("prune"),
        Shrink(channels=(0.5, 0.25)),
        Quantize(bits=3),
        modifier_of(f"distill,teacher={tmp_path / 'there'}"),
    )
    assert texts_of("prune,pattern=2:4") == ("prune,pattern=2:4",)
    assert line_of(Shrink(channels=(0.5, 0.25))) == "shrink,channels=[0.5,0.25]"


def test_a_program_says_it_as_the_command_line_does(text: Path, tmp_path: Path) -> None:
    from tests.nas.test_steps import SPACE

    study = nas.search(
        SPACE,
        name="s",
        store=tmp_path / "s.db",
        objectives=["bits_per_byte", "params"],
        evaluator="scratch",
        train_steps=2,
        train_batch=2,
        window=16,
        validation_windows=4,
        trials=2,
        finalists=0,
        data=str(text),
        then=[Quantize(method="nearest")],
        progress=False,
    )
    assert {trial.memo[OF] for trial in study.trials("modified")} == {t.digest for t in study.front()}
