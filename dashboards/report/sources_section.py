"""The report's part about where each number comes from."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards.facts import Facts
from dashboards.facts.networks import quantity_among
from dashboards.report.html import Html, row, section, table

SOURCES = {
    "counted": "exact, counted on the architecture",
    "predicted": "the latency table: measured blocks, summed and corrected",
    "predicted, rough": "the latency table, which errs by more than 10 % on whole networks: marked ?",
    "estimate": "a roofline from the peaks on a device card: nothing was timed, real latencies are higher",
    "traced": "every operation of every distinct sublayer, traced on the meta device; peak memory",
    "measured": "the network was built and timed on the machine of the scenario",
    "measured, rough": "built and timed on the scenario's machine, but the machine was busy: marked ?",
    "supernet": "validation score with weights shared among all architectures: a proxy, for ranking",
    "scratch": "validation score after training this network alone for the given number of steps",
}


def sources_section(facts: Facts) -> Html | None:
    """Each word for a source, its meaning, and the quantities that have it."""
    quantities: dict[str, set[str]] = {}
    for source, name in _sources(facts):
        quantities.setdefault(source, set()).add(quantity_among(facts.study.objectives, name).plain.label)
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
    quality = facts.study.quality
    if facts.finals is not None and quality is not None:
        scores = (value for finalist in facts.finals.finalists for value in finalist.rungs.values())
        yield from ((score.source, quality.name) for score in scores)
