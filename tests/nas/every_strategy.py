"""The registered strategies, for tests that are to hold for each of them."""

from __future__ import annotations

from typing import Any

import pytest

from nas.strategies.base import strategies

SLOW = ("gp", "motpe")
"""Those of which a proposal takes tens of milliseconds or more."""

QUICK = [name for name in strategies if name not in SLOW]

EVERY: list[Any] = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
"""All, the slow ones in the slow tests only."""
