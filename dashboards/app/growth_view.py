"""How the fronts that a page shows grew, with the spread of seeds where the store has several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.recent import Recent
from dashboards.facts.growth import HypervolumeFacts, growths
from dashboards.facts.progress import growth_of
from dashboards.facts.reading import Reading
from dashboards.facts.seeds import SeedBand, seed_bands, with_siblings
from dashboards.figures.hypervolume import volume_figure
from foundation.errors import NasError
from foundation.text import listed

KEPT = 8
"""Comparisons of which the volumes are kept while no study has news."""


@dataclass(frozen=True)
class Grown:
    """The curves and bands of some studies; `lost` could not be read."""

    curves: dict[str, HypervolumeFacts]
    bands: tuple[SeedBand, ...] = ()
    lost: tuple[str, ...] = ()

    def figure(self, after: int | None) -> go.Figure:
        """Both in one figure; a line marks a trial."""
        return volume_figure(self.curves, after, self.bands)

    @property
    def told(self) -> str:
        """How to read it."""
        text = "The volume that the front dominates after each trial"
        text += ", as a share of the largest." if len(self.curves) + len(self.bands) > 1 else "."
        if self.bands:
            families = "; ".join(listed(band.studies) for band in self.bands)
            text += (
                f" Alike in all but the seed are {families}: a line is their median, its band reaches from"
                " the lowest to the highest seed, as far as the shortest study went."
            )
        return text + "".join(f" {name} cannot be read." for name in self.lost)


class Growths:
    """The volumes of studies and of those that differ from them only in the seed, read when asked for."""

    def __init__(self, live: LiveStore) -> None:
        self.live = live
        self._kept: Recent[Grown] = Recent(KEPT)

    def of(self, shown: Sequence[Reading]) -> Grown:
        """Those of some studies; the first one's own curve is always drawn."""
        families = with_siblings([each.study.name for each in shown], self.live.records())
        readings, lost = {each.study.name: each for each in shown}, list[str]()
        for name in families:
            if name not in readings:
                try:
                    readings[name] = self.live.study(name)
                except NasError:
                    lost.append(name)
        key = tuple((key_of(each.study.record), each.revision) for each in readings.values())
        return self._kept.get(key, lambda: _grown(list(readings.values()), families, tuple(lost), len(shown)))


def _grown(readings: Sequence[Reading], families: dict[str, str], lost: tuple[str, ...], asked: int) -> Grown:
    first = readings[0]
    if len(readings) == 1:
        alone = growth_of(first)
        return Grown({first.study.name: alone} if alone else {}, lost=lost)
    curves = growths({each.study.name: each.scored for each in readings}, first.objectives)
    bands, others = seed_bands(curves, families)
    own = {each.study.name for each in readings[:asked]}
    shown = {name: curve for name, curve in others.items() if name in own}
    if first.study.name in curves:
        shown = {first.study.name: curves[first.study.name], **shown}
    return Grown(shown, tuple(bands), lost)
