"""What was prepared for the places of a parent, as files: one for each place, whole or not there at all.

    library.json                              what it was made of
    layers.0.sequence_mixer.safetensors       the rounded matrices of what may stand there

So a run that was killed goes on with the first place that is missing. A file that is damaged, or was made of
something else, is made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from evaluators.trained_parent.rounding import Prepared
from evaluators.training.checkpoints import content_hash
from foundation.errors import DataError, FileError, NoFile
from foundation.files import read_json, write_json
from foundation.unlike import unlike
from search_spaces.quantization.bits import WeightFormat, is_matrix
from search_spaces.quantization.packing import packed_shapes
from search_spaces.supernet.weights import Slice
from search_spaces.tensor_files import Stored, open_tensors, write_tensors

ABOUT = "library.json"


class Library:
    """The folder of what was prepared for a parent; `origin` is all that it depends on, as plain values."""

    def __init__(self, folder: Path, origin: Mapping[str, Any]) -> None:
        self.folder, self.origin = folder, json.loads(json.dumps(origin))

    def begin(self) -> None:
        """Say what the folder will hold.

        Raises:
            DataError: it holds what was made of something else.
        """
        path = self.folder / ABOUT
        try:
            known = read_json(path)
        except NoFile:
            write_json(path, self.origin)
            return
        except FileError as error:
            raise DataError(f"{error}; remove {self.folder}, and it is made again") from None
        if another := unlike(known, self.origin):
            raise DataError(f"{self.folder} was made with {another}: search under another name, or remove it")

    def save(self, path: str, prepared: Prepared) -> None:
        """Keep what was prepared for the place at `path`."""
        tensors = {
            f"{number}{suffix}": values.cpu().contiguous()
            for number, stored in enumerate(prepared.values())
            for suffix, values in stored.items()
        }
        slices = [[key, list(shape), list(bits)] for key, shape, bits in prepared]
        header = {"slices": json.dumps(slices), "origin": json.dumps(self.origin)}
        write_tensors(self._file(path), tensors, {**header, "hash": content_hash(tensors, header)})

    def load(self, path: str) -> Prepared | None:
        """What was prepared for the place at `path`; None where there is none, or it is damaged."""
        try:
            with open_tensors(self._file(path)) as file:
                tensors, header = dict(file), dict(file.metadata)
        except FileError:
            return None
        expected = header.pop("hash", "")
        if content_hash(tensors, header) != expected or json.loads(header["origin"]) != self.origin:
            return None
        found: Prepared = {}
        for number, (key, shape, bits) in enumerate(json.loads(header["slices"])):
            where: Slice = (key, tuple(shape), WeightFormat(*bits))
            found[where] = _stored(where, tensors, str(number))
        return found

    def _file(self, path: str) -> Path:
        return self.folder / f"{path}.safetensors"


def _stored(where: Slice, tensors: Mapping[str, Tensor], number: str) -> dict[str, Tensor]:
    """The tensors of a slice by their suffixes."""
    _, shape, bits = where
    stored = {}
    for suffix, (dtype, own) in packed_shapes(shape, bits).items():
        values = tensors[number + suffix]
        assert Stored.of(values.dtype, tuple(values.shape)) == Stored.of(dtype, own), (
            "hashed as it was written"
        )
        stored[suffix] = values
    assert is_matrix(shape)
    return stored
