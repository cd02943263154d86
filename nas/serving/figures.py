"""What clients see of a server under load: the names of its figures, and what has them."""

from __future__ import annotations

from foundation.errors import SettingError
from search_spaces.scenario import Scenario

FIGURES = ("served_tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "tpot_p95_ms")
"""Tokens of all answers a second, and the times to the first token and for each further one."""


def check_served(scenario: Scenario) -> None:
    """Raise `SettingError` where a scenario is none of our server under load."""
    if not scenario.arrivals:
        raise SettingError(
            f"serving figures need a scenario with arrivals, such as cpu,batch=8,arrivals=4/s: {scenario}"
        )
    if scenario.engine != "eager" or scenario.weights != "plain":
        raise SettingError(
            "a scenario with arrivals is of `nas serve`, which runs engine=eager with weights=plain, got"
            f" engine={scenario.engine}, weights={scenario.weights}"
        )
