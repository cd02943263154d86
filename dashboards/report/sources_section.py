"""The report's part about where each number comes from."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards.facts import Facts
from dashboards.facts.networks import quantity
from dashboards.facts.quantities import QUALITY
from dashboards.report.html import Html, row, section, table

SOURCES = {
    "counted": "exact, counted on the architecture",
    "predicted": "the latency table: measured blocks, summed and corrected",
    "predicted, rough": "the same, by a table that errs by more than 10 % on whole networks: marked ?",
    "estimate": "a roofline from the peaks on a device card: nothing was timed, real latencies are higher",
    "traced": "every operation of every distinct sublayer, traced on the meta device; peak memory",
    "measured": "the network was built and timed on the machine of the scenario",
    "measured, rough": "the same, but it did not settle: the machine was busy; marked ?",
    "supernet": "validation loss with weights shared among all architectures: a proxy, for ranking",
    "scratch": "validation loss after training this network alone for the given number of steps",
}


def sources_section(facts: Facts) -> Html | None:
    """Each word for a source, its meaning, and the quantities that have it."""
    quantities: dict[str, set[str]] = {}
    for source, name in _sources(facts):
        quantities.setdefault(source, set()).add(quantity(name).plain.label)
    if not quantities:
        return None
    order = [source for source in SOURCES if source in quantities] + sorted(set(quantities) - set(SOURCES))
    rows = [
        row([source, SOURCES.get(source, "a function of your own"), ", ".join(sorted(quantities[source]))])
        for source in order
    ]
    head = row(["source", "meaning", "numbers"], header=True)
    return section("Where each number comes from", table(head, rows, "words ruled"))


def _sources(facts: Facts) -> Iterator[tuple[str, str]]:
    for network in facts.front:
        for name, value in (*network.values.items(), *network.measured.items()):
            yield value.source, name
    for finalist in facts.finals.finalists if facts.finals else ():
        for value in finalist.rungs.values():
            yield value.source, QUALITY
