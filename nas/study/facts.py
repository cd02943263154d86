"""Facts: what a study's record holds besides its trials, by name: plain values that the report shows."""

from __future__ import annotations

from typing import Any

from nas.study.study import Study

CORPUS = "corpus"
"""The data that was learned: its name, digest and sizes."""

SUPERNET = "supernet"
"""How the training of the shared weights went: steps, seconds, losses."""

TABLES = "tables"
"""By scenario, what predicts latency, and its errors."""

PREPARED = "prepared"
"""The seconds that an engine spent before its first trial."""

VALIDATION = "validation"
"""How far the study can be trusted: rank correlations, and the gain over random choice."""


OUTCOME = "outcome"
"""How the last run ended: `complete`, or the `error` that ended it; empty during a run and after a stop."""


def add_fact(study: Study, name: str, fact: Any) -> None:
    """Put a fact on the study's record under its name; an earlier one of this name is replaced."""
    config = dict(study.store.study(study.name).config)
    config["facts"] = {**config.get("facts", {}), name: fact}
    study.store.update_config(study.record.id, config)
