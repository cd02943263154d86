"""A training that runs says how far and how fast it is, and nothing once it has ended."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from evaluators.supernet import training as supernet_module
from evaluators.supernet.sandwich import Sandwich
from evaluators.supernet.training import SupernetTraining
from evaluators.training import live as module
from evaluators.training.fit import fit
from evaluators.training.live import FOLDER, OLD_SECONDS, Live, LiveNote, read_live
from evaluators.training.network_training import NetworkTraining
from evaluators.training.pace import Pace
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from tests.evaluators import tiny


@pytest.fixture
def training(tmp_path: Path) -> NetworkTraining:
    return NetworkTraining(build(tiny.decoder()), tiny.task(tmp_path), steps=4, seed=0, batch=2)


def test_a_training_tells_while_it_runs_and_takes_its_note_away(
    training: NetworkTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.0)
    folder, seen = tmp_path / "study" / "scratch", list[Live]()
    fit(training, folder=folder, on_step=lambda step, loss: seen.extend(read_live(folder.parent)))
    assert [live.step for live in seen] == [1, 2, 3, 4]
    assert {live.steps for live in seen} == {4}
    assert all(live.tokens_per_second > 0 and live.peak_share is None for live in seen)
    assert not (folder / FOLDER).exists()
    assert list(folder.glob("*.safetensors")), "checkpoints stay"


def test_a_note_is_written_now_and_then_and_only_where_somebody_can_read_it(
    training: NetworkTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    pace = Pace(tokens=10, flops=2.0, peak=100.0, _rates=[1.0] * 9 + [4.0] * 5)
    assert (pace.tokens_now, pace.tokens_per_second, pace.peak_share_now) == (40.0, 10.0, 0.08)
    with LiveNote(tmp_path / "a", training, pace) as note:
        for now[0], loss, told in (
            (104.0, 4.0, []),
            (105.5, 3.0, [3.0]),
            (107.0, 2.0, [3.0]),
            (111.0, 1.0, [1.0]),
        ):
            note.tell(loss)
            assert [live.loss for live in read_live(tmp_path)] == told
        assert next(read_live(tmp_path)).peak_share == 0.08
    for quiet in (
        LiveNote(None, training, pace),
        LiveNote(tmp_path / "a", training, pace, writes=False),
        LiveNote(tmp_path / "a", training, Pace()),
    ):
        with quiet as note:
            now[0] += 100
            note.tell(1.0)
            assert list(read_live(tmp_path)) == []


def test_what_was_killed_or_damaged_is_not_told(tmp_path: Path) -> None:
    folder, now = tmp_path / "supernet" / FOLDER, time.time()
    folder.mkdir(parents=True)
    whole = {"step": 3, "steps": 9, "loss": 1.0, "tokens_per_second": 7, "told": now}
    for name, note in {
        "whole": whole,
        "killed": {**whole, "told": now - 2 * OLD_SECONDS},
        "text": {**whole, "step": "<x>"},
        "list": [],
        "negative": {**whole, "tokens_per_second": -1},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(note))
    (folder / "torn.json").write_text('{"step": 3')
    assert list(read_live(tmp_path)) == [Live(3, 9, 1.0, 7.0, None, now)]


def test_a_disk_that_is_full_ends_no_training(
    training: NetworkTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.0)

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", full)
    fit(training, folder=None)
    with LiveNote(tmp_path, training, Pace(tokens=1)) as note:
        note.tell(1.0)
        note.tell(1.0)
    assert caplog.text.count("No space left on device") == 1


def test_the_work_of_a_supernet_is_that_of_the_networks_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernet_module, "peak_of", lambda device, precision: 1e12)
    layer = Layer(
        sequence_mixer=Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=4),
        channel_mixer=SwiGLU(expansion=one_of(1, 2)),
    )
    space, task = Space(Decoder(vocab=256, d_model=8, layers=(layer,))), tiny.task(tmp_path)
    pace = SupernetTraining(space, task, steps=2, seed=0, batch=2).pace
    pace.add()
    scenario, works = Scenario(batch=2, prompt=task.length), []
    for step in range(supernet_module.COUNTED):
        networks = Sandwich(space, 0).of(step)
        works.append(3.0 * sum(network.cost(scenario).prefill_flops for network in networks))
    assert callable(pace.flops)
    assert pace.flops() == pytest.approx(sum(works) / len(works))
    assert pace.peak_share == pytest.approx(pace.flops() * pace.steps_per_second / 1e12, rel=0.5)
