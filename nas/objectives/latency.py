"""Prefill and decode latency, predicted from the study's table of measured blocks; never one number.

Where a study asked for an estimate instead, or the table errs by more than 10 % on whole networks, the values
say so.
"""

from __future__ import annotations

from foundation.errors import ProfileError
from hw_profiles.roofline.roofline import ESTIMATE, Roofline
from nas.objectives.base import CostModel, Objective, Predictor, objectives
from nas.study.trial import ROUGH, Value
from search_spaces.network.decoder import Decoder

PREDICTED = "predicted"
"""The source of a latency that a table predicts."""

PHASES = (
    ("prefill_ms", "time to read the prompt of the scenario (TTFT)"),
    ("decode_ms", "time per new token (TPOT)"),
)


def _predicted(name: str, about: str) -> Objective:
    def cheap(spec: Decoder, cost_model: CostModel) -> Value:
        if cost_model.table is None:
            raise ProfileError(f"{name} needs a latency table; run `nas profile` or let the search make one")
        milliseconds, error = cost_model.table.predict(spec)[name]
        return Value(milliseconds, error, _source(name, cost_model.table))

    return Objective(
        name=name,
        unit="ms",
        about=about,
        cheap=cheap,
        needs_table=True,
        per_scenario=True,
        of_decoders=True,
    )


def _source(name: str, table: Predictor) -> str:
    if isinstance(table, Roofline):
        return ESTIMATE
    return PREDICTED + ROUGH if name in table.rough else PREDICTED


for _entry in PHASES:
    objectives.add(_predicted(*_entry))
