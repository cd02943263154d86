"""Trainings on disk, so that a candidate that is promoted goes on where it stopped.

One safetensors file holds weights, optimizer state and, as JSON in its header, where they come from. Nothing
is pickled. A file is named by its trajectory and its step, and appears whole or not at all.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evaluators.training.resumable import Resumable


def save(training: Resumable, folder: Path) -> Path:
    """Write a checkpoint, and drop earlier ones of the same training."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(training, folder, training.step)
    new = path.with_suffix(f".{os.getpid()}.new")
    about = {"step": training.step, **asdict(training.trajectory)}
    tensors = {name: tensor.contiguous() for name, tensor in training.tensors().items()}
    header = {"training": json.dumps(about), "progress": json.dumps(training.progress)}
    save_file(tensors, new, metadata=header)
    new.replace(path)
    for step, older in _found(training, folder):
        if step < training.step:
            older.unlink(missing_ok=True)
    return path


def resume(training: Resumable, folder: Path, steps: int) -> int:
    """Take `training` to its last checkpoint of at most `steps` steps; returns the step reached."""
    for step, path in sorted(_found(training, folder), reverse=True):
        if step > steps:
            continue
        tensors = _read(path, step, training)
        if tensors is not None and training.fits(tensors):
            training.restore(tensors, step)
            break
    return training.step


def header(path: Path) -> dict[str, Any]:
    """What the header of a checkpoint says of how far it is (see `Resumable.progress`).

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {}).get("progress", "{}"))
    except (OSError, SafetensorError) as error:
        raise ValueError(str(error)) from None
    return told


def step_of(path: Path) -> int:
    """The step that is in the name of a checkpoint; -1 where there is none."""
    step = path.stem.rpartition("-")[2]
    return int(step) if step.isdigit() else -1


def _read(path: Path, step: int, training: Resumable) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint; None where it is damaged or tells of another training."""
    about = json.loads(json.dumps({"step": step, **asdict(training.trajectory)}))
    try:
        with safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {}).get("training", "null"))
            return {name: file.get_tensor(name) for name in file.keys()} if said == about else None  # noqa: SIM118  # no mapping
    except (OSError, ValueError, SafetensorError):
        return None


def _path(training: Resumable, folder: Path, step: int) -> Path:
    return folder / f"{training.trajectory.digest}-{step}.safetensors"


def _found(training: Resumable, folder: Path) -> list[tuple[int, Path]]:
    paths = folder.glob(f"{training.trajectory.digest}-*.safetensors")
    return [(step, path) for path in paths if (step := step_of(path)) >= 0]
