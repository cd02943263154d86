"""The networks of a study as another latency table prices them: another device, runtime or way of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dashboards.facts.anatomy import READINGS, table_of
from dashboards.facts.networks import architecture
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.scored import Mask, Scored, column_of
from foundation.errors import NasError
from hw_profiles.latency.table import LatencyTable
from nas.pareto import nondominated
from nas.study.trial import Value
from nas.tables.library import Entry, entries
from nas.tables.table_facts import machine_of
from search_spaces.network.decoder import Decoder

MOST = 2000
"""Networks that are priced again: of more, those of the first fronts as the search knew them."""


@dataclass(frozen=True)
class Rescored:
    """Networks with the latencies of a table, without a scenario in their names; `values` are by digest.

    `left_out` are further ones that were not priced, `unknown` ones that the table cannot price.
    """

    title: str
    scored: Scored
    values: Mapping[str, Mapping[str, Value]]
    left_out: int
    unknown: int


def tables_for(reading: Reading) -> dict[str, str]:
    """The tables that price networks of a study, by a word for addresses, in words for a reader.

    Those of its own scenarios, and those of the library that cover its space.
    """
    study = reading.study
    found = {
        f"own:{scenario.name}": f"this study's: {scenario}"
        for scenario in study.plan.scenarios
        if table_of(study, scenario) is not None
    }
    for entry in entries(study.store.url):
        if isinstance(entry, Entry):
            try:
                covers = entry.table.covers(study.space_as_read)
            except NasError:  # of another space altogether, or one that only its source can read
                continue
            if covers:
                found[f"table:{entry.name}"] = f"{entry.name}: {entry.table.scenario}"
    return found


def rescored(reading: Reading, which: str) -> Rescored | None:
    """The networks of a study by the table of a word of `tables_for`; None where there is no such table."""
    table = table_named(reading, which)
    if table is None:
        return None
    known = reading.scored
    chosen = known.where(_first_fronts(reading, known))
    trials = chosen.whole(chosen.numbers.tolist())
    priced: dict[str, dict[str, Value]] = {}
    for trial in trials.values():
        spec = architecture(reading.study, trial)
        if not isinstance(spec, Decoder):
            continue
        try:
            predicted = table.predict(spec)
        except NasError:
            continue
        priced[trial.digest] = {r: Value(*predicted[r], "predicted") for r in READINGS if r in predicted}
    kept = chosen.where(np.isin(chosen.digests, list(priced)))
    for name in READINGS:
        kept = kept.with_column(name, column_of([priced[str(digest)].get(name) for digest in kept.digests]))
    title = f"{table.scenario}, {machine_of(table)}"
    return Rescored(title, kept, priced, len(known) - len(chosen), len(chosen) - len(kept))


def by_table(of: Quantity) -> Quantity:
    """A quantity as a table prices it: a latency is one of its scenario, whichever it was of."""
    return of.plain if of.plain.name in READINGS else of


def table_named(reading: Reading, which: str) -> LatencyTable | None:
    """The table of a word of `tables_for`; None where there is none."""
    kind, _, name = which.partition(":")
    if kind == "own":
        scenarios = {scenario.name: scenario for scenario in reading.study.plan.scenarios}
        return table_of(reading.study, scenarios[name]) if name in scenarios else None
    found = [
        entry for entry in entries(reading.study.store.url) if isinstance(entry, Entry) and entry.name == name
    ]
    return found[0].table if kind == "table" and found else None


def _first_fronts(reading: Reading, scored: Scored) -> Mask:
    """Up to `MOST` networks: whole fronts, one behind the other, while they fit."""
    chosen: Mask = np.zeros(len(scored), dtype=bool)
    if len(scored) <= MOST:
        return np.ones(len(scored), dtype=bool)
    costs, left = scored.costs(reading.objectives), np.arange(len(scored))
    while True:
        kept = np.array(nondominated(costs[left]), dtype=bool)
        if chosen.any() and chosen.sum() + kept.sum() > MOST:
            return chosen
        chosen[left[kept]] = True
        left = left[~kept]
        if not len(left) or chosen.sum() >= MOST:
            return chosen
