"""`nas train`: from a zoo point, a trial and a folder, on and on, and everything that is refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from evaluators.training import regions
from foundation.errors import SettingError
from nas.cli import REFUSED, run
from nas.signals import STOPPED
from nas.training.settings import TrainingSettings
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import save_model
from tests.evaluators.tiny import WORDS

SMALL = ("--window", "16", "--validation-windows", "4", "--train-batch", "4")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(WORDS * 700))
    return str(path)


def train(*words: str) -> int:
    return run(["train", *words])


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is printed where a command is refused."""
    assert train(*words) == REFUSED
    return " ".join(capsys.readouterr().err.split())


def told_all(capsys: pytest.CaptureFixture[str]) -> str:
    """All that was printed, in one line."""
    return " ".join("".join(capsys.readouterr()).split())


def test_a_training_goes_on_in_its_folder(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("zoo:transformer", "-o", "out", "--data", text, *SMALL)
    assert train(*words, "--steps", "3") == 0
    assert "out: 3 steps" in capsys.readouterr().out
    early = nas.load("out")
    assert train("out", "--steps", "5") == 0
    assert "out: 5 steps" in capsys.readouterr().out
    assert not torch.equal(early.embedding, nas.load("out").embedding)
    about = json.loads(Path("out/config.json").read_text())["about"]
    assert about["training"]["step"] == 5
    assert about["architecture"] == "transformer"
    assert train(*words, "--steps", "5") == 0  # the same words again find it done
    assert "a training with another batch" in told(capsys, "out", "--steps", "6", "--train-batch", "2")
    assert train("out", "--steps", "6") == 0  # which changed nothing


def test_a_training_that_was_killed_is_not_taken_for_its_start(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("zoo:transformer", "-o", "my out", "--data", text, *SMALL, "--steps", "2")

    def killed(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("nas.training.train.runs.run", killed)
        assert train(*words) == STOPPED + signal.SIGINT
    capsys.readouterr()
    assert run(["generate", "my out"]) == REFUSED
    told = capsys.readouterr().err
    command = shlex.join(["nas", "train", str(Path("my out").absolute())])
    assert told == f"nas: my out is unfinished: a training was begun there, and goes on with `{command}`\n"
    assert run(["prune", "my out", "-o", "other"]) == REFUSED
    assert "is unfinished" in capsys.readouterr().err
    assert train("my out") == 0
    nas.load("my out")


def test_weights_that_know_unknown_tokens_are_told_of(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU())
    save_model(build(Decoder(vocab=300, d_model=8, layers=(layer,))), "imported", {})
    begin = ("--data", text, *SMALL, "--steps", "1")
    for words, doubted in (
        (("imported", "-o", "out", *begin), True),
        (("out", "--steps", "2"), False),  # said before
        (("zoo:transformer", "-o", "new", *begin), False),  # its weights know nothing
    ):
        assert train(*words) == 0
        told = " ".join("".join(capsys.readouterr()).split())
        assert ("the network has no tokenizer" in told) == doubted


def test_a_folder_without_a_training_begins_one_elsewhere(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("zoo:transformer", "-o", "one", "--data", text, *SMALL, "--steps", "1") == 0
    training = Path("one/training")
    training.rename("aside")
    assert "name the folder to write: --output" in told(capsys, "one")
    assert "holds an exported model" in told(capsys, "one", "-o", "one")
    weights = Path("one/model.safetensors").read_bytes()
    for same in ("one", "./two/../one"):
        assert "is the network to begin with" in told(capsys, "one", "-o", same, "--force")
    assert Path("one/model.safetensors").read_bytes() == weights
    assert (
        train("one", "-o", "two", "--data", text, *SMALL, "--steps", "1", "--checkpoint-activations", "all")
        == 0
    )
    assert Path("two/training/step-1/index.json").is_file()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("zoo:transformer",), "name the folder to write: --output FOLDER"),
        (("zoo:transformerr", "-o", "x"), "did you mean 'transformer'"),
        (("nowhere", "-o", "x"), "there is no folder nowhere: name a folder, zoo:NAME"),
        (("zoo:transformer", "3", "-o", "x"), "is one network: there is no '3' of it"),
        (("zoo:transformer", "-o", "x", "--parallel", "tp=3"), "--parallel tp=3: layers.0.sequence_mixer: "),
        (("zoo:transformer", "-o", "x", "--parallel", "pp=99"), "--parallel pp=99: each stage needs a layer"),
        (("zoo:transformer", "-o", "x", "--parallel", "pp=2"), "got --accumulate 1: a pipeline is filled"),
        (("zoo:transformer", "-o", "x", "--parallel", "dp=3"), "choose a multiple of 3 (--train-batch)"),
        (("zoo:transformer", "-o", "x", "--parallel", "dp=0"), "--parallel dp=0: dp must be at least 1"),
        (
            ("zoo:transformer", "-o", "x", "--parallel", "pp=2,fsdp=2"),
            "--parallel pp=2,fsdp=2: pp and fsdp do not",
        ),
        (("zoo:transformer", "-o", "x", "--parallel", "dq=2"), "--parallel dq=2: no method 'dq'"),
        (
            ("zoo:transformer", "-o", "x", "--parallel", "dp"),
            "--parallel dp: 'dp': write dp=PROCESSES; methods are dp, fsdp, pp and tp",
        ),
        (("zoo:lfm2", "-o", "x", "--parallel", "tp=2"), "tp.whole=true"),
        (("zoo:transformer", "-o", "x", "--checkpoint-activations", "1000"), "with every layer recomputed"),
        (
            ("zoo:transformer", "-o", "x", "--checkpoint-activations", "some"),
            "--checkpoint-activations must be a whole number",
        ),
        (("zoo:transformer", "-o", "x", "--train-on", "cuda:77"), "cuda:77"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: tuple[str, ...], why: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(os.listdir())
    assert why in told(capsys, *words, "--data", text, *SMALL)
    assert set(os.listdir()) == before


def test_a_dry_run_tells_the_bytes_of_every_method(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("zoo:transformer", "--parallel", "fsdp=2", "--dry-run", "--data", text, *SMALL) == 0
    printed = capsys.readouterr().out
    for name in ("fsdp=2", "dp=2,dp.zero=1", "fsdp=2,fsdp.reshard=false", "tp=2", "pp=2"):
        assert f"{name} " in printed
    assert not Path("unused").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those that the compiler itself sets off
def test_what_is_compiled_is_said_and_does_not_name_a_training(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "_compiled", {})
    words = ("zoo:transformer", "--data", text, *SMALL)
    assert train(*words, "--dry-run") == 0
    assert "nothing is compiled" in capsys.readouterr().err
    traced = ("--compile", "aot_eager", "--compile-seconds", "500")
    assert train(*words, "-o", "out", "--steps", "1", *traced) == 0
    assert "and the head are compiled once (aot_eager), for 500 s at most" in told_all(capsys)
    assert len(regions._compiled) == 3  # attention, its channel mixer, the head
    assert train("out", "--steps", "2") == 0
    assert "are compiled" not in told_all(capsys)
    torch.compiler.reset()


def test_what_is_compiled_follows_the_device_and_the_steps() -> None:
    def of(**given: Any) -> tuple[str, float]:
        how = TrainingSettings(**given).execution
        return how.compile, how.compile_seconds

    assert of() == ("none", 60)
    assert of(train_on="cuda") == ("inductor", 60)
    assert of(train_on="cuda", steps=500) == ("inductor", 30)
    assert of(train_on="cuda", steps=20)[0] == "none"
    assert of(train_on="cuda", steps=20, compile_seconds=90.0) == ("inductor", 90)
    assert of(train_on="cuda", compile="none")[0] == of(compile="none")[0] == "none"
    assert of(compile="aot_eager", steps=20)[0] == "aot_eager"
    with pytest.raises(SettingError, match="compile must be one of none, inductor, aot_eager"):
        TrainingSettings(compile="always")


def test_damaged_checkpoints_are_never_believed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("zoo:transformer", "-o", "out", "--data", text, *SMALL, "--steps", "2") == 0
    for part in Path("out/training").glob("step-*/part-0.safetensors"):
        part.write_bytes(part.read_bytes()[:-7])
    assert "holds no whole checkpoint: remove it to begin anew" in told(capsys, "out", "--steps", "3")
    Path("out/training/settings.json").write_text("[]")
    assert "settings.json is damaged" in told(capsys, "out", "--steps", "3")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["", "dp=2"])
def test_ctrl_c_saves_and_the_same_words_go_on(parallel: str, text: str) -> None:
    words = [sys.executable, "-m", "nas.cli", "train", "zoo:transformer", "-o", "out", "--data", text, *SMALL]
    words += ["--steps", "100000", "--parallel", parallel]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        _wait_for_steps(running)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == STOPPED + signal.SIGINT, errors
    assert "Traceback" not in errors
    saved = max(int(path.parent.name[5:]) for path in Path("out/training").glob("step-*/index.json"))
    assert saved > 0
    assert train("out", "--steps", str(saved + 1)) == 0


@pytest.mark.slow
def test_a_killed_process_ends_the_training_with_one_line(text: str) -> None:
    words = [sys.executable, "-m", "nas.cli", "train", "zoo:transformer", "-o", "out", "--data", text, *SMALL]
    words += ["--steps", "100000", "--parallel", "dp=2"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        _wait_for_steps(running)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        trained = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(trained[-1]), signal.SIGKILL)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    failed = [line for line in errors.splitlines() if line.startswith("nas: ")]
    assert len(failed) == 1
    assert "process" in failed[0]


def _wait_for_steps(running: subprocess.Popen[str]) -> None:
    """Until the first progress is told."""
    assert running.stderr is not None
    began = time.monotonic()
    for line in running.stderr:
        if line.startswith("training: "):
            return
        assert time.monotonic() - began < 120, line
    raise AssertionError("it ended before its first step")
