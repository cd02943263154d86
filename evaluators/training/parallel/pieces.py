"""Checkpoints in pieces: every process writes what it holds, and reads what it needs, on whatever grid.

    step-120/part-0.safetensors     tensors of process 0; the header says which piece of which whole each is
    step-120/part-1.safetensors
    step-120/index.json             the training, the step, and the hash of every part; written last

A piece is a box of a whole tensor: its offset, and the whole's shape. So a training goes on with another
number of processes, and by other methods. `torch.distributed.checkpoint` has the same idea; its index is a
pickle, and nothing is unpickled here.

A step without its index was not finished and is not seen. One that is damaged is left out with a warning, and
the training goes on from the one before it: two are kept.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluators.training.checkpoints import content_hash
from foundation.errors import EvaluationFailed, FileError, SettingError
from foundation.fields import Field
from foundation.files import parse_json, read_json, write_json
from foundation.unlike import unlike
from search_spaces.tensor_files import TensorFile, open_tensors, write_tensors

FORMAT = 1
INDEX = "index.json"
KEPT = 2
"""Checkpoints that are kept."""

_STEP = re.compile(r"step-([0-9]{1,12})")
_log = logging.getLogger(__name__)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A box of a whole tensor of `shape`, which begins at `offset`."""

    tensor: Tensor
    offset: Shape
    shape: Shape


def write_part(folder: Path, step: int, rank: int, pieces: Mapping[str, Piece]) -> None:
    """Write the pieces of one process.

    Raises:
        EvaluationFailed: a weight is not finite: nobody could go on from it.
        FileError: the disk is full, or the folder cannot be written.
    """
    tensors = {name: piece.tensor.detach().cpu().contiguous() for name, piece in pieces.items()}
    for name, tensor in tensors.items():
        if name.startswith("weight/") and not tensor.isfinite().all():
            raise EvaluationFailed(f"{name} is not finite after step {step}")
    header = {"pieces": json.dumps({name: [piece.offset, piece.shape] for name, piece in pieces.items()})}
    path = _part(folder, step, rank)
    write_tensors(path, tensors, {**header, "hash": content_hash(tensors, header)})


def write_index(folder: Path, step: int, parts: int, about: Mapping[str, Any]) -> None:
    """Declare a checkpoint finished, whose parts are all there, and drop those that are too old.

    Raises:
        FileError: a part is missing, or the folder cannot be written.
    """
    hashes = []
    for rank in range(parts):
        with open_tensors(_part(folder, step, rank)) as part:
            hashes.append(part.metadata.get("hash", ""))
    write_json(
        _path(folder, step) / INDEX, {"format": FORMAT, "step": step, "training": about, "parts": hashes}
    )
    for older in sorted(_finished(folder), reverse=True)[KEPT:]:
        shutil.rmtree(_path(folder, older), ignore_errors=True)


def latest(folder: Path, about: Mapping[str, Any] | None = None) -> int | None:
    """The step of the last whole checkpoint; None where there is none. Reads it once.

    Raises:
        SettingError: it belongs to another training than `about`; what differs is named.
    """
    for step in sorted(_finished(folder), reverse=True):
        try:
            index = _index(folder, step)
            if about is not None:
                _require_same(folder, index["training"], about)
            _verify(folder, step, index["parts"])
        except FileError as error:
            _log.warning("WARNING: %s; it is left out", error)
            continue
        return step
    return None


def training_of(folder: Path, step: int) -> dict[str, Any]:
    """What a checkpoint says of its training.

    Raises:
        FileError: it is damaged.
    """
    training: dict[str, Any] = _index(folder, step)["training"]
    return training


class Pieces:
    """The whole tensors of an open checkpoint, from which boxes are read."""

    def __init__(self, parts: list[TensorFile]) -> None:
        self.shapes: dict[str, Shape] = {}
        self._boxes: dict[str, list[tuple[TensorFile, Shape, Shape]]] = {}
        for part in parts:
            for name, entry in Field(parse_json(part.metadata["pieces"]), "pieces").items(most=2**20):
                offset, shape = ([n.whole(least=0) for n in e.entries()] for e in entry.entries())
                self.shapes[name] = tuple(shape)
                self._boxes.setdefault(name, []).append((part, tuple(offset), part.about[name].shape))

    def names(self, kind: str) -> list[str]:
        """What follows `kind/` in the names that begin so."""
        return [name.partition("/")[2] for name in self.shapes if name.partition("/")[0] == kind]

    def kinds(self) -> list[str]:
        """What tensors are: `weight`, and states of the optimizer."""
        return list(dict.fromkeys(name.partition("/")[0] for name in self.shapes))

    def whole(self, name: str) -> Tensor:
        """All of a tensor."""
        return self.box(name, (0,) * len(self.shapes[name]), self.shapes[name])

    def box(self, name: str, offset: Shape, shape: Shape) -> Tensor:
        """A box of a tensor.

        Raises:
            FileError: some of it is in no part.
        """
        result: Tensor | None = None
        found = 0
        for part, begins, size in self._boxes[name]:
            here, there = _overlap(offset, shape, begins, size)
            if here is None:
                continue
            tensor = part[name]
            if result is None:
                result = torch.empty(shape, dtype=tensor.dtype)
            result[here] = tensor[there]
            found += result[here].numel()
        if result is None or found != result.numel():
            raise FileError(f"{name}: the checkpoint holds {found:,} of {torch.Size(shape).numel():,} values")
        return result


@contextmanager
def open_pieces(folder: Path, step: int) -> Iterator[Pieces]:
    """The tensors of a checkpoint.

    Raises:
        FileError: it is damaged.
    """
    count = len(_index(folder, step)["parts"])
    with ExitStack() as files:
        yield Pieces([files.enter_context(open_tensors(_part(folder, step, rank))) for rank in range(count)])


def _overlap(offset: Shape, shape: Shape, begins: Shape, size: Shape) -> tuple[Any, Any]:
    """Where two boxes overlap, as indices into either; None where they do not."""
    here, there = [], []
    for low, length, start, extent in zip(offset, shape, begins, size, strict=True):
        begin, end = max(low, start), min(low + length, start + extent)
        if begin >= end:
            return None, None
        here.append(slice(begin - low, end - low))
        there.append(slice(begin - start, end - start))
    return tuple(here), tuple(there)


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step}"


def _part(folder: Path, step: int, rank: int) -> Path:
    return _path(folder, step) / f"part-{rank}.safetensors"


def _finished(folder: Path) -> list[int]:
    """The steps whose checkpoints have an index."""
    found = [_STEP.fullmatch(path.parent.name) for path in folder.glob(f"step-*/{INDEX}")]
    return [int(match[1]) for match in found if match]


def _index(folder: Path, step: int) -> dict[str, Any]:
    path = _path(folder, step) / INDEX
    index = read_json(path)
    whole = isinstance(index, dict) and isinstance(index.get("training"), dict)
    if not whole or index.get("format") != FORMAT or not isinstance(index.get("parts"), list):
        raise FileError(f"{path} is damaged: it is no index of a checkpoint")
    return dict(index)


def _verify(folder: Path, step: int, hashes: list[str]) -> None:
    """Read every part, and compare it with its hash."""
    for rank, expected in enumerate(hashes):
        path = _part(folder, step, rank)
        with open_tensors(path) as part:
            header = {name: text for name, text in part.metadata.items() if name != "hash"}
            if part.metadata.get("hash") != expected or content_hash(dict(part), header) != expected:
                raise FileError(f"{path} is damaged: its content is not what was written")


def _require_same(folder: Path, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    if another := unlike(found, about):
        raise SettingError(
            f"{folder} holds a training with {another}; name another folder, or give the settings that it"
            " began with"
        )
