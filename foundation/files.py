"""Files: how this project writes them, whole or not at all, and reads those that somebody else may have made.

    write_atomically(path, text)            # text or bytes
    write_json(path, plain)
    with replacing(path) as scratch:        # for libraries that write to a path themselves
        library.save(scratch)

The content is written in a folder of its own beside it, flushed to the disk, and renamed, so it survives
a power cut; what a killed process leaves of it is removed by the next one that writes there.

    read_json(path, at_most=2**22)          # plain values; parse_json(text) where the text is at hand
    read_bytes(path, at_most=2**20)

What is read is judged before it takes memory or time: it is a regular file (a pipe would hang), not larger
than what it may be, JSON of bounded depth, and its numbers are finite.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from foundation.errors import FileError, NoFile, SettingError
from foundation.scratch import NAME as SCRATCH
from foundation.scratch import scratch_folder
from foundation.wording import argument

JSON_BYTES = 2**22
"""The largest JSON that is read unless the reader allows more; as objects it takes up to 20 times that."""

JSON_DEPTH = 64
"""Lists and objects inside each other that are read."""

DIGITS = 40
"""The longest whole number that is read."""


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all; what was there before stays until then.

    What no text in UTF-8 holds (a path may have any bytes) is spelled out, `\\udcff`.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    with replacing(path) as scratch:
        scratch.write_bytes(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )


def write_json(path: str | Path, plain: Any, *, indent: int | None = 1) -> None:
    """Write plain values as JSON, with a newline at the end; see `write_atomically`."""
    write_atomically(path, json.dumps(plain, indent=indent) + "\n")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A scratch path on the same disk; what is written there takes the place of `path` at the end.

    Where the body raises, `path` stays as it was and what was written is removed.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(path.parent) as folder:
            yield folder / path.name
            flush(folder / path.name)
            os.replace(folder / path.name, path)
        flush(path.parent)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error


def require_room(
    folder: Path,
    what: str,
    is_one: Callable[[Path], bool] | None = None,
    *,
    replaces: bool = False,
    left: Collection[str] = (),
) -> None:
    """Make sure that `what` ("a model") may be written into a folder: it is absent or empty, or is one.

    `is_one` tells whether the folder holds such a thing, and `replaces` whether that may go; without `is_one`
    nothing may. `left` are names that a killed writer leaves, as scratch folders are.

    Raises:
        SettingError: it may not.
    """
    names = names_in_output(folder, f"for {what}")
    if all(name in left or SCRATCH.fullmatch(name) for name in names):
        return
    if is_one is None:
        raise SettingError(f"{folder} is not empty: choose another folder for {what}")
    if not is_one(folder):
        kind = what.partition(" ")[2]
        raise SettingError(f"{folder} is not empty and holds no {kind}: choose another folder")
    if not replaces:
        raise SettingError(
            f"{folder} holds {what}: choose another folder, or replace it with {argument('force', True)}"
        )


def names_in_output(folder: Path, purpose: str) -> set[str]:
    """What lies in a folder that is to be written, none where it can be made; `purpose`: "for a model".

    Raises:
        SettingError: it is no folder, or nothing can be written into it.
    """
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        names = set()
    except OSError as error:
        raise SettingError(f"{folder} cannot be a folder {purpose}: {error.strerror}") from None
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingError(f"{folder} cannot be a folder {purpose}: {there} may not be written")
    return names


def real_path(path: str | Path) -> str:
    """The absolute path, with links followed; links that lead in a circle stay, and are refused when read."""
    return os.path.realpath(path)


@contextlib.contextmanager
def opened(path: str | Path, *, at_most: int) -> Iterator[BufferedReader]:
    """A regular file of at most this many bytes, open for reading.

    Raises:
        NoFile: nothing has this path.
        FileError: it is a folder, a pipe or a device, too large, or cannot be read.
    """
    try:
        with open(_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > at_most:
                raise FileError(f"{path} is too large: {size:,} bytes, and at most {at_most:,} are read")
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoFile(f"{path}: no such file") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _regular(path: str | Path) -> int:
    """The descriptor of a regular file."""
    # a pipe that nobody writes to would hang here without O_NONBLOCK
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise FileError(f"{path} is {_kind(mode)}, not a file")
    return descriptor


def read_bytes(path: str | Path, *, at_most: int) -> bytes:
    """The content of a regular file of at most this many bytes.

    Raises:
        NoFile: nothing has this path.
        FileError: it is a folder, a pipe or a device, too large, or cannot be read.
    """
    with opened(path, at_most=at_most) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)
    if len(content) != size:
        raise FileError(f"{path} changes while it is read")
    return content


def read_json(path: str | Path, *, at_most: int = JSON_BYTES, depth: int = JSON_DEPTH) -> Any:
    """The plain values in a JSON file; see `parse_json`.

    Raises:
        NoFile: nothing has this path.
        FileError: it is no regular file, too large, cannot be read, or holds no JSON that can be trusted.
    """
    content = read_bytes(path, at_most=at_most)
    try:
        return parse_json(content.decode("utf-8"), depth=depth)
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not text in UTF-8 (byte {error.start:,})") from None
    except ValueError as error:
        raise FileError(f"{path} is damaged or not JSON: {error}") from None


def parse_json(text: str, *, depth: int = JSON_DEPTH) -> Any:
    """The plain values of JSON from elsewhere: numbers are finite, names are unique, text is Unicode.

    Raises:
        ValueError: it is no JSON, nested deeper than `depth`, or its values are none that a computer has.
    """
    _check_depth(text, depth)
    plain = json.loads(
        text, parse_int=_int, parse_float=_float, parse_constant=_no_number, object_pairs_hook=_object
    )
    if "\\ud" in text.lower():
        _check_unicode(plain)
    return plain


def _check_depth(text: str, depth: int) -> None:
    """Raise `ValueError` for brackets inside each other: Python's parser would go on until its stack ends."""
    brackets = "".join(BRACKETS.findall(STRINGS.sub("", text))).translate(ROUND)
    for _ in range(depth):
        inner = brackets.replace("()", "")
        if len(inner) == len(brackets):
            break
        brackets = inner
    if brackets.count("(") > depth or "()" in brackets:
        raise ValueError(f"nested deeper than {depth} levels")


STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
BRACKETS = re.compile(r"[\[\]{}]+")
ROUND = str.maketrans("[{]}", "(())")


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:DIGITS]} is not finite")
    return number


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} is there twice")
    return named


def _check_unicode(plain: Any) -> None:
    try:
        json.dumps(plain, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a character: {error.object[error.start]!a}") from None


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in kinds if test(mode)), "a device")


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
