"""Networks of a study as rows of answers to the genes of its space, some hundreds of them at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.facts.reading import Reading
from dashboards.facts.scored import Mask, Numbers, Scored
from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.study.given_networks import is_given


@dataclass(frozen=True)
class GeneRows:
    """Networks: `rows` [networks, genes] of answers, and their numbers in the same order.

    `on_front` says which are members of the front, `of` how many networks they were chosen among.
    """

    encoding: Encoding
    rows: Rows
    scored: Scored
    on_front: Mask
    of: int

    def costs(self, reading: Reading) -> Numbers:
        """The objectives, shape [networks, objectives], turned so that less is better."""
        return self.scored.costs(reading.objectives)


def gene_rows(reading: Reading, encoding: Encoding, most: int, also: Sequence[int] = ()) -> GeneRows:
    """About `most` networks: the trials `also`, the front, and others, each evenly over the search.

    Of a large front only as many as leave half of the room for others. Networks that were given from outside
    have no genes and are left out.
    """
    known = reading.scored
    front = np.isin(known.numbers, [trial.number for trial in reading.members])
    others = int((~front).sum())
    members = _evenly(np.flatnonzero(front), max(most // 2, most - others))
    rest = _evenly(np.flatnonzero(~front), most - len(members))
    chosen = np.unique(np.concatenate([members, rest, np.flatnonzero(np.isin(known.numbers, also))]))
    trials = known.whole(known.numbers[chosen].tolist())
    kept = [
        int(i)
        for i in chosen
        if (trial := trials.get(int(known.numbers[i]))) is not None and not is_given(trial.genotype)
    ]
    rows = [encoding.row(trials[int(known.numbers[i])].genotype) for i in kept]
    mask = np.zeros(len(known), dtype=np.bool_)
    mask[kept] = True
    table = np.stack(rows) if rows else np.empty((0, len(encoding.genes)), np.int16)
    return GeneRows(encoding, table, known.where(mask), front[mask], len(known))


def _evenly(places: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of these, evenly spaced."""
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).astype(np.int64)]
