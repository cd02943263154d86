"""The contract of a check: one published method of ours against a reference, and its sizes against its law.

    @checks.add
    class Mine(SystemCheck):
        name, reference, tolerance = "mine", "a library 1.0", 1e-6
        needs = ("a_library",)

        def measure(self) -> Measured:
            return Measured(deviation, counted, law)

`nas modifiers --check` prints a line for each; where a library is not installed, the line says so. Inputs are
made from fixed seeds, so every run measures the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import torch
from torch import Tensor

from foundation.registry import Registry

checks: Registry[type[SystemCheck]] = Registry("check", folder="nas.modifier_checks")
"""All checks by name."""


@dataclass(frozen=True)
class Measured:
    """The largest difference over the largest value, or what the check says; and two counts that must agree.

    `counted` is what is really there (parameters, values of an optimizer, weights that are zero), and `law`
    what the method's formula says.
    """

    deviation: float
    counted: int
    law: int


class SystemCheck(ABC):
    """One method: what it is held against, and how far it may be from it."""

    name: ClassVar[str]
    reference: ClassVar[str]
    tolerance: ClassVar[float]
    counts: ClassVar[str] = "parameters"
    """What `Measured.counted` counts."""

    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules of its reference that are not installed."""
        return tuple(module for module in self.needs if find_spec(module) is None)

    @abstractmethod
    def measure(self) -> Measured:
        """Run both, and compare."""


def good(check: SystemCheck, found: Measured) -> bool:
    """Whether a check is passed; a deviation that is no number passes none."""
    return found.deviation <= check.tolerance and found.counted == found.law


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed values, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(samples: int, width: int) -> Tensor:
    """Inputs [samples, width] that depend on each other, some of them large, as in networks."""
    mixed = random(samples, width // 4) @ random(width // 4, width, seed=1)
    return (mixed + 0.3 * random(samples, width, seed=2)) * random(width, seed=3).exp()
