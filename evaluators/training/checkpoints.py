"""Checkpoints: a training that was stopped, or whose network is promoted, continues where it was.

One safetensors file holds weights, optimizer state and, as JSON in its header, the trajectory they belong to,
with a hash of all that. Nothing is pickled. A file is named by its trajectory and its step, and appears whole
or not at all. One that is damaged, or another training's under a wrong name, is never believed: it is left
out with a warning, and the training goes on from the checkpoint before it, or from its start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluators.training.trainable import Trainable, Trajectory, digest_of
from foundation.errors import EvaluationFailed, FileError, NoFile
from foundation.files import parse_json, read_json, write_atomically
from foundation.unlike import unlike
from search_spaces.tensor_files import open_tensors, write_tensors

HASH_THREADS = 4
"""Threads that hash tensors: one does a gigabyte in about a second."""

_log = logging.getLogger(__name__)


class DamagedCheckpoint(FileError):
    """A checkpoint does not hold what was written, or belongs to another training."""


def save(training: Trainable, folder: Path) -> Path:
    """Write a checkpoint, and drop earlier ones of the same training.

    In a cool-down the last one before it stays, from which trainings of other lengths go on.

    Raises:
        EvaluationFailed: a weight is not finite: nobody could go on from it.
        FileError: the disk is full, or the folder cannot be written.
    """
    path = path_of(training, folder, training.step)
    trajectory = training.trajectory_at(training.step)
    about = {"step": training.step, **asdict(trajectory)}
    tensors = {name: tensor.contiguous() for name, tensor in training.tensors().items()}
    if name := _not_finite(tensors):
        raise EvaluationFailed(f"{name} is not finite after step {training.step}")
    header = {"training": json.dumps(about), "progress": json.dumps(training.progress)}
    write_tensors(path, tensors, {**header, "hash": content_hash(tensors, header)})
    for step, earlier in _checkpoints_of(trajectory, folder):
        if step < training.step:
            earlier.unlink(missing_ok=True)
    return path


def resume(training: Trainable, folder: Path, steps: int) -> int:
    """Take `training` to its last whole checkpoint of at most `steps` steps; returns the step reached."""
    for step, path in sorted(_found(training, folder, steps), reverse=True):
        try:
            tensors = _read(path, {"step": step, **asdict(training.trajectory_at(step))})
            if not training.fits(tensors):
                raise DamagedCheckpoint(f"{path} is damaged: its tensors are those of another training")
        except NoFile:  # another process, further on, has dropped it
            continue
        except FileError as error:
            _log.warning("WARNING: %s; it is left out, and the training goes on without it", error)
            continue
        training.restore(tensors, step)
        break
    return training.step


def held_step(training: Trainable, folder: Path, steps: int) -> int:
    """The step that `resume` takes a training to where nothing is damaged, which may be on `meta`."""
    return max((step for step, _ in _found(training, folder, steps)), default=0)


def remove(training: Trainable, folder: Path, steps: int) -> None:
    """Remove the checkpoints of a training of at most `steps` steps; what it is made of may be on `meta`."""
    for _, path in _found(training, folder, steps):
        path.unlink(missing_ok=True)
    _looks(folder, training).unlink(missing_ok=True)


def read_looks(folder: Path | None, training: Trainable) -> dict[int, float]:
    """Scores that were noted on the way of a training, by step; none where they are lost."""
    if folder is None:
        return {}
    path = _looks(folder, training)
    try:
        found = read_json(path)
        return {int(step): float(score) for step, score in found.items()}
    except NoFile:
        return {}
    except (FileError, ValueError, TypeError, AttributeError) as error:
        _log.warning("WARNING: %s is damaged: %s; the scores on the way are lost", path, error)
        return {}


def write_looks(folder: Path | None, training: Trainable, scores: Mapping[int, float]) -> None:
    """Note scores on the way of a training, beside its checkpoints."""
    if folder is not None:
        write_atomically(_looks(folder, training), json.dumps(dict(scores)))


def _looks(folder: Path, training: Trainable) -> Path:
    return folder / f"{training.trajectory.digest}-looks.json"


def verify(folder: Path, step: int, expected: Mapping[str, Any]) -> None:
    """Make sure, without building what is trained, that its checkpoint at this step is there and whole.

    `expected` are values of its trajectory. Reads the file once, which takes about a second a gigabyte, and
    not again in this process while it stays as it is.

    Raises:
        NoFile: there is none.
        DamagedCheckpoint: it is damaged, or another training's.
    """
    paths = sorted(path for path in folder.glob("*.safetensors") if step_of(path) == step)
    if not paths:
        raise NoFile(f"{folder} has no checkpoint of step {step}")
    told = json.dumps({**expected, "step": step}, sort_keys=True)
    for path in paths:
        try:
            about = path.stat()
            _verify(path, (about.st_ino, about.st_size, about.st_mtime_ns), told)
            return
        except FileNotFoundError:
            raise NoFile(f"{path} was removed while it was looked for") from None
        except DamagedCheckpoint:
            if path == paths[-1]:
                raise


@lru_cache(maxsize=64)
def _verify(path: Path, stamp: tuple[int, ...], expected: str) -> None:
    _read(path, json.loads(expected))


def progress_in(path: Path) -> dict[str, Any]:
    """How far a training was, from the header of its checkpoint (see `Trainable.progress`).

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with open_tensors(path) as stored:
            progress = parse_json(stored.metadata.get("progress", "{}"))
    except FileError as error:
        raise ValueError(str(error)) from None
    if not isinstance(progress, dict):
        raise ValueError(f"{path} has no progress in its header")
    return progress


def content_hash(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """64 hex digits of all names, dtypes, shapes and values, and of the texts about them."""
    whole = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    with ThreadPoolExecutor(HASH_THREADS) as threads:
        names = sorted(tensors)
        for name, values in zip(names, threads.map(lambda name: _hash(tensors[name]), names), strict=True):
            whole.update(f"{name!r} {tensors[name].dtype} {tuple(tensors[name].shape)} {values}".encode())
    return whole.hexdigest()


def step_of(path: Path) -> int:
    """The step that is in the name of a checkpoint; -1 where there is none."""
    step = path.stem.rpartition("-")[2]
    return int(step) if step.isdecimal() and len(step) < 20 else -1


def path_of(training: Trainable, folder: Path, step: int) -> Path:
    """Where the checkpoint of a training at a step lies."""
    return folder / f"{training.trajectory_at(step).digest}-{step}.safetensors"


def _read(path: Path, expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which is whole and belongs where it lies.

    Raises:
        NoFile: there is none.
        DamagedCheckpoint: it is damaged, or another training's.
    """
    try:
        with open_tensors(path) as stored:
            texts = {name: text for name, text in stored.metadata.items() if name != "hash"}
            _require_same(path, parse_json(texts.get("training", "null")), expected)
            tensors = dict(stored)
            if stored.metadata.get("hash") != content_hash(tensors, texts):
                raise DamagedCheckpoint(f"{path} is damaged: its content is not what was written")
    except (NoFile, DamagedCheckpoint):
        raise
    except (FileError, ValueError) as error:
        told = str(error) if str(path) in str(error) else f"{path} is damaged: {error}"
        raise DamagedCheckpoint(told) from None
    if name := _not_finite(tensors):
        raise DamagedCheckpoint(f"{path} is damaged: {name} is not finite")
    return tensors


def _require_same(path: Path, found: Any, expected: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose header, or whose name, tells of another training."""
    if not isinstance(found, dict):
        raise DamagedCheckpoint(f"{path} is damaged: its header names no training")
    if another := unlike(found, expected):
        raise DamagedCheckpoint(f"{path} belongs to another training, with {another}")
    trajectory = digest_of({name: value for name, value in found.items() if name != "step"})
    if path.name != f"{trajectory}-{found.get('step')}{path.suffix}":
        raise DamagedCheckpoint(f"{path} belongs to another training: its name is not that of its content")


def _hash(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a weight with a value that is not finite; empty where there is none."""
    for name, tensor in tensors.items():
        # a sum is far cheaper; it may also be too large, with every value finite
        if name.startswith("weight/") and not tensor.sum().isfinite() and not tensor.isfinite().all():
            return name
    return ""


def _found(training: Trainable, folder: Path, steps: int) -> set[tuple[int, Path]]:
    """The checkpoints from which a training of at most so many steps can go on."""
    whole, shared = training.trajectory, training.trajectory_at(training.shared_steps)
    return {
        *_checkpoints_of(whole, folder, most=steps),
        *_checkpoints_of(shared, folder, most=min(steps, training.shared_steps)),
    }


def _checkpoints_of(trajectory: Trajectory, folder: Path, most: float = math.inf) -> list[tuple[int, Path]]:
    """The checkpoints of a trajectory after at most so many steps."""
    paths = folder.glob(f"{trajectory.digest}-*.safetensors")
    return [(step, path) for path in paths if 0 <= (step := step_of(path)) <= most]
