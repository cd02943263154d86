"""Small spaces and free objectives for tests of the loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from search_spaces.language.choices import one_of, repeat
from search_spaces.language.serialization import parts
from search_spaces.language.space import Space


@parts.add
@dataclass(frozen=True)
class Wide:
    size: Any = 1
    extra: Any = 0


@parts.add
@dataclass(frozen=True)
class Deep:
    rate: Any = 1


@parts.add
@dataclass(frozen=True)
class Toy:
    stack: Any
    shared: Any = 0


def toy_space() -> Space:
    """Branches, depths and a shared choice."""
    part = one_of(Wide(one_of(1, 2, 3, 4), one_of(0, 1)), Deep(one_of(1, 2, 3)))
    return Space(Toy(repeat(part, (1, 2, 3)), one_of(0, 1, 2, name="shared")), name="toy")


def _sizes(spec: Toy) -> list[int]:
    return [getattr(part, "size", 0) + getattr(part, "extra", 0) for part in spec.stack]


def small(spec: Toy) -> float:
    """Wants few, small parts."""
    return float(sum(_sizes(spec)) + len(spec.stack))


def rich(spec: Toy) -> float:
    """Wants many, large parts of both kinds."""
    deep = sum(getattr(part, "rate", 0) for part in spec.stack)
    return float((12 - sum(_sizes(spec))) ** 2 + (3 - deep) ** 2 + spec.shared)


def slow(spec: Toy) -> float:
    """As `small`, in a few milliseconds, so that a kill finds it at work."""
    time.sleep(0.004)
    return small(spec)
