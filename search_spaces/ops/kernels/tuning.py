"""How many warps, stages and registers a kernel is launched with: few are timed once, the best is remembered.

    launch(_outputs, grid, (*inputs, y), (y,), (Launch(4), Launch(8, 2)), L=64, N=64, P=64)

A choice is for a kernel, its tiles, the dtypes of its tensors, and the number of its programs up to a factor
of two, so that other lengths of sequences need no new one. A configuration must write what the first one
writes, which `dispatch` has compared with the plain form; otherwise it is not chosen.

Choices lie in `kernels` of the cache folder (`foundation.cache`), a file for each device, versions of PyTorch
and Triton, and source of the kernels. It may be removed at any time; one that is damaged is made again. With
`NAS_KERNELS=untuned` the first configuration is taken: results are then the same bits in every process, not
only in those that share a cache.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from foundation.cache import cache_folder
from foundation.errors import FileError
from foundation.files import read_json, write_json
from search_spaces.ops.dispatch import UNTUNED, VARIABLE, kernels_here

DIFFERENCE = 2e-2
"""Of the largest output: what configurations that round in another order may differ by."""

REPEATS = 5


class Launch(NamedTuple):
    """Warps of a program, stages of the pipeline that its loops are cut into, and registers of a thread.

    Without a bound a compiler takes as many registers as make one program fast, and fewer of them run.
    """

    warps: int
    stages: int = 3
    registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """As Triton takes them."""
        bound = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps, "num_stages": self.stages, **bound}


Form: TypeAlias = tuple[Any, ...]
"""The index of a device, and all that a choice depends on."""

_chosen: dict[tuple[int, str], Launch] = {}
"""By the index of a device and the key of a choice; the first time on a device, what its file says."""

_launched: dict[Form, Launch] = {}
"""The same by what a launch has at hand: to put a key into words takes as long as to launch."""

_compiled: set[Form] = set()
"""Forms that `compiled` has compiled, whatever the number of their programs."""

_known: set[int] = set()
"""Devices whose file was read."""

_proving: list[bool] = []
"""Not empty while `untuned`."""


@contextmanager
def untuned() -> Iterator[None]:
    """Meanwhile kernels are launched with their first configuration, as a proof needs it."""
    _proving.append(True)
    try:
        yield
    finally:
        _proving.pop()


def forget() -> None:
    """Make all choices of this process again, as where the device was busy when they were made."""
    for kept in (_chosen, _launched, _known, _compiled):
        kept.clear()


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    arguments: Sequence[Any],
    written: Sequence[Tensor],
    configurations: Sequence[Launch],
    **tiles: Any,
) -> None:
    """Run a kernel that writes all of `written`, which are among its arguments, and reads none of them.

    It runs several times where the fastest of its configurations is not known yet.
    """

    def run(how: Launch) -> None:
        kernel[grid](*arguments, **tiles, **how.options)

    first, index = configurations[0], _index_of(written[0])
    if index is None or _proving or os.environ.get(VARIABLE) == UNTUNED:
        run(first)
        return
    form = _form(index, kernel, grid, arguments, tiles)
    chosen = _launched.get(form)
    if chosen is None or chosen not in configurations:
        chosen = _choice(run, index, _key(form), written, configurations)
        if chosen is not None:
            _launched[form] = chosen
    run(first if chosen is None else chosen)


def compiled(
    kernel: Any,
    grid: tuple[int, ...],
    arguments: Sequence[Any],
    configurations: Sequence[Launch],
    **tiles: Any,
) -> None:
    """Compile what `launch` would need for these arguments, and run nothing; once per process."""
    index = next((_index_of(each) for each in arguments if isinstance(each, Tensor)), None)
    if index is None or torch.cuda.is_current_stream_capturing():
        return
    device, module, name, _, *others = _form(index, kernel, grid, arguments, tiles)
    # what a compiler knows beside types: what is not there, flags, and numbers that are one
    known = [
        (i, each)
        for i, each in enumerate(arguments)
        if each is None or (not isinstance(each, Tensor) and each == 1)
    ]
    form = device, module, name, *others, *known
    if form in _compiled:
        return
    untuned = bool(_proving) or os.environ.get(VARIABLE) == UNTUNED
    for how in configurations[:1] if untuned else configurations:
        kernel.warmup(*arguments, grid=grid, **tiles, **how.options)
    if not untuned:
        _compiled.add(form)


def _choice(
    run: Callable[[Launch], None],
    index: int,
    key: str,
    written: Sequence[Tensor],
    configurations: Sequence[Launch],
) -> Launch | None:
    """What was chosen before, or the fastest; None where that cannot be told now."""
    if index not in _known:
        _known.add(index)
        _chosen.update({(index, key): how for key, how in _read(index).items()})
    chosen = _chosen.get((index, key))
    if chosen in configurations:
        return chosen
    if torch.cuda.is_current_stream_capturing():
        return None
    chosen = _fastest(run, written, configurations)
    if chosen is not None:
        _chosen[index, key] = chosen
        _remember(index, key, chosen)
    return chosen


def _index_of(y: Tensor) -> int | None:
    """The index of its CUDA device, where it is on one."""
    return (y.device.index or 0) if y.is_cuda else None


def _form(
    index: int, kernel: Any, grid: tuple[int, ...], arguments: Sequence[Any], tiles: dict[str, Any]
) -> Form:
    """What a choice depends on: kernel, programs up to a factor of two, dtypes and tiles."""
    dtypes = tuple([x.dtype for x in arguments if isinstance(x, Tensor)])
    function = kernel.fn
    programs = math.prod(grid).bit_length()
    return index, function.__module__, function.__name__, programs, dtypes, *tiles.items()


def _key(form: Form) -> str:
    """The same in words, but for the device."""
    _, module, name, programs, dtypes, *tiles = form
    words = [f"{name}={value}" for name, value in sorted(tiles)]
    words += dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes)
    return " ".join((f"{module.rpartition('.')[2]}.{name}", *words, f"programs<{2**programs}"))


def _fastest(
    run: Callable[[Launch], None], written: Sequence[Tensor], configurations: Sequence[Launch]
) -> Launch | None:
    """The configuration that takes the least time, of those that compile and write what the first one does.

    None where that cannot be told: what the first one writes is not finite, or fills the memory.
    """
    from triton.errors import TritonError

    first, *others = configurations
    times = {first: _milliseconds(run, first)}
    try:
        expected = [y.clone() for y in written]
    except torch.OutOfMemoryError:
        return None
    if not all(bool(torch.isfinite(y).all()) for y in expected):
        return None
    for how in others:
        for y in written:
            y.fill_(torch.nan)  # so that all must be written
        try:
            milliseconds = _milliseconds(run, how)
        except (TritonError, RuntimeError):  # more shared memory or registers than there are
            continue
        if all(_same(y, exact) for y, exact in zip(written, expected, strict=True)):
            times[how] = milliseconds
    return min(times, key=times.__getitem__)


def _same(y: Tensor, expected: Tensor) -> bool:
    worst = (y.float() - expected.float()).abs().max()
    return bool(worst <= DIFFERENCE * expected.float().abs().max())


def _milliseconds(run: Callable[[Launch], None], how: Launch) -> float:
    run(how)
    times = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(how)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


@cache
def _name(index: int) -> str:
    """The name of the file of a device, these versions, and this source."""
    about = (
        torch.cuda.get_device_name(index),
        str(torch.cuda.get_device_capability(index)),
        torch.__version__,
        kernels_here(index),
    )
    return f"{hashlib.sha256(chr(0).join(about).encode()).hexdigest()[:32]}.json"


def _path(index: int) -> Path:
    """Where the choices for a device lie.

    Raises:
        FileError: no folder is named for a cache, and the user has no home.
    """
    return cache_folder() / "kernels" / _name(index)


def _read(index: int) -> dict[str, Launch]:
    """The choices that are remembered; none where the file is not there, damaged, or something else."""
    try:
        plain = read_json(_path(index))
    except FileError:
        return {}
    choices = plain.items() if isinstance(plain, dict) else ()
    return {key: Launch(*how) for key, how in choices if _is_launch(how)}


def _is_launch(how: Any) -> bool:
    if not isinstance(how, list) or len(how) != 3:
        return False
    return all(type(part) is int for part in how[:2]) and type(how[2]) in (int, type(None))


def _remember(index: int, key: str, chosen: Launch) -> None:
    """Add a choice to what other processes wrote meanwhile; one that is lost in a race is made again."""
    try:
        write_json(_path(index), {**_read(index), key: chosen})
    except FileError:  # no cache, a disk that is full or may not be written: this process remembers
        return
