"""What comes out of steps: losses that are there, and losses that a GPU is still computing.

Reading one number from a GPU waits for all that was asked of it before. So the losses of many steps are read
together, late (`Waiting`), and the program runs ahead of the device meanwhile. On a CPU they are there at
once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic

import torch
from torch import Tensor

from foundation.errors import EvaluationFailed

READ_SECONDS = 0.5
"""Losses are read at least so often, for whoever watches."""

READ_STEPS = 256
"""The most steps whose losses are read together: so far the program may run ahead of the device."""


@dataclass(frozen=True)
class Losses:
    """What came out of a step.

    `shown` are the losses to report, in the task's unit, the first one as the loss of the step. `minimised`
    is all that was minimised, by its name in an error message.
    """

    shown: tuple[float, ...]
    minimised: Mapping[str, float]

    def require_finite(self, step: int) -> None:
        """Raise `EvaluationFailed` where a loss is not finite."""
        for name, loss in self.minimised.items():
            if not math.isfinite(loss):
                raise EvaluationFailed(f"{name} is {loss} at step {step}")


@dataclass(frozen=True)
class LateLosses:
    """The same on a device: `values` are those shown, in nats, then those minimised, in the order of `names`.

    `nats` is what the task's unit is worth.
    """

    values: Tensor
    names: tuple[str, ...]
    nats: float

    @property
    def there(self) -> bool:
        """Whether reading waits for nothing."""
        return self.values.device.type == "cpu"

    def read(self) -> Losses:
        """The losses themselves."""
        return self.of(self.values.tolist())

    def of(self, numbers: list[float]) -> Losses:
        """The losses, given the numbers in `values`."""
        shown = numbers[: len(numbers) - len(self.names)]
        minimised = numbers[len(shown) :]
        return Losses(
            tuple(number / self.nats for number in shown), dict(zip(self.names, minimised, strict=True))
        )


@dataclass
class Waiting:
    """Losses of steps that were not read yet, in their order."""

    _steps: list[tuple[int, Losses | LateLosses]] = field(default_factory=list)
    _since: float = field(default_factory=monotonic)

    def add(self, step: int, losses: Losses | LateLosses) -> None:
        """The losses of one more step."""
        self._steps.append((step, losses))

    @property
    def due(self) -> bool:
        """Whether it is time to read: they are there, they are many, or somebody waits for them."""
        there = not self._steps or not isinstance(self._steps[-1][1], LateLosses)
        return there or len(self._steps) >= READ_STEPS or monotonic() - self._since > READ_SECONDS

    def read(self) -> Iterator[tuple[int, tuple[float, ...]]]:
        """Each step and the losses to show, in order; the device is waited for once.

        Raises:
            EvaluationFailed: a loss is not finite; named is the first such step.
        """
        steps, self._steps, self._since = self._steps, [], monotonic()
        late = [losses for _, losses in steps if isinstance(losses, LateLosses)]
        numbers = iter(_numbers(late))
        for step, losses in steps:
            found = losses.of(next(numbers)) if isinstance(losses, LateLosses) else losses
            found.require_finite(step)
            yield step, found.shown


def _numbers(late: list[LateLosses]) -> list[list[float]]:
    """The numbers of each, copied from the device together."""
    if not late:
        return []
    sizes = [losses.values.numel() for losses in late]
    together = torch.cat([losses.values.detach().flatten() for losses in late]).cpu()
    return [part.tolist() for part in together.split(sizes)]
