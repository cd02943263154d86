"""What a node of a cluster offers, as settings; without Ray, which takes seconds to import."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import Settings, setting

LOOPBACK = "127.0.0.1"
MOST = 10**4


@dataclass(frozen=True, kw_only=True)
class NodeSettings(Settings):
    """What a node offers; one that is a device times, and scores nothing unless it is told to."""

    cpus: int | None = setting(
        None, help="CPUs that it offers to actors.", least=0, most=MOST, shown="all, of a device 0"
    )
    gpus: int | None = setting(
        None, help="GPUs that it offers to actors.", least=0, most=MOST, shown="all, of a device 0"
    )
    device: tuple[str, ...] = setting(
        (), help="Name of the device that it is, for --time-on of a search.", metavar="NAME", repeated=True
    )
