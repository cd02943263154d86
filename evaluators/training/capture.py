"""What a function asks of a GPU, captured once and replayed; what cannot be is found out without harm.

Unlike with `torch.cuda.graph`, the memory that torch keeps stays, since there are hundreds of recordings, and
what other threads do meanwhile on other streams is let alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import extract_tb
from typing import Any, TypeAlias

import torch
from torch import Tensor

Replay: TypeAlias = Callable[[], None]


class Waits(RuntimeError):
    """A function reads something back from the device, where the message says."""


class Capture:
    """Captures functions on one stream, into one pool of memory."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def of(self, function: Callable[[], None]) -> Replay:
        """What replays the function, which is called once, and computes nothing.

        Raises:
            RuntimeError: it cannot be captured; the process is as it was.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._stream = stream = self._stream or torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                function()
                graph.capture_end()
            except RuntimeError:
                _abandon(graph)
                raise
        current.wait_stream(stream)
        self._pool = self._pool or graph.pool()
        return graph.replay


@contextmanager
def never_waiting(values: Tensor) -> Iterator[None]:
    """Raise `Waits` if the program waits for the GPU of the values meanwhile; on a CPU it never does."""
    if not values.is_cuda:
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    try:
        _say_of_waiting("error")
        yield
    except RuntimeError as error:
        raise (Waits(_place_of(error)) if "synchronizing" in str(error) else error) from error
    finally:
        _say_of_waiting(before)


def _place_of(error: BaseException) -> str:
    """The last line of Python that an error came from."""
    last = extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def _say_of_waiting(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype, and does not see every kind of waiting
        torch.cuda.set_sync_debug_mode(mode)


def _abandon(graph: torch.cuda.CUDAGraph) -> None:
    """End a recording that failed, with the memory and the random numbers of the process outside of it."""
    with suppress(RuntimeError):
        graph.capture_end()
    device = torch.cuda.current_device()
    with suppress(RuntimeError):  # where its end took the memory back
        torch._C._cuda_endAllocateToPool(device, graph.pool())
    dice: Any = torch.cuda.default_generators[device]
    dice.graphsafe_set_state(dice.clone_state())
