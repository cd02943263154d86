"""Ready-made spaces, one file each: functions without arguments that return a `Space`."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.registry import Registry
from search_spaces.space import Space

spaces: Registry[Callable[[], Space]] = Registry("space", folder="search_spaces.spaces")
