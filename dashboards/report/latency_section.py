"""The report's part about predicted latencies: their source, and their error on held-out networks."""

from __future__ import annotations

from dashboards.facts import Facts, LatencyAccuracy, TableFacts
from dashboards.figures.table_error import table_error_figure
from dashboards.report.html import Child, Html, code, figure, joined, p, section, tag
from dashboards.report.table_notes import ADVICE, explained
from foundation.text import count, duration, percent


def latency_section(facts: Facts) -> Html | None:
    """The errors of the latency tables, in words and in figures, scenario by scenario."""
    if facts.tables:
        shown = [_table(table, facts) for table in facts.tables]
        return section("How well latency is predicted", *shown, _timed(facts))
    if not facts.front or any(name.startswith("prefill_ms") for name in facts.front[0].values):
        return None
    text = (
        "No latency was predicted: neither an objective nor a constraint asks for one. To search for latency"
        " as well, start a study under another name with "
    )
    return section("Latency", p(text, code("-o decode_ms"), ".", kind="missing"))


def _table(table: TableFacts, facts: Facts) -> Html:
    title = tag("h3", table.scenario) if len(facts.tables) > 1 else None
    parts: list[Child] = [title, _introduction(table)]
    if table.accuracies:
        parts.append(tag("ul", *(tag("li", accuracy_text(accuracy)) for accuracy in table.accuracies)))
    if any(accuracy.pairs for accuracy in table.accuracies):
        caption = "Networks that the table was not fitted to. On the dotted line, both agree."
        parts.append(figure(table_error_figure(table), caption))
    return joined([*parts, _notes(table, advised=bool(facts.legend))])


def _introduction(table: TableFacts) -> Html:
    if table.estimate is not None:
        return p(
            "Latencies of the search are estimates: a roofline from the peaks on the device card"
            f" {table.estimate}; nothing was timed. Real latencies are higher, often twice as high or more:"
            " use the estimates to compare networks. For predictions, make a latency table on the device: ",
            code("nas profile"),
            ".",
        )
    text = "Latencies of the search are predicted: the sum of measured blocks, corrected on whole networks."
    text += f" Measuring the table took {duration(table.seconds)}." if table.seconds else ""
    text += f" Machine: {table.machine}." if table.machine else ""
    return p(text)


def _timed(facts: Facts) -> Html | None:
    timed = sum(bool(network.measured) for network in facts.front)
    members = count(len(facts.front), "member")
    return p(f"{timed:,} of {members} of the front were built and timed as well.") if timed else None


def _notes(table: TableFacts, *, advised: bool) -> Html:
    """Remarks of the profile; where the table could be better, how to make it so, unless that was advised."""
    notes = list(map(explained, table.notes))
    shown = [p(note.text, kind="note") for note in notes if note.text and note.warning]
    plain = [tag("li", note.text) for note in notes if note.text and not note.warning]
    shown += [tag("ul", *plain, kind="muted")] if plain else []
    if table.elsewhere:
        shown.append(
            p(
                f"The table was measured on another machine than that of the study: {table.elsewhere}. Read"
                " its latencies as those of that machine.",
                kind="note",
            )
        )
    if not advised and any(note.improvable for note in notes):
        shown.append(p(*ADVICE, kind="muted"))
    return joined(shown)


def accuracy_text(accuracy: LatencyAccuracy) -> str:
    """A latency's error on held-out networks, in words."""
    name = accuracy.name.removesuffix("_ms").capitalize()
    if accuracy.mape is None:
        return f"{name}: no held-out network was measured, so the error is unknown."
    text = (
        f"{name}: the mean absolute error is {percent(accuracy.mape)} over"
        f" {count(len(accuracy.pairs), 'held-out network')}"
    )
    if accuracy.tau is None:
        return f"{text}."
    text += f"; their ranking agrees with Kendall's τ = {accuracy.tau:.2f}"
    if accuracy.interval:
        text += f" (95 % interval {accuracy.interval[0]:.2f} to {accuracy.interval[1]:.2f})"
    return f"{text}."
