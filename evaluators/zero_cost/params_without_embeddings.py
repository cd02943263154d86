"""The number of parameters without the embedding: what every other score has to beat."""

from __future__ import annotations

from evaluators.zero_cost.base import Probe, zero_costs


@zero_costs.add
def params_without_embeddings(probe: Probe) -> float:
    """Trainable scalars besides the embedding."""
    return float(sum(weight.numel() for weight in probe.body.values()))
