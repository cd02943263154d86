"""`nas supernet train` and `nas supernet info`, as a person types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from evaluators.supernet.folder import NoSupernet, OtherSpace, Unfinished, describe, open_supernet
from evaluators.supernet.shrinking import SHRINKING
from foundation.errors import SettingError, UnknownName
from nas.cli import app
from nas.study.space_files import load_space
from nas.study.study import open_study

SPACE = """
from dataclasses import dataclass
from search_spaces.blocks.base import blocks
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.language.space import Space

@blocks.add
@dataclass(frozen=True, kw_only=True)
class OwnConv(ShortConv):
    pass

space = Space(Decoder(vocab=64, d_model=one_of(4, 8), layers=(Layer(sequence_mixer=OwnConv()),)), name="own")
"""
SMALL = ("--task", "recall", "--train-steps", "5", "--train-batch", "4", "--validation-windows", "6")


@pytest.fixture
def space(tmp_path: Path) -> str:
    """A file with a block of its own."""
    (tmp_path / "own.py").write_text(SPACE)
    return str(tmp_path / "own.py")


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["supernet", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_supernet_is_trained_once_and_tells_what_it_is(tmp_path: Path, space: str) -> None:
    folder = str(tmp_path / "net")
    assert f"{folder}: 5 steps in" in said(
        "train", space, "-o", folder, *SMALL, "--recipe", "supernet.networks=3"
    )
    before = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    assert "5 steps in" in said("train", space, "-o", folder, *SMALL, "--recipe", "supernet.networks=3")
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == before
    told = said("info", folder)
    assert "space     own" in told
    assert "5 of 5 steps, finished" in told
    assert (
        "phases full, sizes, depth, width; 3 networks a step, each with a batch of its own; batch 4;" in told
    )
    assert "seed 0; float32" in told
    assert re.search(r"weights   \S+-5.safetensors, whole by its hash", told)
    plain = json.loads(said("info", folder, "--json"))
    assert plain["progress"]["step"] == 5
    assert plain["task"]["settings"]["windows"] == 6
    evaluator = open_supernet(folder)
    assert evaluator.recipe.supernet.phases == SHRINKING
    assert evaluator.unit == "share of wrong answers"


def test_what_does_not_fit_is_refused(tmp_path: Path, space: str) -> None:
    folder = str(tmp_path / "net")
    said("train", space, "-o", folder, *SMALL)
    with pytest.raises(SettingError, match=r"another recipe \(supernet.phases="):
        said("train", space, "-o", folder, *SMALL, "--recipe", "supernet.phases=whole")
    with pytest.raises(NoSupernet):
        said("info", str(tmp_path))
    with pytest.raises(UnknownName, match="did you mean 'recall'"):
        said("train", space, "-o", folder, "--task", "recal")
    begun = open_supernet(folder)
    elsewhere = tmp_path / "elsewhere"
    describe(replace(begun, folder=str(elsewhere)), load_space(space))
    assert "0 of 5 steps, not begun" in said("info", str(elsewhere))
    with pytest.raises(Unfinished):
        open_supernet(elsewhere)


def search(space: str, tmp_path: Path, *words: str) -> Result:
    given = ("-o", "recall_error", "-o", "weight_bytes", "--trials", "2", "--finalists", "0")
    stored = ("--store", str(tmp_path / "s.db"))
    return CliRunner().invoke(app, ["search", space, *given, *stored, *words])


def test_a_folder_of_something_else_is_no_place_for_a_supernet(tmp_path: Path, space: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("kept")
    done = CliRunner().invoke(app, ["supernet", "train", space, "-o", str(mine), *SMALL])
    assert isinstance(done.exception, SettingError)
    assert "is not empty and holds no supernet: choose another folder" in str(done.exception)
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_a_trained_supernet_is_searched_without_training(tmp_path: Path, space: str) -> None:
    folder = tmp_path / "net"
    said("train", space, "-o", str(folder), *SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for engine in ("ofa", "random"):
        words = ("--name", engine, "--engine", engine, "--supernet", str(folder))
        done = search(space, tmp_path, *words)
        assert done.exit_code == 0, done.output
        study = open_study(engine, str(tmp_path / "s.db"))
        assert (study.plan.train_steps, study.plan.train_batch, study.plan.validation_windows) == (5, 4, 6)
        assert study.facts["supernet"]["folder"] == str(folder)
        assert len(study.facts["supernet"]["loss"]) == 5
        trial = study.complete()[0]
        assert trial.fidelity.steps == 5
        evaluator = open_supernet(folder)
        assert evaluator.score(study.spec(trial), 0, 0).value == trial.values["recall_error"].value
        assert not (study.folder / "supernet").exists()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_supernet_that_does_not_fit_a_search_is_refused_at_once(tmp_path: Path, space: str) -> None:
    folder = str(tmp_path / "net")
    said("train", space, "-o", folder, *SMALL)
    for words, why in (
        (("--window", "24"), SettingError),
        (("--evaluator", "scratch"), SettingError),
    ):
        done = search(space, tmp_path, "--supernet", folder, *words)
        assert isinstance(done.exception, why)
    done = CliRunner().invoke(
        app, ["search", "laptop", "--supernet", folder, "--store", str(tmp_path / "t.db")]
    )
    assert isinstance(done.exception, OtherSpace)


@pytest.mark.slow
def test_several_processes_know_the_blocks_of_a_file(tmp_path: Path, space: str) -> None:
    load_space(space)  # what reads the weights must know the block, too
    words = ("supernet", "train", space, "-o", str(tmp_path / "net"), *SMALL, "--processes", "2")
    done = subprocess.run(
        [sys.executable, "-m", "nas.cli", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert open_supernet(tmp_path / "net").steps == 5
