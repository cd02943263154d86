"""Prefill and decode latency, predicted from the study's table of measured blocks; never one number.

Where a study asked for an estimate instead, the values say so.
"""

from __future__ import annotations

from foundation.errors import ProfileError
from hw_profiles.roofline.roofline import ESTIMATE, Roofline
from nas.objectives.base import CostModel, Objective, objectives
from nas.study.trial import Value
from search_spaces.network.decoder import Decoder

PHASES = (
    ("prefill_ms", "time to read the prompt of the scenario (TTFT)"),
    ("decode_ms", "time per new token (TPOT)"),
)


def _predicted(name: str, about: str) -> Objective:
    def cheap(spec: Decoder, cost_model: CostModel) -> Value:
        if cost_model.table is None:
            raise ProfileError(f"{name} needs a latency table; run `nas profile` or let the search make one")
        milliseconds, error = cost_model.table.predict(spec)[name]
        return Value(milliseconds, error, ESTIMATE if isinstance(cost_model.table, Roofline) else "predicted")

    return Objective(name=name, unit="ms", about=about, cheap=cheap, needs_table=True, per_scenario=True)


for _entry in PHASES:
    objectives.add(_predicted(*_entry))
