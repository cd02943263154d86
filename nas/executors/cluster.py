"""A Ray cluster: joining or starting one, and what its workers need of this process."""

from __future__ import annotations

import logging
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import ray

from foundation.errors import SettingError
from nas.study.space_files import SPACE_FILE
from search_spaces.blocks.base import blocks
from search_spaces.language.serialization import parts

CONNECT_SECONDS = 5.0

Kinds: TypeAlias = "Sequence[Sequence[type]]"
"""The parts and the blocks that a user's own space files define."""


def cause(error: ray.exceptions.RayError) -> str:
    """One line: the exception itself where one was raised in an actor, else what happened to the actor."""
    first, *more = str(error).strip().splitlines()
    raised = [line for line in more if re.match(r"\w[\w.]*(Error|Exception): ", line)]
    return raised[-1] if raised else first


def own_kinds() -> Kinds:
    """What space files defined, to be sent by its source: workers cannot import it by its name."""
    for name, module in list(sys.modules.items()):
        if name.startswith(SPACE_FILE):
            ray.cloudpickle.register_pickle_by_value(module)
    return [_from_space_files(parts), _from_space_files(blocks)]


def register(kinds: Kinds) -> None:
    """Register in this process what space files define elsewhere."""
    for registry, defined in zip((parts, blocks), kinds, strict=True):
        for kind in defined:
            registry.add(kind)


def _from_space_files(registry: Mapping[str, type]) -> list[type]:
    """What space files added to a registry; everything else a worker imports by itself."""
    return [kind for kind in registry.values() if kind.__module__.startswith(SPACE_FILE)]


def connect(address: str | None, processors: int) -> bool:
    """Join or start Ray; whether it was started here.

    Raises:
        SettingError: no cluster answers at `address`.
    """
    if ray.is_initialized():
        return False
    _require_answer(address)
    try:
        ray.init(
            address=address,
            num_cpus=None if address else processors,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from None
    return True


def _require_answer(address: str | None) -> None:
    """Connect to HOST:PORT first: Ray itself waits for minutes before it reports that nothing answers."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise SettingError(f"no Ray cluster at {address!r}: {error.strerror or error}") from None
