"""The settings of a server."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import Settings, setting
from nas.executors.node_settings import LOOPBACK
from search_spaces.scenario import DTYPES


@dataclass(frozen=True, kw_only=True)
class EngineSettings(Settings):
    """How many requests run together, and in how much memory."""

    rows: int = setting(64, help="Most requests that are decoded together.", least=1, most=4096)
    queue: int = setting(
        256, help="Most requests that wait; further ones are refused (429).", least=1, most=10**6
    )
    context: int = setting(4096, help="Most tokens of a prompt and its answer.", least=2, most=10**7)
    memory: int = setting(1024, help="Memory for decode states, in MiB.", least=1, most=2**24)
    prefix_memory: int = setting(
        64, help="MiB for states after beginnings that prompts share; 0 keeps none.", least=0, most=2**24
    )
    adapter_memory: int = setting(
        256, help="MiB for the adapters that running requests need, beside them all.", least=1, most=2**24
    )
    page: int = setting(8, help="Tokens of a page of states that grow with the text.", least=1, most=4096)
    chunk: int = setting(256, help="Prompt tokens that are read between two steps.", least=1, most=2**20)
    draft_rows: int = setting(
        1, help="Most running requests for which a draft proposes, each by itself.", least=1, most=4096
    )


@dataclass(frozen=True, kw_only=True)
class ServerSettings(EngineSettings):
    """Where a network computes and its endpoint is, and how it stops."""

    device: str = setting("cpu", help="Torch name of the device: cpu, cuda:0.")
    dtype: str = setting("float32", help="Type of weights and activations.", choices=DTYPES)
    host: str = setting(LOOPBACK, help="Address to listen at; beyond this machine it is open to all.")
    port: int = setting(8000, help="Port; 0 takes a free one.", least=0, most=2**16 - 1)
    grace: int = setting(
        30, help="Seconds that running requests have to end when the server stops.", least=0, most=86400
    )
