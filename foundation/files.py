"""Files that appear whole or not at all, and survive a power cut: the one way this project writes files.

    write_atomically(path, text)            # text or bytes
    write_json(path, plain)
    with replacing(path) as scratch:        # for libraries that write to a path themselves
        save_file(tensors, scratch)

The content is written under another name in the same folder, flushed to the disk, and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundation.errors import FileError


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all; what was there before stays until then.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    with replacing(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, plain: Any, *, indent: int | None = 1) -> None:
    """Write plain values as JSON, with a newline at the end; see `write_atomically`."""
    write_atomically(path, json.dumps(plain, indent=indent) + "\n")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A scratch path beside `path`; what is written there takes the place of `path` at the end.

    Where the body raises, `path` stays as it was and the scratch file is removed.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    scratch = path.with_name(f".{secrets.token_hex(6)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        _flush(scratch)
        os.replace(scratch, path)
        _flush(path.parent)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
