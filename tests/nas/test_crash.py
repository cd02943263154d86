"""Real kills: `kill -9` of the driver at random moments, then going on, loses and doubles nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from foundation.errors import NasError, StoreError
from nas.store import Store
from nas.study.study import open_study
from nas.study.trial import TrialState
from tests.forks import Fork, until
from tests.nas.drive import command, toy_search

KILLS = 5


def finish(fork: Fork) -> None:
    ended = fork.wait()
    assert ended.returncode == 0, ended.stderr


def kill(fork: Fork) -> None:
    assert fork.kill().returncode == -signal.SIGKILL, "it ended before it could be killed"


def done(path: Path) -> int:
    """Trials that are in the store, running or not; 0 while there is none."""
    try:
        with Store(str(path), read_only=True) as store:
            return sum(len(store.trials(record.id)) for record in store.studies())
    except StoreError:  # not there, or not made yet
        return 0


def holds(path: Path, trials: int) -> bool:
    return done(path) >= trials


def records(path: Path, name: str) -> list[tuple[Any, ...]]:
    study = open_study(name, path)
    trials = study.trials() + study.trials("final")
    assert not [t for t in trials if t.state is TrialState.RUNNING]
    study.store.close()
    return [
        (t.stage, t.number, t.genotype, t.state, t.fidelity, t.values, dict(t.memo), t.reused) for t in trials
    ]


@pytest.mark.parametrize(
    "strategy",
    ["auto", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nsga2", "random", "motpe", "local"))],
)
def test_killed_and_resumed_equals_uninterrupted(strategy: str, tmp_path: Path) -> None:
    finish(Fork(toy_search, str(tmp_path / "whole.db"), strategy))
    path, dice = tmp_path / "killed.db", Random(f"kill {strategy}")
    for moment in sorted(dice.sample(range(3, 80), KILLS)):
        driver = Fork(toy_search, str(path), strategy)
        until(partial(holds, path, max(moment, done(path) + 2)), driver)
        time.sleep(dice.random() * 0.01)
        kill(driver)
    finish(Fork(toy_search, str(path), strategy))
    assert records(path, "crash") == records(tmp_path / "whole.db", "crash")


TINY = """
from search_spaces import Bits, Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU

layer = Layer(
    sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8), ShortConv()),
    channel_mixer=SwiGLU(expansion=one_of(1, 2)),
    bits=Bits(weight=one_of(4, 16), state=one_of(8, 16)),
)
space = Space(Decoder(d_model=one_of(16, 24), layers=repeat(layer, (1, 2))), name="tiny")
"""


def write_text(folder: Path) -> None:
    """Some files of text that is easy to learn."""
    folder.mkdir()
    dice = Random(0)
    words = ["def", "return", "while", "for", "in", "range", "x", "y", "(", ")", ":", "\n    ", "\n"]
    for number in range(4):
        text = " ".join(dice.choice(words) for _ in range(5000))
        (folder / f"{number}.py").write_text(text)


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """The command line of a small language-model study; its phases last about a second each."""
    (tmp_path / "tiny.py").write_text(TINY)
    write_text(tmp_path / "text")
    settings = "--train-steps 60 --train-batch 2 --window 32 --trials 25 --finalists 3 --finalist-steps 10,25"
    objectives = "-o bits_per_byte -o weight_bytes"
    data = ["--data", str(tmp_path / "text")]
    return ["search", str(tmp_path / "tiny.py"), *data, *settings.split(), *objectives.split()]


@pytest.mark.slow
def test_a_language_model_study_survives_kills_in_every_phase(tiny: list[str], tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "s.db", tmp_path / "killed" / "s.db"
    finish(Fork(command, [*tiny, "--store", str(whole)]))
    folder = killed.parent / "tiny"
    words = [*tiny, "--store", str(killed)]
    moments: list[Callable[[], bool]] = [
        lambda: recorded(killed),
        lambda: (folder / "supernet" / "curve.json").exists(),  # in the supernet's training
        lambda: done(killed) > 3,
        lambda: done(killed) > 20,
        (folder / "scratch").exists,
        lambda: finals(killed) > 3,
    ]
    for reached in moments:
        driver = Fork(command, words)
        until(reached, driver)
        kill(driver)
        words = ["resume", "tiny", "--store", str(killed)]
    finish(Fork(command, words))
    assert records(killed, "tiny") == records(whole, "tiny")
    assert losses(killed) == losses(whole)


def recorded(path: Path) -> bool:
    """Whether the study is on record: before, there is nothing to resume."""
    try:
        with Store(str(path), read_only=True) as store:
            return bool(store.study("tiny"))
    except NasError:
        return False


def finals(path: Path) -> int:
    with Store(str(path), read_only=True) as store:
        return len(store.trials(store.study("tiny").id, "final"))


def losses(path: Path) -> list[list[float]]:
    """The loss curve of the supernet's training."""
    study = open_study("tiny", path)
    curve: list[list[float]] = study.facts["supernet"]["loss"]
    study.store.close()
    return curve
