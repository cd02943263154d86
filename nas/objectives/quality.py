"""How well a network learns a task, scored by an evaluator: one objective per task."""

from __future__ import annotations

from nas.objectives.base import Objective, objectives

objectives.add(
    Objective(
        name="bits_per_byte",
        unit="bits per byte",
        about="validation loss of byte-level language modelling; its evaluator says how it was trained",
        task="language",
    )
)
objectives.add(
    Objective(
        name="recall_error",
        unit="share wrong",
        about="wrong answers in multi-query associative recall (a space of its own size: vocab 64)",
        task="recall",
    )
)
