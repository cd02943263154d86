"""A Ray cluster: joining one or starting one's own, and what its workers need of this process.

A Ray of one's own listens on loopback alone, keeps its files in a folder that goes with it, and heeds
neither `RAY_ADDRESS` nor what other clusters left behind. A cluster that is joined was started by its owner,
with `ray start`: who can reach it can run code on it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray
from ray._private.utils import read_ray_address

from foundation.errors import SettingError
from foundation.registry import Registry
from nas.executors.node_records import running
from nas.executors.ray_code import runtime_env
from nas.executors.ray_start import starting
from nas.executors.ray_token import token_for
from nas.executors.reach import answers, why_unreachable
from nas.study.user_files import add_folders, user_folders, user_modules
from search_spaces.blocks.base import blocks
from search_spaces.language.serialization import parts
from search_spaces.network.norms.base import norms

ANY_HERE = "auto"
"""The address of a cluster that this machine is part of."""

HOSTS_NAMED = 3


class Kinds(NamedTuple):
    """What users' own files define: the parts, blocks and norms, and the folders that they import from."""

    registered: Sequence[Sequence[type]]
    folders: Sequence[str]


REGISTRIES: tuple[Registry[Any], ...] = (parts, blocks, norms)
"""What a user's own file may add to, and workers must know."""


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


def join(address: str) -> None:
    """Join the cluster at an address, unless this process is in one already.

    Raises:
        SettingError: no cluster answers there, it runs another Ray or Python, or wants a token that is not
            here.
    """
    if ray.is_initialized():
        return
    where = _resolved(address)
    named = where if where == address else f"{where} ({address})"
    if why := why_unreachable(where):
        raise SettingError(f"no Ray cluster at {named}: {why}")
    try:
        with starting(joins=True), token_for(where):
            ray.init(
                address=where,
                runtime_env=runtime_env(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
    except (ConnectionError, ValueError, RuntimeError, SettingError, ray.exceptions.RayError) as error:
        raise SettingError(f"cannot join the Ray cluster at {named}: {refusal(error)}") from None


def _resolved(address: str) -> str:
    """The address that `auto` stands for: `RAY_ADDRESS`, else the cluster that this machine is part of.

    That is the one that `nas cluster up` or `join` chose last, else that of `ray start`.

    Raises:
        SettingError: there is none, or the address has no port.
    """
    if address == ANY_HERE:
        here = [node.address for node in running()]
        address = os.environ.get("RAY_ADDRESS") or (here or [read_ray_address() or ANY_HERE])[-1]
    if address == ANY_HERE:
        raise SettingError(
            "no Ray cluster: none was started on this machine, and RAY_ADDRESS names none; start one with"
            " `nas cluster up`"
        )
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", address):
        raise SettingError(f"no Ray cluster at {address!r}: write HOST:PORT of its head, or auto")
    return address


def refusal(error: BaseException) -> str:
    """One line of why a cluster does not take this process."""
    reasons = []
    at: BaseException | None = error
    while at is not None:
        reasons.append(str(at))
        at = at.__cause__ or at.__context__
    for reason in reasons:
        if "ersion mismatch" in reason:
            return " ".join(reason.split())
    return next(iter(reasons[0].strip().splitlines()), type(error).__name__)


def head() -> str:
    """HOST:PORT of the head of the cluster that this process is in."""
    return str(ray.get_runtime_context().gcs_address)


def alive() -> bool:
    """Whether the head and this machine's node answer. Ray itself waits, and then ends this process."""
    if not answers(head()):
        return False
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] == here]
    return any(answers(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}") for node in nodes)


def resources() -> list[dict[str, float]]:
    """What each node of the cluster has, by name: `CPU`, `GPU`."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def joined() -> str:
    """One line: which cluster this process is in, and who else can use it."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    hosts = sorted({str(node["NodeManagerHostname"]) for node in nodes})
    more = f" and {len(hosts) - HOSTS_NAMED} more" if len(hosts) > HOSTS_NAMED else ""
    amounts = [f"{ray.cluster_resources().get(kind, 0.0):g} {kind}s" for kind in ("CPU", "GPU")]
    count = f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
    return (
        f"joined the Ray cluster at {head()}: {count} ({', '.join(hosts[:HOSTS_NAMED])}{more}),"
        f" {', '.join(amounts)}; whoever can join it can run code on it"
    )
