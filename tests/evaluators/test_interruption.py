"""Ctrl-C in a training: the step that it comes in is saved; a second one does not wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from evaluators.tasks.recall import Recall
from evaluators.training import checkpoints
from evaluators.training.fit import fit
from evaluators.training.interruption import between_steps
from evaluators.training.losses import LateLosses
from evaluators.training.network_training import NetworkTraining
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build

TASK = Recall(tokens=12, length=9, pairs=2, sequences=200, windows=8)
SPEC = Decoder(vocab=12, d_model=8, layers=(Layer(sequence_mixer=ShortConv()),))
STEPS = 9


@pytest.fixture(autouse=True)
def _ctrl_c_raises() -> Iterator[None]:
    """Whatever tests before left: other parts of the suite have handlers of their own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted(NetworkTraining):
    """A training in one of whose steps Ctrl-C comes, some times."""

    at, times = STEPS, 1

    def gradients(self) -> LateLosses:
        """Those of the step."""
        losses = super().gradients()
        for _ in range(self.times if self.step + 1 == self.at else 0):
            signal.raise_signal(signal.SIGINT)
        return losses


def training(at: int = 0, times: int = 1) -> NetworkTraining:
    made = Interrupted(build(SPEC, seed=0), TASK, steps=STEPS, seed=0, batch=4)
    made.at, made.times = at, times
    return made


def test_the_step_is_saved_and_the_training_goes_on_from_it(tmp_path: Path) -> None:
    at = Random().randrange(1, STEPS)
    whole = training()
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(training(at), folder=tmp_path)
    heard: list[int] = []
    rest = training()
    fit(rest, folder=tmp_path, on_step=lambda step, loss: heard.append(step))
    assert heard == list(range(at + 1, STEPS + 1))
    for name, tensor in whole.tensors().items():
        assert tensor.equal(rest.tensors()[name]), name


def test_a_second_one_does_not_wait(tmp_path: Path) -> None:
    stopped = training(at=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, folder=tmp_path)
    assert stopped.step == 2
    again = training()
    checkpoints.resume(again, tmp_path, STEPS)
    assert again.step == 0


def test_what_is_not_kept_is_not_waited_for() -> None:
    stopped = training(at=3)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped)
    assert stopped.step == 2


def test_signals_are_as_before_afterwards_and_left_alone_in_threads() -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[object] = []

    def elsewhere() -> None:
        with between_steps() as stopped:
            found.extend((signal.getsignal(signal.SIGINT), stopped()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [before, False]
    with between_steps():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with between_steps() as stopped:
            signal.raise_signal(signal.SIGINT)
            assert not stopped()
    finally:
        signal.signal(signal.SIGINT, before)
