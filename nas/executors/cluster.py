"""A Ray cluster: joining or starting one, and what its workers need of this process."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray

from foundation.errors import SettingError
from foundation.registry import Registry
from nas.study.user_files import add_folders, user_folders, user_modules
from search_spaces.blocks.base import blocks
from search_spaces.language.serialization import parts
from search_spaces.network.norms.base import norms

CONNECT_SECONDS = 5.0


class Kinds(NamedTuple):
    """What users' own files define: the parts, blocks and norms, and the folders that they import from."""

    registered: Sequence[Sequence[type]]
    folders: Sequence[str]


REGISTRIES: tuple[Registry[Any], ...] = (parts, blocks, norms)
"""What a user's own file may add to, and workers must know."""


def cause(error: ray.exceptions.RayError) -> str:
    """One line: the exception itself where one was raised in an actor, else what happened to the actor."""
    first, *more = str(error).strip().splitlines()
    raised = [line for line in more if re.match(r"\w[\w.]*(Error|Exception): ", line)]
    return raised[-1] if raised else first


def own_kinds() -> Kinds:
    """What users' files defined, to be sent by its source: workers cannot import it by its name."""
    modules = user_modules()
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    names = {module.__name__ for module in modules}
    own = [[kind for kind in registry.values() if kind.__module__ in names] for registry in REGISTRIES]
    return Kinds(own, user_folders())


def register(kinds: Kinds) -> None:
    """Register in this process what users' files define elsewhere."""
    add_folders(kinds.folders)
    for registry, defined in zip(REGISTRIES, kinds.registered, strict=True):
        for kind in defined:
            registry.add(kind)


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
