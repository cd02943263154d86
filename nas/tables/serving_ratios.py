"""How a server's times follow from those of a latency table: measured once, and kept in the table's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from foundation.errors import ProfileError
from hw_profiles.latency.table import LatencyTable
from nas.serving.simulation import Ratios, measured_ratios
from search_spaces.network.model import build

NETWORKS = 3
"""Networks of a table, from the fastest to the slowest, whose times in the engine are measured."""


def with_serving(table: LatencyTable, path: Path) -> LatencyTable:
    """The table with what its scenario's arrivals need, which is then in its file, too.

    Raises:
        SettingError: the scenario is none of our server.
    """
    if not table.scenario.arrivals or table.provenance.serving or not table.networks:
        return table
    by_time = sorted(table.networks, key=lambda network: network.measured["decode_ms"].median_ms)
    chosen = {round(i * (len(by_time) - 1) / max(1, NETWORKS - 1)) for i in range(NETWORKS)}
    networks = [
        (build(each.spec), each.measured["prefill_ms"].median_ms, each.measured["decode_ms"].median_ms)
        for each in (by_time[index] for index in sorted(chosen))
    ]
    found = measured_ratios(networks, table.scenario).to_plain()
    table = replace(table, provenance=replace(table.provenance, serving=found))
    table.save(path)
    return table


def ratios_of(table: LatencyTable) -> Ratios:
    """Those of a table.

    Raises:
        ProfileError: it has none.
    """
    if not table.provenance.serving:
        raise ProfileError(
            f"the latency table for {table.scenario} knows nothing of serving: let the search measure one on"
            " this machine, or `nas profile` with this scenario"
        )
    return Ratios.from_plain(table.provenance.serving)
