"""The report's part about finalists: networks trained from scratch, beside their scores in the search."""

from __future__ import annotations

from dashboards.facts import Facts, Finalist
from dashboards.figures import figures
from dashboards.report.html import Child, Html, code, figure, joined, p, row, section, table, tag
from dashboards.report.tables import number
from dashboards.report.validation_section import validation_section
from dashboards.shell_commands import target
from foundation.text import count, listed, significant
from nas.study.trial import Value


def finalist_section(facts: Facts) -> Html:
    """Finalists from scratch beside the proxy, and the validation of the proxy."""
    if facts.finals is None:
        resume = code(f"nas resume {target(facts.study)}")
        text = p(
            "No network was trained from scratch yet; ", resume, " trains the finalists.", kind="missing"
        )
        return section("From scratch", text, validation_section(facts))
    return section(
        "From scratch",
        _introduction(facts),
        _short_training_note(facts),
        _figures(facts),
        _finalists(facts),
        validation_section(facts),
    )


def _introduction(facts: Facts) -> Html:
    assert facts.finals is not None
    finalists, rungs = facts.finals.finalists, facts.finals.rungs
    return p(
        f"{_scoring(facts)} {count(len(finalists), 'finalist')} were trained from scratch to"
        f" {listed(f'{rung:,}' for rung in rungs)} steps; each rung kept the best of them."
    )


def _scoring(facts: Facts) -> str:
    if facts.study.evaluator == "scratch":
        return f"The search trained each network by itself for {facts.study.steps:,} steps."
    return "The search scored networks with the weights of the supernet, a proxy."


def _short_training_note(facts: Facts) -> Html:
    assert facts.finals is not None
    first, last = facts.finals.rungs[0], facts.finals.rungs[-1]
    return p(
        tag("strong", "Short trainings. "),
        "They favour mixers that learn fast: short convolutions and plain recurrences are ahead before"
        f" attention has learned where to look. A ranking at {first:,} or {last:,} steps may be different"
        " in a long training.",
        kind="note",
    )


def _figures(facts: Facts) -> Html:
    curves = "Orange: the best at the last rung. Blue: others trained to the end. Bars: one standard error."
    return tag(
        "div",
        figure(figures["finalists"](facts), curves),
        figure(figures["proxy"](facts), "Where the proxy ranks correctly, points rise from left to right."),
        kind="pair",
    )


def _finalists(facts: Facts) -> Html:
    assert facts.finals is not None
    rungs, finalists = facts.finals.rungs, facts.finals.finalists
    latencies = [n for n in ("prefill_ms", "decode_ms") if any(n in f.values for f in finalists)]
    measured = [name for name in latencies if any(name in f.measured for f in finalists)]
    head = ["network", "proxy", *(f"{rung:,} steps" for rung in rungs)]
    for name in latencies:
        head += [f"{name.removesuffix('_ms')} (ms)", *(["measured"] if name in measured else [])]
    rows = []
    for finalist in finalists:
        cells: list[Child] = [code(finalist.digest), _score(finalist.proxy)]
        cells += [_score(finalist.rungs.get(rung)) for rung in rungs]
        for name in latencies:
            cells.append(_latency(finalist.values.get(name)))
            cells += [_latency(finalist.measured.get(name))] if name in measured else []
        line = tag("td", f"{finalist.one_line}; {finalist.outcome}", _mark(finalist), span=len(cells))
        rows.append(joined([row(cells), Html(f'<tr class="one_line">{line}</tr>')]))
    return table(row(head, header=True), rows, "members")


def _mark(finalist: Finalist) -> Html | None:
    if finalist.best:
        return tag("span", "best", kind="tag scratch")
    return tag("span", "tied with the best", kind="tag tied") if finalist.tied else None


def _score(value: Value | None) -> Html | None:
    return number(value, 1.0, 3)


def _latency(value: Value | None) -> str | None:
    return significant(value.value) if value is not None else None
