"""A study's report: one HTML file that works offline, prints, and says where each number comes from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import plotly.offline

from dashboards.facts import CorpusFacts, Facts, Phase, read_facts
from dashboards.facts.networks import quantity
from dashboards.facts.quantities import TIMES
from dashboards.facts.ties import CERTAIN, QUALITY
from dashboards.figures import figures
from dashboards.report.html import Html, code, document, fact_list, figure, p, row, section, table, tag
from dashboards.report.sections import finals_section, front_section, headline
from dashboards.shell_commands import export, target
from foundation.files import write_atomically
from foundation.text import count, duration, listed, with_error
from nas.study.study import Study
from nas.study.trial import Value


def write_report(study: Study, path: Path | None = None) -> Path:
    """Write the report of a study, by default into its folder; where it is.

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
        finals_section(facts) if facts.front else None,
        _corpus_section(facts),
        _search_section(facts),
        _latency_section(facts),
        _provenance(facts),
        _go_on(facts),
        _footer(facts),
    ]
    body = tag("main", *parts)
    return document(f"{facts.study.name}: a nas study", body, plotly.offline.get_plotlyjs())


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _overview(facts: Facts) -> Html:
    study = facts.study
    size = f", {_large(study.space_size)} architectures" if study.space_size else ""
    rows = {
        "space": f"{study.space_name}{size} ({study.space_digest})",
        "objectives": listed(
            what.label + (" (more is better)" if what.maximise else "") for what in study.objectives
        ),
        "constraints": ", ".join(study.constraints) or "none",
        "scenario": study.scenario,
        "search": f"{study.engine}, seed {study.seed}, scored by {study.evaluator}, {study.steps:,} steps",
        "trials": _trials(facts),
    }
    if facts.corpus is not None:
        rows["text"] = f"{facts.corpus.name} ({facts.corpus.digest})"
    if study.seconds:
        rows["time searching"] = duration(study.seconds)
    return fact_list(rows)


def _trials(facts: Facts) -> str:
    study = facts.study
    counts = [f"{number:,} {state}" for state, number in study.counts.items()]
    repeated = f"; {study.repeated:,} repeated an architecture" if study.repeated else ""
    return (", ".join(counts) or "none") + repeated


def _large(number: int) -> str:
    if number < 10**7:
        return f"{number:,}"
    digits, _, power = f"{number:.2e}".partition("e+")
    return f"{float(digits):g} {TIMES} 10{str(int(power)).translate(RAISED)}"


def _corpus_section(facts: Facts) -> Html | None:
    corpus = facts.corpus
    if corpus is None:
        return None
    learned, judged = f"{corpus.train_bytes / 1e6:,.1f} MB", f"{corpus.valid_bytes / 1e3:,.0f} kB"
    sizes = f"{learned} to learn from, {judged} to be judged on"
    about = p(f"{corpus.name}: {sizes}.", " Scores compare only under the digest ", code(corpus.digest), ".")
    verdict = compressor_verdict(facts, corpus)
    note = p(verdict, kind="note") if verdict else None
    return section(
        "The text, and a compressors", about, note, figure(figures["compressors"](facts), _yardstick(facts))
    )


def _yardstick(facts: Facts) -> str:
    assert facts.study.length is not None, "who reads a text reads it in windows"
    return (
        f"Compressors read the validation part as one stream (at most its first MiB); networks see windows of"
        f" {facts.study.length:,} bytes, each from its beginning, and that puts them at a disadvantage."
    )


def compressor_verdict(facts: Facts, corpus: CorpusFacts) -> str | None:
    """How the best network stands to general-purpose compressors, plainly."""
    best = _best_quality(facts)
    if best is None or not corpus.reference:
        return None
    noise = CERTAIN * (best.error or 0.0)
    sides: dict[str, list[str]] = {"worse than": [], "level with": [], "better than": []}
    for name, value in sorted(corpus.reference.items(), key=lambda item: item[1]):
        side = (
            "level with"
            if abs(best.value - value) < noise
            else "worse than"
            if value < best.value
            else "better than"
        )
        sides[side].append(f"{name} ({value:.3f})")
    told = listed(f"{side} {listed(names)}" for side, names in sides.items() if names)
    text = (
        "At this training budget the best network here, at"
        f" {with_error(best.value, best.error or 0.0)} bits per byte, is {told}."
    )
    if not sides["worse than"]:
        return text
    return f"{text} Read the scores as a ranking of architectures, not as those of models to use."


def _best_quality(facts: Facts) -> Value | None:
    scores = [network.values[QUALITY] for network in facts.front if QUALITY in network.values]
    scores += [last[1] for f in (facts.finals.finalists if facts.finals else ()) if (last := f.last)]
    return min(scores, key=lambda value: value.value, default=None)


def _search_section(facts: Facts) -> Html | None:
    parts: list[Html] = []
    if facts.hypervolume is not None:
        caption = "The volume that the front dominates. A flat end says that more trials would add little."
        parts.append(tag("div", tag("h3", "Hypervolume"), figure(figures["hypervolume"](facts), caption)))
    if facts.supernet is not None:
        told = (
            f"{facts.supernet.steps:,} steps in {duration(facts.supernet.seconds)}."
            " Every network was then scored with the weights that it shares with all others."
        )
        parts.append(tag("div", tag("h3", "Supernet"), figure(figures["supernet_loss"](facts), told)))
    if not parts:
        return None
    return section("The search", tag("div", *parts, kind="pair") if len(parts) > 1 else parts[0])


def _latency_section(facts: Facts) -> Html | None:
    table_facts = facts.table
    if table_facts is None:
        if any("prefill_ms" in network.values for network in facts.front):
            return None
        text = "No latency was predicted: neither an objective nor a constraint asks for one, such as "
        return section("Latency", p(text, code("-o decode_ms"), ".", kind="missing"))
    spent = f" The table took {duration(table_facts.seconds)} to measure." if table_facts.seconds else ""
    timed = sum(bool(network.measured) for network in facts.front)
    built = f" {timed:,} of {count(len(facts.front), 'member')} of the front were built and timed as well."
    machine = f" Machine: {table_facts.machine}." if table_facts.machine else ""
    how = "predicted: the sum of measured blocks, corrected on whole networks."
    if table_facts.estimate is not None:
        card = table_facts.estimate
        how = f"estimates: a roofline from the peaks on the device card {card}; nothing was timed."
    intro = p(f"Latencies of the search are {how}{spent}{machine}{built if timed else ''}")
    words = tag("ul", *(tag("li", phase_text(phase)) for phase in table_facts.phases))
    notes = [p(f"Note: {note}", kind="muted") for note in table_facts.notes]
    drawn = None
    if any(phase.pairs for phase in table_facts.phases):
        caption = "Whole networks that the table was not fitted to. On the dotted line, both agree."
        drawn = figure(figures["table_error"](facts), caption)
    return section("How well latency is predicted", intro, words, drawn, *notes)


def phase_text(phase: Phase) -> str:
    """A table's error in words."""
    name = phase.name.removesuffix("_ms").capitalize()
    if phase.mape is None:
        return f"{name}: no held-out network was measured, so the error is unknown."
    text = (
        f"{name}: the prediction is off by {100 * phase.mape:.1f} % on average over"
        f" {count(len(phase.pairs), 'held-out network')}"
    )
    if phase.tau is None:
        return f"{text}."
    text += f"; the order is right to Kendall's τ = {phase.tau:.2f}"
    return (
        f"{text} (95 % interval {phase.interval[0]:.2f} to {phase.interval[1]:.2f})."
        if phase.interval
        else f"{text}."
    )


SOURCES = {
    "counted": "exact, from the architecture on paper",
    "predicted": "the latency table: measured blocks, summed and corrected",
    "estimate": "a roofline from the peaks on a device card: nothing was timed, and the truth is slower",
    "traced": "every operation of every distinct half layer, traced on paper; peak memory",
    "measured": "the network was built and timed on the machine of the scenario",
    "supernet": "validation loss with weights shared among all architectures: a proxy, good for ranking",
    "scratch": "validation loss after training this network alone for the steps stated",
}


def _provenance(facts: Facts) -> Html | None:
    names: dict[str, dict[str, None]] = {}
    for network in facts.front:
        for name, value in (*network.values.items(), *network.measured.items()):
            names.setdefault(value.source, {})[name] = None
    for finalist in facts.finals.finalists if facts.finals else ():
        for value in finalist.rungs.values():
            names.setdefault(value.source, {})[QUALITY] = None
    if not names:
        return None
    known = [source for source in SOURCES if source in names] + sorted(set(names) - set(SOURCES))
    rows = [_source_row(source, names[source]) for source in known]
    head = row(["word", "how the number came about", "numbers"], header=True)
    return section("Where each number comes from", table(head, rows, "words ruled"))


def _source_row(source: str, names: Iterable[str]) -> Html:
    return row(
        [
            source,
            SOURCES.get(source, "the user's own"),
            ", ".join(sorted(quantity(name).label for name in names)),
        ]
    )


def _go_on(facts: Facts) -> Html:
    study = facts.study
    digest = facts.front[0].digest if facts.front else "DIGEST"
    more = str(2 * study.planned or 100)
    store = "" if target(study) == study.name else " " + target(study).split(" ", 1)[1]
    lines = [
        (f"nas show {target(study, digest)}", "one network, layer by layer"),
        (export(study, digest), "take it home as a plain model"),
        (f"nas resume {target(study, '--trials', more)}", "search on"),
        (f"nas validate {target(study)}", "check the proxy on random networks"),
        (f"nas dashboard{store}", "look around, live"),
    ]
    text = "\n".join(f"# {about}\n{command}" for command, about in lines)
    return section("How to go on", tag("pre", text))


def _footer(facts: Facts) -> Html:
    began = datetime.fromtimestamp(facts.study.created).strftime("%-d %B %Y, %H:%M")
    written = datetime.now().strftime("%-d %B %Y, %H:%M")
    return tag("footer", f"Study begun {began}; report written {written}. Store: {facts.study.store}")
