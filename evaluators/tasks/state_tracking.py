"""What tasks of state tracking have in common: they may be judged on longer sequences than are learned.

At one length a state can be tracked by what holds at that length only. Whether a mixer tracks it shows where
sequences are longer (Grazzi et al. 2024, arXiv:2411.12537, section 5, trains on up to 40 tokens and judges on
256).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from evaluators.tasks.synthetic import Synthetic
from foundation.settings import setting


@dataclass(frozen=True, kw_only=True)
class StateTracking(Synthetic):
    """Every place of a sequence has an answer."""

    judged_length: int | None = setting(
        None,
        help="Tokens of a sequence that judges, where that is not as long as what is learned.",
        least=2,
        most=2**20,
        shown="as learned",
    )

    def validation(self) -> tuple[Tensor, Tensor]:
        """Sequences of their own, of the length that judges."""
        if self.judged_length is None:
            return super().validation()
        return replace(self, length=self.judged_length, judged_length=None).validation()
