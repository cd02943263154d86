"""Ready-made spaces, one file each: functions without arguments that return a `Space`."""

from __future__ import annotations

from collections.abc import Callable

from foundation.registry import Registry
from search_spaces.language.space import Space

spaces: Registry[Callable[[], Space]] = Registry("space", folder="search_spaces.spaces")
