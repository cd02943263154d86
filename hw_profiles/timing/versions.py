"""The version of whatever holds times: those taken in another way must not stand beside new ones."""

from __future__ import annotations

from search_spaces.devices import on_cuda
from search_spaces.scenario import Scenario

VERSION = 2
"""Raised whenever calls are timed in another way.

In 1, a decode step on a CPU was the mean of three; in 2, it is the middle one of a run of 2 ms.
"""

TIMED_OTHERWISE = {1: "whose decode steps were timed in threes and not in runs of 2 ms"}
"""What was otherwise on a CPU, by earlier version; GPUs were always timed as they are now."""


def outdated(version: object, scenario: Scenario) -> str:
    """Why times of a version cannot stand beside those of now, after a comma; empty where they can."""
    if version == VERSION:
        return ""
    for earlier, otherwise in TIMED_OTHERWISE.items():
        if version == earlier:
            return "" if on_cuda(scenario.device) else otherwise
    return f"which are of version {version!r:.40} and not {VERSION}"
