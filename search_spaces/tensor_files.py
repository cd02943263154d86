"""Tensors in safetensors files: the one way this project writes them, and reads those of somebody else.

    write_tensors(path, {"weight": tensor}, {"step": "4"})
    with open_tensors(path) as stored:
        stored.metadata, stored.shapes["weight"], stored["weight"]

Nothing is pickled. A file appears whole or not at all. Opening one reads its header alone, which is bounded
and must agree with the size of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foundation.errors import FileError
from foundation.files import opened, parse_json, replacing

HEADER_BYTES = 2**23
"""The longest header that is read: names, shapes and metadata of some 50,000 tensors."""

PREFIX_BYTES = 8

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The format's names."""


@dataclass(frozen=True)
class Stored:
    """How a tensor lies in a file: the format's name of its dtype (`F32`, `BF16`, `I8`), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, dtype: torch.dtype, shape: tuple[int, ...]) -> Stored:
        """How a tensor of torch will lie in a file."""
        return cls(DTYPES[dtype], shape)

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class TensorFile(Mapping[str, Tensor]):
    """Tensors of an open file by name, read when they are asked for."""

    path: Path
    size: int
    """Bytes of the file."""
    about: Mapping[str, Stored]
    metadata: Mapping[str, str]
    file: Any

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.about:
            raise KeyError(name)
        try:
            tensor: Tensor = self.file.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError, AttributeError) as error:
            raise FileError(f"{self.path}: {name} cannot be read: {error}") from None
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.about)

    def __len__(self) -> int:
        return len(self.about)


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors, and text about them, as a whole or not at all.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    with replacing(path) as scratch:
        try:
            scratch.touch()
            mode = scratch.stat().st_mode
            save_file(dict(tensors), scratch, metadata=dict(metadata or {}))
            scratch.chmod(mode)  # that of any file made here; the library's are the owner's alone
        except SafetensorError as error:
            raise FileError(f"cannot write {path}: {_reason(error)}") from error


@contextmanager
def open_tensors(path: str | Path, *, device: str = "cpu") -> Iterator[TensorFile]:
    """The tensors in a file, by name; none is read yet.

    Raises:
        NoFile: nothing has this path.
        FileError: it is no regular file, cannot be read, or is no whole safetensors file.
    """
    path = Path(path)
    size, about, metadata = _read_header(path)
    try:
        file = safe_open(path, framework="pt", device=device)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise FileError(f"{path} is damaged: {_reason(error)}") from None
    with file:
        yield TensorFile(path, size, about, metadata, file)


def _read_header(path: Path) -> tuple[int, dict[str, Stored], dict[str, str]]:
    """The size of the file, every tensor's dtype and shape, and the metadata."""
    with opened(path, at_most=2**63) as file:
        left = os.fstat(file.fileno()).st_size - PREFIX_BYTES
        length = int.from_bytes(file.read(PREFIX_BYTES), "little")
        if length > left:
            raise FileError(f"{path} is damaged: it ends {length - left:,} bytes before its header does")
        if length > HEADER_BYTES:
            raise FileError(f"{path} has a header of {length:,} bytes, and at most {HEADER_BYTES:,} are read")
        text = file.read(length)
    try:
        plain = parse_json(text.decode("utf-8"))
        metadata = plain.pop("__metadata__", {})
        about = {name: Stored(str(entry["dtype"]), _shape(entry["shape"])) for name, entry in plain.items()}
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("metadata that is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is damaged: no header of tensors: {error}") from None
    return left + PREFIX_BYTES, about, metadata


def _shape(plain: Any) -> tuple[int, ...]:
    if not isinstance(plain, list) or not all(type(size) is int and size >= 0 for size in plain):
        raise TypeError(f"no shape: {str(plain)[:80]}")
    return tuple(plain)


def _reason(error: Exception) -> str:
    """What a library says of a file, on one line."""
    return " ".join(str(error).removeprefix("Error while serializing: ").split())
