"""The noise that the draws of one request are made with, in their order.

A draw is the largest of probabilities over exponential noise. Whoever proposes a draw looks at its noise
ahead of time, so that equal probabilities give equal tokens; what is drawn does not depend on who has looked.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor


class Noise:
    """Exponential noise from a seed; None takes one from the system."""

    def __init__(self, seed: int | None) -> None:
        self._dice, self._ahead = torch.Generator(), deque[Tensor]()
        if seed is None:
            self._dice.seed()
        else:
            self._dice.manual_seed(seed)

    def ahead(self, draws: int, size: int) -> Tensor:
        """That [size] of the draw which comes so many after the next."""
        while len(self._ahead) <= draws:
            made = torch.empty(size).exponential_(generator=self._dice)
            self._ahead.append(made.clamp_(min=1e-30))
        return self._ahead[draws]

    def take(self, size: int) -> Tensor:
        """That [size] of the next draw."""
        self.ahead(0, size)
        return self._ahead.popleft()
