"""How rotary positions are stretched beyond the length that a network has learned, as a value of attention.

Each changes the angle f_i by which a pair of channels turns from one token to the next (`ops.rotary`), and
YaRN also the length of queries and keys. They depend on nothing but the pair, so a step turns as a prefill
does. (Scaling by the length of the text at hand, as "dynamic" NTK does, would turn kept keys anew with every
token; it is left out.)

Shapes: K channels that are turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.language.serialization import parts


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Positions that are stretched by a `factor`."""

    factor: float = 8.0

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        check_positive(self, "factor")

    def angles(self, usual: Tensor, base: float) -> Tensor:
        """The angle from one token to the next for every pair of channels [K / 2], from the usual ones."""
        raise NotImplementedError

    @property
    def magnitude(self) -> float:
        """What turned queries and keys are multiplied by."""
        return 1.0


@parts.add
@dataclass(frozen=True, kw_only=True)
class LinearScaling(RotaryScaling):
    """All angles over the factor (Chen et al. 2023, arXiv:2306.15595)."""

    def angles(self, usual: Tensor, base: float) -> Tensor:
        """f / factor."""
        return usual / self.factor


@parts.add
@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(RotaryScaling):
    """Slow angles over the factor, quick ones as they are (Llama 3.1, arXiv:2407.21783, by Meta's code).

    An angle that turns less than `slow` times in `length` tokens is slow, one that turns more than `quick`
    times is quick; between them both are mixed.
    """

    slow: float = 1.0
    quick: float = 4.0
    length: int = 8192

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        super().check()
        check_positive(self, "slow", "quick", "length")
        if self.slow >= self.quick:
            raise IllegalArchitecture(f"Llama3Scaling: slow={self.slow} must be less than quick={self.quick}")

    def angles(self, usual: Tensor, base: float) -> Tensor:
        """f where it is quick, f / factor where it is slow."""
        turns = self.length * usual / (2 * math.pi)
        share = ((turns - self.slow) / (self.quick - self.slow)).clamp(0, 1)
        return (1 - share) * usual / self.factor + share * usual


@parts.add
@dataclass(frozen=True, kw_only=True)
class YarnScaling(RotaryScaling):
    """YaRN (Peng et al. 2023, arXiv:2309.00071): slow angles over the factor, and larger queries and keys.

    The pairs that turn `slow` and `quick` times in `length` tokens are the ends of a ramp over the pairs,
    rounded to whole pairs if `whole_pairs`. `enlarged` is what queries and keys are multiplied by; None:
    0.1 ln(factor) + 1.
    """

    slow: float = 1.0
    quick: float = 32.0
    length: int = 4096
    enlarged: float | None = None
    whole_pairs: bool = True

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        super().check()
        check_positive(self, "slow", "quick", "length")
        if self.enlarged is not None:
            check_positive(self, "enlarged")
        if self.slow >= self.quick or not isinstance(self.whole_pairs, bool):
            raise IllegalArchitecture(f"YarnScaling: slow must be less than quick, got {self!r}")

    def angles(self, usual: Tensor, base: float) -> Tensor:
        """f before the ramp, f / factor behind it."""
        count = usual.shape[-1]
        first, last = (self._pair(turns, base, 2 * count) for turns in (self.quick, self.slow))
        if self.whole_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * count - 1)
        if first == last:
            last += 0.001
        pairs = torch.arange(count, dtype=usual.dtype, device=usual.device)
        share = 1 - ((pairs - first) / (last - first)).clamp(0, 1)
        return (1 - share) * usual / self.factor + share * usual

    def _pair(self, turns: float, base: float, width: int) -> float:
        """The number of the pair that turns so often."""
        return width * math.log(self.length / (turns * 2 * math.pi)) / (2 * math.log(base))

    @property
    def magnitude(self) -> float:
        """What turned queries and keys are multiplied by."""
        if self.enlarged is not None:
            return self.enlarged
        return 0.1 * math.log(self.factor) + 1 if self.factor > 1 else 1.0


def check_rotary_scaling(block: Any) -> None:
    """Raise `IllegalArchitecture` unless the field `rotary_scaling` of a block is None or in range."""
    scaling = block.rotary_scaling
    if scaling is None:
        return
    if not isinstance(scaling, RotaryScaling):
        raise IllegalArchitecture(
            f"{type(block).__name__}: rotary_scaling must be a value such as LinearScaling(factor=2.0),"
            f" got {scaling!r}"
        )
    scaling.check()


def check_positive(value: Any, *names: str) -> None:
    """Raise `IllegalArchitecture` unless these fields are finite numbers above zero."""
    for name in names:
        number = getattr(value, name)
        if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number < math.inf:
            raise IllegalArchitecture(f"{type(value).__name__}: {name} must be positive, got {number!r}")
