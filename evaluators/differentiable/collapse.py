"""Watching a differentiable search for its known failure: it ends with skips, and does not say so.

Two signs are watched. The dominant eigenvalue of the Hessian of the validation loss in the logits rises when
the search runs into a sharp minimum, from which the discretised network falls off; the search stops, and goes
back, when the smoothed eigenvalue has grown by more than a third within five readings (Zela et al. 2020,
arXiv:1909.09656: the ratio falls below 0.75). And the share of options without parameters: where most places
that could have been left out would be, in two readings running, it stops and goes back as well.

What was found is reported as findings, plain records that travel with the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from search_spaces.language.genotype import Genotype
from search_spaces.language.walk import Condition, intersection
from search_spaces.mixture.conditions import Chances, Genes
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import PLACES
from search_spaces.network.sublayers import decoders_in

SMOOTH = 5
BACK = 5
RATIO = 0.75
"""How many readings are averaged, how far back they are compared, and below which ratio a search stops."""

LIMIT = 0.5
"""The share of places left empty, of those that may be, above which an architecture is degenerate."""

Kind = Literal["curvature", "parameter-free", "degenerate", "target missed", "not additive", "not seen"]


@dataclass(frozen=True)
class Finding:
    """Something a reader of the outcome must know: what, at which step, in words, and its figures."""

    kind: Kind
    step: int
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {"kind": self.kind, "step": self.step, "text": self.text, "figures": dict(self.figures)}


@dataclass(frozen=True)
class Reading:
    """What was seen at one step; `empty` is the share of places that the likeliest network leaves empty."""

    step: int
    loss: float
    eigenvalue: float
    empty: float
    logits: Tensor


class EmptyPlaces:
    """How many of the places that may hold nothing (no block, or one without parameters) do."""

    def __init__(self, genes: Genes) -> None:
        self.genes = genes
        self.empty, self.there = _places(genes)

    def __bool__(self) -> bool:
        return bool(self.empty)

    def share(self, shares: Tensor) -> float:
        """The expected share of them, among the layers that are there; 0 where no place may be empty."""
        if not self.empty:
            return 0.0
        shares = shares.detach().double()
        there = float(Chances(self.genes, self.there)(shares).sum())
        return float(Chances(self.genes, self.empty)(shares).sum()) / there if there > 0 else 0.0

    def of(self, genotype: Genotype) -> float:
        """The share in one architecture."""
        return self.share(self.genes.one_hot(genotype, torch.float64))


def _places(genes: Genes) -> tuple[list[Condition], list[Condition]]:
    """When places hold nothing, and when the places that may hold nothing are there at all."""
    empty, there = list[Condition](), list[Condition]()
    for decoder in decoders_in(genes.space.root):
        d_model = next(decoder.closings("d_model")).value
        for layer, place in product(decoder.layers(), PLACES):
            options = list(layer.closings(place))
            bare = [when for block, when in options if block is None or not parameter_shapes(block, d_model)]
            here = intersection(decoder.condition, layer.condition)
            if not bare or len(bare) == len(options) or here is None:
                continue
            empty += [joined for when in bare if (joined := intersection(here, when)) is not None]
            there.append(here)
    return empty, there


def alarm(readings: Sequence[Reading]) -> tuple[Finding, int] | None:
    """What is wrong at the last reading, and the reading to go back to; None while all is well."""
    now = len(readings) - 1
    if now >= BACK:
        before, after = _smoothed(readings, now - BACK), _smoothed(readings, now)
        if after > 0 and 0 < before / after < RATIO:
            text = (
                f"the curvature of the validation loss grew from {before:.3g} to {after:.3g}: the search"
                f" stopped at step {readings[now].step} and went back to step {readings[now - BACK].step}"
            )
            figures = {"before": before, "after": after, "ratio": before / after}
            return Finding("curvature", readings[now].step, text, figures), now - BACK
    if now >= 1 and min(reading.empty for reading in readings[now - 1 :]) > LIMIT:
        healthy = next((i for i in range(now, -1, -1) if readings[i].empty <= LIMIT), 0)
        text = (
            f"{readings[now].empty:.0%} of the places that may be left empty would be: the search stopped at"
            f" step {readings[now].step} and went back to step {readings[healthy].step}"
        )
        return Finding("parameter-free", readings[now].step, text, {"empty": readings[now].empty}), healthy
    return None


def degenerate(empty: float, step: int) -> Finding | None:
    """The finding that goes with a winner that leaves most places empty."""
    if empty <= LIMIT:
        return None
    text = (
        f"the winner leaves {empty:.0%} of the places empty that may be: this is how differentiable search is"
        " known to fail; do not trust it without training it against random choice"
    )
    return Finding("degenerate", step, text, {"empty": empty})


def _smoothed(readings: Sequence[Reading], at: int) -> float:
    return fmean(abs(reading.eigenvalue) for reading in readings[max(0, at - SMOOTH + 1) : at + 1])
