"""How fast: latency tables of a machine, whole networks measured on it, and counted FLOPs.

    table = profile_space(space, Scenario())        # about 45 s
    table.predict(spec)["prefill_ms"]               # (milliseconds, standard error), in microseconds
    measure_networks([model, other], Scenario())    # the real thing, for the few that matter

FLOPs are counted in `hw_profiles.flops`, the only module that needs fvcore.
"""

from hw_profiles.measure import READINGS, Latency, measure_model, measure_networks
from hw_profiles.profiler import profile_space
from hw_profiles.table import LatencyTable

__all__ = [
    "READINGS",
    "Latency",
    "LatencyTable",
    "measure_model",
    "measure_networks",
    "profile_space",
]
