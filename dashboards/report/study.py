"""A study's report: one HTML file that works offline, prints, and gives the source of each number."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import plotly.offline

from dashboards.facts import Facts, read_facts
from dashboards.facts.quantities import TIMES
from dashboards.figures import figures
from dashboards.report.baseline_section import baseline_section
from dashboards.report.corpus_section import corpus_section
from dashboards.report.finalist_section import finalist_section
from dashboards.report.front_section import front_section, headline
from dashboards.report.html import Html, commands, document, fact_list, figure, p, section, tag
from dashboards.report.latency_section import latency_section
from dashboards.report.modified_section import modified_section
from dashboards.report.sources_section import sources_section
from dashboards.report.tables import objectives_text
from dashboards.shell_commands import export, store_option, target
from foundation.files import write_atomically
from foundation.text import count, duration
from nas.study.study import Study

SCORERS = {
    "supernet": "the weights of a supernet",
    "scratch": "training each network from scratch",
}
"""What the evaluators score networks by."""

OUTCOMES = {
    "complete": "scored",
    "infeasible": "outside the constraints",
    "illegal": "not an architecture",
}
"""States of trials, where these are not words for a reader."""

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def write_report(study: Study, path: Path | None = None) -> Path:
    """Write the report of a study, by default into its folder; returns its path.

    Raises:
        StoreError: the file cannot be written.
    """
    path = Path(path) if path is not None else study.folder / "report.html"
    write_atomically(path, report_html(read_facts(study)))
    return path


def report_html(facts: Facts) -> str:
    """The report as text."""
    parts = [
        p(f"nas · study {facts.study.name}", kind="kicker"),
        headline(facts),
        _overview(facts),
        front_section(facts),
        finalist_section(facts) if facts.front else None,
        baseline_section(facts),
        modified_section(facts),
        corpus_section(facts),
        _search_section(facts),
        latency_section(facts),
        sources_section(facts),
        _next_commands(facts),
        _footer(facts),
    ]
    body = tag("main", *parts)
    return document(f"{facts.study.name}: a nas study", body, plotly.offline.get_plotlyjs())


def _overview(facts: Facts) -> Html:
    study = facts.study
    size = f", {_large_number(study.space_size)} architectures" if study.space_size else ""
    rows = {
        "space": f"{study.space_name}{size} ({study.space_digest})",
        "objectives": objectives_text(study.objectives),
        "constraints": ", ".join(study.constraints) or "none",
        "scenario": study.scenario,
        "search": f"{study.engine}, seed {study.seed}",
        "trials": _trials(facts),
    }
    if facts.next_steps.scored:
        rows["scored by"] = f"{SCORERS.get(study.evaluator, study.evaluator)}, {count(study.steps, 'step')}"
    if study.rungs:
        rows["rungs"] = "; ".join(study.rungs)
    if facts.corpus is not None:
        rows["text"] = f"{facts.corpus.name} ({facts.corpus.digest})"
    if study.seconds >= 1:
        rows["time spent on trials"] = duration(study.seconds)
    return fact_list(rows)


def _trials(facts: Facts) -> str:
    study = facts.study
    counts = [f"{number:,} {OUTCOMES.get(state, state)}" for state, number in study.counts.items()]
    repeated = f"; {study.repeated:,} repeated an architecture" if study.repeated else ""
    return (", ".join(counts) or "none") + repeated


def _large_number(number: int) -> str:
    if number < 10**7:
        return f"{number:,}"
    digits, _, power = f"{number:.2e}".partition("e+")
    return f"{float(digits):g} {TIMES} 10{str(int(power)).translate(SUPERSCRIPTS)}"


def _search_section(facts: Facts) -> Html | None:
    parts: list[Html] = []
    if facts.hypervolume is not None:
        caption = "The volume that the front dominates. Where it is flat, more trials would add little."
        parts.append(tag("div", tag("h3", "Hypervolume"), figure(figures["hypervolume"](facts), caption)))
    if facts.supernet is not None:
        caption = (
            f"{facts.supernet.steps:,} steps in {duration(facts.supernet.seconds)}."
            " Every network was then scored with the shared weights."
        )
        parts.append(tag("div", tag("h3", "Supernet"), figure(figures["supernet_loss"](facts), caption)))
    proposers = facts.proposers
    if proposers is not None and proposers.skill:
        caption = "How well the model ranks candidates that it has not seen: 1 is perfect, 0 is chance."
        parts.append(tag("div", tag("h3", "Skill of the model"), figure(figures["skill"](facts), caption)))
    if not parts:
        return None
    said = [p(f"{line[0].upper()}{line[1:]}.") for line in proposers.lines] if proposers else []
    pairs = tag("div", *parts, kind="pair") if len(parts) > 1 else parts[0]
    return section("The search", *said, pairs)


def _next_commands(facts: Facts) -> Html:
    """What would do something for this study as it is."""
    study, left = facts.study, facts.next_steps
    lines = {}
    if facts.front:
        lines["Show one network, layer by layer"] = f"nas show {target(study, facts.front[0].digest)}"
    if left.exportable:
        lines["Export it as a plain model"] = export(study, left.exportable)
    if not facts.search_complete or left.unfinished:
        lines["Finish this study"] = f"nas resume {target(study)}"
    elif study.space_size is None or study.distinct < study.space_size:
        lines["Search on"] = f"nas resume {target(study, '--trials', str(2 * study.planned or 100))}"
    if facts.front and left.scored and study.evaluator != "scratch":
        lines["Validate the proxy on random networks"] = f"nas validate {target(study)}"
    lines["Browse all studies, live"] = " ".join(["nas dashboard", *store_option(study)])
    return section("Next commands", commands(lines))


def _footer(facts: Facts) -> Html:
    created = datetime.fromtimestamp(facts.study.created).strftime("%-d %B %Y, %H:%M")
    written = datetime.now().strftime("%-d %B %Y, %H:%M")
    return tag("footer", f"Study created {created}; report written {written}. Store: {facts.study.store}")
