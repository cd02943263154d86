"""How good is an architecture: a score with its error, and the evaluators that give one.

The error of one score is mostly the luck of the windows, which all candidates share. So two scores are
compared window by window (`paired_difference`), which sees differences a third of the size that two separate
errors would.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from foundation.errors import EvaluationFailed, SettingError
from foundation.statistics import mean_and_error
from search_spaces.network.decoder import Decoder


@dataclass(frozen=True)
class Score:
    """A mean over the validation windows, lower is better; `samples` are the windows in their fixed order.

    `figures` are what the layers of the network report, by path and name (see
    `evaluators.training.network_training.layer_figures`), `curve` the means after fewer steps of the same
    training, as pairs with the steps.
    """

    value: float
    standard_error: float
    samples: tuple[float, ...]
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)
    curve: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(
        cls,
        samples: Sequence[float],
        figures: Mapping[str, float] | None = None,
        curve: tuple[tuple[int, float], ...] = (),
    ) -> Score:
        """The score of two windows or more.

        Raises:
            EvaluationFailed: some window has no finite loss.
        """
        broken = [sample for sample in samples if not math.isfinite(sample)]
        if broken:
            raise EvaluationFailed(f"the validation loss is {broken[0]} on {len(broken)} windows")
        return cls(*mean_and_error(samples), tuple(samples), dict(figures or {}), curve)


class Evaluator(ABC):
    """Scores architectures: a frozen dataclass of plain values, which opens what is heavy when needed."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of every score."""

    @abstractmethod
    def score(self, spec: Decoder, steps: int, seed: int) -> Score:
        """The score after `steps` steps of training (0 where no training is needed).

        Raises:
            EvaluationFailed: the loss is not finite.
            IllegalArchitecture: the architecture cannot be built, or cannot read the task.
        """


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean of a - b over the windows that both were scored on, and its standard error.

    Raises:
        SettingError: the samples cannot be of the same windows.
    """
    if len(a) != len(b) or len(a) < 2:
        raise SettingError(f"only scores of the same windows can be paired, got {len(a)} and {len(b)}")
    return mean_and_error([first - second for first, second in zip(a, b, strict=True)])


def tied(a: Sequence[float], b: Sequence[float], z: float = 1.96) -> bool:
    """Whether the difference of two scores is within `z` standard errors of none."""
    mean, error = paired_difference(a, b)
    return abs(mean) <= z * error
