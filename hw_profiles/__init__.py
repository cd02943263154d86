"""How fast: latency tables of a machine, whole networks measured on it, and counted FLOPs.

    table = profile_space(space, Scenario())        # 45 s, or as long as it is given
    table.predict(spec)["prefill_ms"]               # (milliseconds, standard error), in microseconds
    table.interval(spec)["prefill_ms"]              # between which 9 in 10 such networks lie
    measure_networks([model, other], Scenario())    # the real thing, for the few that matter
    with exclusive("cuda:0"): ...                   # one timing at a time; `shared` for everything else

On a GPU take `engine=graph`: eager decode of small models times Python, not the network. FLOPs are counted
in `hw_profiles.flops`, the only module that needs fvcore.
"""

from hw_profiles.latency.assembly import merged
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.locks import exclusive, shared
from hw_profiles.timing.measure import measure_model, measure_networks
from hw_profiles.timing.timings import READINGS, Latency

__all__ = [
    "READINGS",
    "Latency",
    "LatencyTable",
    "exclusive",
    "measure_model",
    "measure_networks",
    "merged",
    "profile_space",
    "shared",
]
