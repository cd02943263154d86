"""Ready-made recipes, one file each: functions without arguments that return a `Recipe`.

The first line of a file says what the recipe is, and what it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foundation.registry import Registry

recipes: Registry[Callable[[], Any]] = Registry("recipe", folder="evaluators.training.recipes")
