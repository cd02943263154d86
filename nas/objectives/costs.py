"""Analytic costs: parameters, FLOPs, bytes."""

from __future__ import annotations

from functools import lru_cache

from nas.objectives.base import CostModel, Objective, objectives
from nas.study.trial import Value
from search_spaces.network.cost import NetworkCost
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

SAME = ("params", "weight_bytes")
"""Numbers that no scenario changes."""

COUNTED = (
    ("params", "", "trainable scalars, embeddings included"),
    ("prefill_flops", "FLOPs", "reading the prompt of the scenario, 2 per multiply-add"),
    ("decode_flops", "FLOPs", "one new token half-way through the new tokens, 2 per multiply-add"),
    ("weight_bytes", "bytes", "the exported model file's tensors, at the layers' bits, scales included"),
    ("state_bytes", "bytes", "the decode state after the scenario's last token, whole batch"),
    ("state_bytes_per_token", "bytes", "what one further token adds to the decode state"),
)


@lru_cache(maxsize=1024)
def cost_of(spec: Decoder, scenario: Scenario) -> NetworkCost:
    """The analytic cost, remembered because several objectives ask for one network."""
    return spec.cost(scenario)


def _counted(name: str, unit: str, about: str) -> Objective:
    def cheap(spec: Decoder, cost_model: CostModel) -> Value:
        return Value(float(getattr(cost_of(spec, cost_model.scenario), name)), source="counted")

    return Objective(
        name=name, unit=unit, about=about, cheap=cheap, per_scenario=name not in SAME, of_decoders=True
    )


for _entry in COUNTED:
    objectives.add(_counted(*_entry))
