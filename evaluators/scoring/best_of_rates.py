"""Training from scratch at several learning rates, of which the best counts.

A synthetic task is solved or not, and at which rate depends on the mixer: a comparison of mixers at one rate
is one of rates (Arora et al. 2023, arXiv:2312.04927, section 3, and Poli et al. 2024, arXiv:2403.17844,
section 3, sweep it). The choice is made on the windows that judge, so the best of K is a little too good: by
about the noise of one training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from evaluators.scoring.base import Score
from evaluators.scoring.scratch import FromScratch
from foundation.errors import EvaluationFailed
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model

STEP = 10**0.5
"""Between two rates: half a decade."""

RATE = "rate"
"""The figure with the factor of the best rate; those of all rates follow it."""


@dataclass(frozen=True)
class BestOfRates(FromScratch):
    """As `FromScratch`, at `rates` factors around the recipe's own rate, half a decade apart."""

    rates: int = 3

    @property
    def factors(self) -> tuple[float, ...]:
        """What the recipe's rate is multiplied by: for three 0.32, 1 and 3.2, for two 1 and 3.2."""
        return tuple(float(f"{STEP ** (i - (self.rates - 1) // 2):.3g}") for i in range(self.rates))

    def score(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Score:
        """The best score; its figures say which factor on the rate gave it, and what each of them scored.

        Raises:
            EvaluationFailed: it diverged at every rate.
        """
        scores, failure = dict[float, Score](), None
        for factor in self.factors:
            try:
                scores[factor] = self._at(factor).score(spec, steps, seed, on_step)
            except EvaluationFailed as error:
                failure = error
        if not scores:
            raise EvaluationFailed(f"at each of {self.rates} learning rates: {failure}")
        best = min(scores, key=lambda factor: scores[factor].value)
        told = {RATE: best} | {f"{RATE} {factor:g}": each.value for factor, each in scores.items()}
        return replace(scores[best], figures={**scores[best].figures, **told})

    def trained_model(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Model:
        """The model of the best rate."""
        best = self.score(spec, steps, seed, on_step).figures[RATE]
        return self._at(best).trained_model(spec, steps, seed, on_step)

    def steps_left(self, spec: Decoder, steps: int, seed: int) -> int:
        """As of `FromScratch`, of all rates together."""
        return sum(self._at(factor).steps_left(spec, steps, seed) for factor in self.factors)

    def forget(self, spec: Decoder, steps: int, seed: int) -> None:
        """As of `FromScratch`, at every rate."""
        for factor in self.factors:
            self._at(factor).forget(spec, steps, seed)

    def _at(self, factor: float) -> FromScratch:
        same = {each.name: getattr(self, each.name) for each in fields(FromScratch)}
        return FromScratch(**{**same, "recipe": replace(self.recipe, rate=self.recipe.rate * factor)})
