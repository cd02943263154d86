"""`nas scale`: a law is chosen, a family is trained and measured, and what is on record is not done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nas
from nas.cli import run
from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.swiglu import SwiGLU


def space() -> Space:
    mixer = GatedLinearAttention(num_heads=2, head_dim=8, state_dim=4)
    layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=one_of(1, 2)))
    return Space(Decoder(vocab=64, d_model=16, layers=(layer,)), name="tiny")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    settings: dict[str, Any] = {"train_steps": 4, "train_batch": 4, "window": 16, "validation_windows": 8}
    nas.search(
        space(),
        name="tiny",
        objectives=["recall_error", "params"],
        evaluator="scratch",
        trials=2,
        finalists=0,
        progress=False,
        store=folder / "s.db",
        **settings,
    )
    return folder


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def scale(*words: str) -> int:
    return run(["scale", "tiny", "0", "--store", "s.db", *words])


def test_a_family_is_trained_and_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--factors", "2,4", "--by", "params", "--train-steps", "6", "--parts", "2")
    assert scale(*words) == 0
    printed = capsys.readouterr().out
    assert "law of" in printed
    study = nas.open("tiny", "s.db")
    trials = study.trials("scaled")
    members = [trial for trial in trials if trial.fidelity.steps == 6]
    base, double, fourfold = (trial.values["params"].value for trial in members)
    assert abs(double / base / 2 - 1) <= 0.1
    assert abs(fourfold / base / 4 - 1) <= 0.1
    assert {trial.values["recall_error"].source for trial in members} == {"scratch"}
    assert study.facts["scaling"][study.trial(0).digest]["factors"] == [2.0, 4.0]
    assert all(trial.digest in printed for trial in members)
    assert scale(*words) == 0
    assert nas.open("tiny", "s.db").trials("scaled") == trials
    exported = study.export(members[2].digest, "fourfold")
    assert nas.load(exported).spec == study.spec(members[2])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--by", "recall_error"), "only known after training"),
        (("--by", "prams"), "did you mean 'params'"),
        (("--by", "decode_ms"), "no latency table"),
        (("--factors", "4,2"), "grow"),
        (("--factors", "1,2"), "more than 1"),
        (("--factors", "2", "--train-steps", "0"), "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scale(*words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
