"""The report's part about predicted latencies: their source, and their error on held-out networks."""

from __future__ import annotations

from dashboards.facts import Facts, LatencyAccuracy, TableFacts
from dashboards.figures import figures
from dashboards.report.html import Html, code, figure, p, section, tag
from foundation.text import count, duration

WARNING = "WARNING: "
"""How a note begins that a reader must not miss."""


def latency_section(facts: Facts) -> Html | None:
    """The latency table's error, in words and in a figure."""
    table = facts.table
    if table is None:
        if any("prefill_ms" in network.values for network in facts.front):
            return None
        text = "No latency was predicted: neither an objective nor a constraint uses one, e.g. "
        return section("Latency", p(text, code("-o decode_ms"), ".", kind="missing"))
    items = tag("ul", *(tag("li", accuracy_text(accuracy)) for accuracy in table.accuracies))
    notes = [_note(note) for note in table.notes]
    drawn = None
    if any(accuracy.pairs for accuracy in table.accuracies):
        caption = "Whole networks that the table was not fitted to. On the dotted line, both agree."
        drawn = figure(figures["table_error"](facts), caption)
    return section("How well latency is predicted", _introduction(facts, table), items, drawn, *notes)


def _introduction(facts: Facts, table: TableFacts) -> Html:
    if table.estimate is None:
        source = "predicted: the sum of measured blocks, corrected on whole networks."
    else:
        source = (
            f"estimates: a roofline from the peaks on the device card {table.estimate}; nothing was timed."
        )
    text = f"Latencies of the search are {source}"
    text += f" Measuring the table took {duration(table.seconds)}." if table.seconds else ""
    text += f" Machine: {table.machine}." if table.machine else ""
    timed = sum(bool(network.measured) for network in facts.front)
    if timed:
        text += (
            f" {timed:,} of {count(len(facts.front), 'member')} of the front were built and timed as well."
        )
    return p(text)


def _note(note: str) -> Html:
    """A remark of the profile as a sentence; a warning stands out."""
    text = note.removeprefix(WARNING).rstrip(".")
    if text.partition(" ")[0].isalpha():  # names such as decode_ms stay as they are
        text = text[:1].upper() + text[1:]
    return p(f"{text}.", kind="note" if note.startswith(WARNING) else "muted")


def accuracy_text(accuracy: LatencyAccuracy) -> str:
    """A latency's error on held-out networks, in words."""
    name = accuracy.name.removesuffix("_ms").capitalize()
    if accuracy.mape is None:
        return f"{name}: no held-out network was measured, so the error is unknown."
    text = (
        f"{name}: the mean absolute error is {100 * accuracy.mape:.1f} % over"
        f" {count(len(accuracy.pairs), 'held-out network')}"
    )
    if accuracy.tau is None:
        return f"{text}."
    text += f"; their ranking agrees with Kendall's τ = {accuracy.tau:.2f}"
    if accuracy.interval:
        text += f" (95 % interval {accuracy.interval[0]:.2f} to {accuracy.interval[1]:.2f})"
    return f"{text}."
