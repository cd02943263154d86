"""How well a network models text, scored by an evaluator."""

from __future__ import annotations

from nas.objectives.base import Objective, objectives

objectives.add(
    Objective(
        name="bits_per_byte",
        unit="bits per byte",
        about="validation loss of byte-level language modelling; its evaluator says how it was trained",
    )
)
