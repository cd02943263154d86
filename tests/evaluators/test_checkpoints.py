"""Checkpoints: only those of the same training are continued, and a damaged one is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluators.training import checkpoints
from evaluators.training.fit import fit
from evaluators.training.losses import Losses
from evaluators.training.recipe import DEFAULT
from evaluators.training.trainable import Trainable, Trajectory
from foundation.errors import EvaluationFailed, FileError, NoFile
from search_spaces.network.scaling import ELEMENTWISE
from tests.limits import largest_file


class Line(Trainable):
    """Weights [size] that learn to be ones: the smallest training there is."""

    def __init__(self, *, size: int = 3, seed: int = 0, steps: int = 6) -> None:
        start = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        super().__init__(
            {"line": nn.Parameter(start)},
            {"line": 0.1},
            {"line": ELEMENTWISE},
            DEFAULT,
            schedule=DEFAULT.schedule,
            rate=1,
            tokens=1,
            steps=steps,
        )
        self.seed = seed

    @property
    def trajectory(self) -> Trajectory:
        recipe = DEFAULT.of_networks()
        return Trajectory("line", {"line": 0.1}, "ones", self.seed, 1, recipe, None, self.origin)

    @property
    def progress(self) -> dict[str, int]:
        return {"left": self.steps - self.step}

    def gradients(self) -> Losses:
        loss = (self.parameters["line"] - 1).square().sum()
        loss.backward()
        return Losses((loss.item(),), {"the loss": loss.item()})


def trained(folder: Path, until: int, **settings: int) -> Line:
    training = Line(**settings)
    fit(training, folder=folder, until=until)
    return training


def only(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


@given(stops=st.lists(st.integers(1, 6), max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_training_that_stops_anywhere_ends_alike(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("stops")
    for until in sorted(stops):
        trained(folder, until)
    continued, whole = trained(folder, 6), Line()
    fit(whole)
    assert torch.equal(continued.parameters["line"], whole.parameters["line"])
    assert checkpoints.step_of(only(folder)) == 6


def test_weights_of_another_shape_are_not_taken_up(tmp_path: Path) -> None:
    trained(tmp_path, 3)
    wider = Line(size=4)
    assert checkpoints.resume(wider, tmp_path, 6) == 0
    assert len(wider.parameters["line"]) == 4


def test_another_training_leaves_the_checkpoint_alone(tmp_path: Path) -> None:
    trained(tmp_path, 3)
    other = Line(seed=1)
    assert checkpoints.resume(other, tmp_path, 6) == 0
    fit(other, folder=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert checkpoints.resume(Line(), tmp_path, 6) == 3


def test_given_weights_make_another_training(tmp_path: Path) -> None:
    trained(tmp_path, 3)
    started = Line()
    started.start_from({"line": torch.zeros(3)})
    assert checkpoints.resume(started, tmp_path, 6) == 0


def test_a_checkpoint_beyond_the_steps_is_not_taken(tmp_path: Path) -> None:
    trained(tmp_path, 5)
    assert checkpoints.resume(Line(), tmp_path, 4) == 0
    assert checkpoints.resume(Line(), tmp_path, 5) == 5


def test_a_file_of_another_name_is_checked_by_its_header(tmp_path: Path) -> None:
    trained(tmp_path, 3)
    path = only(tmp_path)
    path.rename(checkpoints.path_of(Line(), tmp_path, 5))
    assert checkpoints.resume(Line(), tmp_path, 6) == 0, "its header names step 3"
    other = checkpoints.path_of(Line(seed=1), tmp_path, 3)
    only(tmp_path).rename(other)
    assert checkpoints.resume(Line(seed=1), tmp_path, 6) == 0, "its header names another seed"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    trained(tmp_path, 2)
    only(tmp_path).write_bytes(content)
    assert checkpoints.resume(Line(), tmp_path, 6) == 0
    fit(Line(), folder=tmp_path)
    assert checkpoints.resume(Line(), tmp_path, 6) == 6


def test_a_file_without_a_header_is_no_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path, 2)
    tensors: dict[str, Tensor] = load_file(only(tmp_path))
    save_file(tensors, only(tmp_path))
    assert checkpoints.resume(Line(), tmp_path, 6) == 0
    assert checkpoints.progress_in(only(tmp_path)) == {}


def test_progress_is_in_the_header(tmp_path: Path) -> None:
    trained(tmp_path, 2)
    assert checkpoints.progress_in(only(tmp_path)) == {"left": 4}
    only(tmp_path).write_bytes(b"{")
    with pytest.raises(ValueError, match=r"\S"):
        checkpoints.progress_in(only(tmp_path))


@pytest.mark.parametrize(
    ("name", "step"), [("abc-12", 12), ("abc", -1), ("a-b-3", 3), ("abc-", -1), ("x--2", 2)]
)
def test_the_step_is_in_the_name(name: str, step: int) -> None:
    assert checkpoints.step_of(Path(f"{name}.safetensors")) == step


def test_a_folder_that_cannot_be_written_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        checkpoints.save(Line(), tmp_path / "file")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    training = trained(tmp_path, 2)
    old = only(tmp_path).read_bytes()
    with largest_file(100), pytest.raises(FileError, match=f"cannot write {tmp_path}.*: .*File too large"):
        checkpoints.save(training, tmp_path)
    assert only(tmp_path).read_bytes() == old


def test_trajectories_are_named_by_everything_in_them() -> None:
    trajectory = Line().trajectory
    digests = {trajectory.digest, Line(seed=1).trajectory.digest}
    for change in (
        {"steps": 3},
        {"origin": "given"},
        {"task": "twos"},
        {"batch": 2},
        {"rates": {"line": 0.2}},
    ):
        digests.add(Trajectory(**{**trajectory.__dict__, **change}).digest)
    assert len(digests) == 7
    assert all(len(digest) == 16 for digest in digests)
    assert json.dumps(trajectory.__dict__)


def changed(path: Path, name: str, change: Callable[[Tensor], Tensor], *, honest: bool = False) -> None:
    """Change a tensor in a checkpoint; an honest change has the right hash."""
    with safe_open(path, "pt") as file:
        header: dict[str, str] = file.metadata()
    tensors: dict[str, Tensor] = load_file(path)
    tensors[name] = change(tensors[name])
    if honest:
        texts = {key: text for key, text in header.items() if key != "hash"}
        header["hash"] = checkpoints.content_hash(tensors, texts)
    save_file(tensors, path, header)


@pytest.mark.parametrize("name", ["weight/line", "m/line", "step/line"])
def test_a_changed_value_is_noticed(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, 3)
    names = list(load_file(only(tmp_path)))
    changed(only(tmp_path), name if name in names else names[-1], lambda tensor: tensor + 1e-3)
    assert checkpoints.resume(Line(), tmp_path, 6) == 0
    (line,) = caplog.messages
    assert "is damaged: its content is not what was written; it is left out" in line
    whole = Line()
    fit(whole)
    assert torch.equal(trained(tmp_path, 6).parameters["line"], whole.parameters["line"])


def test_every_flipped_bit_is_noticed_or_means_nothing(tmp_path: Path) -> None:
    """The header may have other spaces at its end; nothing else goes unnoticed."""
    trained(tmp_path, 3)
    path, right = only(tmp_path), Line()
    checkpoints.resume(right, tmp_path, 6)
    content, dice = path.read_bytes(), Random(0)
    for _ in range(200):
        place, bit = dice.randrange(len(content)), dice.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        line = Line()
        if checkpoints.resume(line, tmp_path, 6):
            assert torch.equal(line.parameters["line"], right.parameters["line"])
            assert content[place : place + 1].isspace()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_neither_kept_nor_taken_up(tmp_path: Path, value: float) -> None:
    training = trained(tmp_path, 3)
    changed(only(tmp_path), "weight/line", lambda tensor: tensor * value, honest=True)
    assert checkpoints.resume(Line(), tmp_path, 6) == 0
    training.parameters["line"].data *= value
    with pytest.raises(EvaluationFailed, match="weight/line is not finite after step 3"):
        checkpoints.save(training, tmp_path)


def test_tensors_that_nobody_asked_for_are_not_taken_up(tmp_path: Path) -> None:
    trained(tmp_path, 3)
    with safe_open(only(tmp_path), "pt") as file:
        header: dict[str, str] = file.metadata()
    tensors: dict[str, Tensor] = {**load_file(only(tmp_path)), "weight/other": torch.ones(1)}
    texts = {key: text for key, text in header.items() if key != "hash"}
    save_file(tensors, only(tmp_path), {**texts, "hash": checkpoints.content_hash(tensors, texts)})
    assert checkpoints.resume(Line(), tmp_path, 6) == 0


def test_a_checkpoint_is_verified_without_its_training(tmp_path: Path) -> None:
    trained(tmp_path, 3)
    checkpoints.verify(tmp_path, 3, {"spec": "line", "seed": 0})
    with pytest.raises(NoFile, match="no checkpoint of step 4"):
        checkpoints.verify(tmp_path, 4, {})
    with pytest.raises(checkpoints.DamagedCheckpoint, match="belongs to another training, with another seed"):
        checkpoints.verify(tmp_path, 3, {"spec": "line", "seed": 1})
    only(tmp_path).rename(tmp_path / "abc-3.safetensors")
    with pytest.raises(checkpoints.DamagedCheckpoint, match="its name is not that of its content"):
        checkpoints.verify(tmp_path, 3, {"spec": "line"})
