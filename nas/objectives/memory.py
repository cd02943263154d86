"""Peak memory, predicted by tracing every distinct half layer once on the meta device."""

from __future__ import annotations

from functools import lru_cache

from hw_profiles.memory.prediction import Memory, predict_memory
from nas.objectives.base import CostModel, Objective, objectives
from nas.study.trial import Value
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

PEAKS = (
    ("peak_bytes", "peak over the whole run: weights at their bits, state, activations"),
    ("prefill_peak_bytes", "peak while the prompt is read"),
    ("decode_peak_bytes", "peak while a token is decoded"),
)


@lru_cache(maxsize=1024)
def memory_of(spec: Decoder, scenario: Scenario) -> Memory:
    """The prediction, remembered because several objectives ask for one network."""
    return predict_memory(spec, scenario)


def _peak(name: str, about: str) -> Objective:
    def cheap(spec: Decoder, cost_model: CostModel) -> Value:
        return Value(float(getattr(memory_of(spec, cost_model.scenario), name)), source="traced")

    return Objective(
        name=name,
        unit="bytes",
        about=about,
        cheap=cheap,
        per_scenario=True,
        on_request=True,
        at_least="weight_bytes",
        of_decoders=True,
    )


for _entry in PEAKS:
    objectives.add(_peak(*_entry))
