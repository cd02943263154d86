"""Checkpoints: a training that was stopped, or whose network is promoted, continues where it was.

One safetensors file holds weights, optimizer state and, as JSON in its header, the trajectory they belong to.
Nothing is pickled. A file is named by its trajectory and its step, and appears whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from evaluators.training.trainable import Trainable
from foundation.errors import FileError
from search_spaces.tensor_files import open_tensors, write_tensors


def save(training: Trainable, folder: Path) -> Path:
    """Write a checkpoint, and drop earlier ones of the same training.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    path = path_of(training, folder, training.step)
    about = {"step": training.step, **asdict(training.trajectory)}
    tensors = {name: tensor.contiguous() for name, tensor in training.tensors().items()}
    header = {"training": json.dumps(about), "progress": json.dumps(training.progress)}
    write_tensors(path, tensors, header)
    for step, earlier in _checkpoints_of(training, folder):
        if step < training.step:
            earlier.unlink(missing_ok=True)
    return path


def resume(training: Trainable, folder: Path, steps: int) -> int:
    """Take `training` to its last checkpoint of at most `steps` steps; returns the step reached."""
    for step, path in sorted(_checkpoints_of(training, folder), reverse=True):
        if step > steps:
            continue
        tensors = _read(path, step, training)
        if tensors is not None and training.fits(tensors):
            training.restore(tensors, step)
            break
    return training.step


def progress_in(path: Path) -> dict[str, Any]:
    """How far a training was, from the header of its checkpoint (see `Trainable.progress`).

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with open_tensors(path) as stored:
            progress: dict[str, Any] = json.loads(stored.metadata.get("progress", "{}"))
    except FileError as error:
        raise ValueError(str(error)) from None
    return progress


def step_of(path: Path) -> int:
    """The step that is in the name of a checkpoint; -1 where there is none."""
    step = path.stem.rpartition("-")[2]
    return int(step) if step.isdigit() else -1


def path_of(training: Trainable, folder: Path, step: int) -> Path:
    """Where the checkpoint of a training at a step lies."""
    return folder / f"{training.trajectory.digest}-{step}.safetensors"


def _read(path: Path, step: int, training: Trainable) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint; None where it is damaged or belongs to another training."""
    about = json.loads(json.dumps({"step": step, **asdict(training.trajectory)}))
    try:
        with open_tensors(path) as stored:
            if json.loads(stored.metadata.get("training", "null")) != about:
                return None
            return dict(stored)
    except (ValueError, FileError):
        return None


def _checkpoints_of(training: Trainable, folder: Path) -> list[tuple[int, Path]]:
    paths = folder.glob(f"{training.trajectory.digest}-*.safetensors")
    return [(step, path) for path in paths if (step := step_of(path)) >= 0]
