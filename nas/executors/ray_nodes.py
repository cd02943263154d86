"""Nodes of a Ray cluster that run on this machine: a head, or nodes that join one, in the background.

    head = start_head(NodeSettings())   # listens on loopback, wants a token
    stop(head)                          # ends it, and removes its files

Each is a process `ray start --block` that ends its Ray when it is ended. What was started is on record in the
cache folder, so that only that is ended: `ray stop` would end every Ray of this machine.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # a module of C++

from foundation.errors import ClusterError, SettingError
from foundation.wording import argument
from nas.executors.node_records import Node, beginning, forget, note
from nas.executors.node_settings import LOOPBACK, NodeSettings
from nas.executors.ray_token import MODE, USUAL_FILE, WITH
from nas.executors.reach import answers, why_unreachable
from nas.executors.room import folder_of_files, this_machine

PREFIX = "nas-cluster-"
ADDRESS = r"[^\s/]+:\d{1,5}"
START_SECONDS, STOP_SECONDS = 120.0, 30.0
STARTED = "Ray runtime started."
"""What `ray start` writes when its node is there."""

LITERAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray takes the address of a head literally, and puts none of the network in its place."""


_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this process started itself, and must see the end of."""


def start_head(what: NodeSettings, listen: str = LOOPBACK, port: int = 6379) -> Node:
    """Start a head, which listens on this address.

    Raises:
        SettingError: that is no address of this machine, something listens there, or its files have no place.
        ClusterError: it does not start; its last line says why.
    """
    address = f"{listen}:{port}"
    try:
        socket.create_server((listen, port)).close()
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        taken = "; a Ray cluster answers there already" * (number == errno.EADDRINUSE and answers(address))
        why = os.strerror(number) if number is not None and number > 0 else str(error)
        raise SettingError(f"no head can listen at {address}: {why}{taken}") from None
    return _started(what, address, ["--head", f"--port={port}", f"--node-ip-address={listen}"])


def start_node(what: NodeSettings, address: str, listen: str | None = None) -> Node:
    """Start a node that joins the cluster whose head is at an address; `listen` is this machine's own.

    Raises:
        SettingError: no cluster answers there, or its files have no place.
        ClusterError: it does not start; its last line says why.
    """
    if not re.fullmatch(ADDRESS, address):
        raise SettingError(f"no Ray cluster at {address!r}: write HOST:PORT of its head")
    if address.rpartition(":")[0] in (LOOPBACK, "localhost"):
        raise SettingError(
            f"no node can join a head at {address}, which listens on loopback alone: start it with"
            f" {argument('listen')} and an address of its network"
        )
    if why := why_unreachable(address):
        raise SettingError(f"no Ray cluster at {address}: {why}")
    own = [f"--node-ip-address={listen}"] if listen else []
    return _started(what, address, [f"--address={address}", *own])


def stop(node: Node) -> None:
    """End a node and remove its files; it has half a minute to do so in good order."""
    with suppress(ProcessLookupError):
        os.kill(node.process, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while node.runs and time.monotonic() < end:
        time.sleep(0.1)
    if node.runs:
        with suppress(ProcessLookupError):
            os.killpg(node.process, signal.SIGKILL)
    if node.process in _children:
        _children.pop(node.process).wait()
    forget(node)


def ensure_token() -> None:
    """Make a token for a new cluster where there is none, for this user alone."""
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    if not loader.has_token(ignore_auth_mode=True):
        before = os.umask(0o077)
        try:
            Path(USUAL_FILE).expanduser().parent.mkdir(parents=True, exist_ok=True)
            Path(USUAL_FILE).expanduser().write_text(secrets.token_hex(32))
        finally:
            os.umask(before)
        loader.reset_cache()


def _started(what: NodeSettings, address: str, options: Sequence[str]) -> Node:
    """Start `ray start` with these options, and wait until its node is there."""
    ensure_token()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder_of_files()))
    environment = {**os.environ, MODE: os.environ.get(MODE, WITH)}
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    command += [*options, *_offered(what), f"--temp-dir={folder}"]
    if head := "--head" in options:
        command.append("--include-dashboard=false")
    if head and address.startswith(f"{LOOPBACK}:"):
        environment[LITERAL] = "0"
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _children[process.pid] = process
    node = Node(process.pid, beginning(process.pid), address, head, str(folder))
    note(node)
    _await(node, process)
    return node


def _await(node: Node, process: subprocess.Popen[bytes]) -> None:
    """Wait until a node is there.

    Raises:
        ClusterError: it has ended, or is not there in time.
    """
    end = time.monotonic() + START_SECONDS
    while STARTED not in node.log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > end:
            lines = [line.strip() for line in node.log.read_text(errors="replace").splitlines()]
            why = next((line for line in reversed(lines) if line), "it did not say why")
            stop(node)
            raise ClusterError(f"the node does not start: {why}")
        time.sleep(0.1)


def _offered(what: NodeSettings) -> list[str]:
    """The options for what a node offers; one that is a device runs no actors unless it is told to."""
    here = this_machine()
    cpus, gpus = (0 if what.device else int(here[kind]) for kind in ("CPU", "GPU"))
    options = [f"--num-cpus={cpus if what.cpus is None else what.cpus}"]
    options.append(f"--num-gpus={gpus if what.gpus is None else what.gpus}")
    if what.device:
        options.append(f"--resources={json.dumps({f'device:{name}': 1 for name in what.device})}")
    return options
