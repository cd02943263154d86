"""What clients of a server will see, predicted: the table's latencies in a simulation of our scheduler.

They need a scenario with arrivals, `chat=cpu,batch=8,arrivals=4/s,prompt=512,new=128`. Members of the front
are measured with the same load (`nas.serving.load`).
"""

from __future__ import annotations

from functools import lru_cache

from foundation.errors import ProfileError
from hw_profiles.latency.table import LatencyTable
from nas.objectives.base import CostModel, Objective, objectives
from nas.objectives.latency import PREDICTED
from nas.serving.figures import FIGURES, check_served
from nas.study.trial import ROUGH, Value
from search_spaces.network.decoder import Decoder

ABOUT = (
    "tokens of all answers a second, under the arrivals of the scenario",
    "half of the requests wait at most so long for their first token",
    "95 % of the requests wait at most so long for their first token",
    "half of the answers take at most so long for each further token",
    "95 % of the answers take at most so long for each further token",
)


@lru_cache(maxsize=1024)
def _simulated(table: LatencyTable, spec: Decoder) -> dict[str, float]:
    """All figures of a network, which several objectives ask for."""
    from nas.serving.simulation import simulate
    from nas.tables.serving_ratios import ratios_of

    told = table.predict(spec)
    costs = ratios_of(table).costs(told["prefill_ms"][0], told["decode_ms"][0], table.scenario)
    return simulate(costs, table.scenario)


def _of_server(name: str, about: str) -> Objective:
    def cheap(spec: Decoder, cost_model: CostModel) -> Value:
        check_served(cost_model.scenario)
        if not isinstance(cost_model.table, LatencyTable):
            raise ProfileError(f"{name} needs a latency table that was measured here, not an estimate")
        source = PREDICTED + (ROUGH if cost_model.table.rough else "")
        return Value(_simulated(cost_model.table, spec)[name], source=source)

    return Objective(
        name=name,
        unit="tokens/s" if name == FIGURES[0] else "ms",
        about=about,
        cheap=cheap,
        maximise=name == FIGURES[0],
        needs_table=True,
        per_scenario=True,
        on_request=True,
        of_decoders=True,
    )


for _entry in zip(FIGURES, ABOUT, strict=True):
    objectives.add(_of_server(*_entry))
