"""The report's first part: headline, the front in each pair of objectives, its members and composition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from dashboards.facts import Facts, Finalist, FrontFacts, NetworkFacts
from dashboards.facts.composition import CompositionFacts
from dashboards.facts.networks import quantity_among
from dashboards.facts.quantities import QUALITY, Quantity
from dashboards.figures import figures
from dashboards.figures.front import front_figure
from dashboards.report.html import WITH_A_MOUSE, Child, Html, code, figure, folded, joined, p, section, tag
from dashboards.report.numbers import numbers_table
from dashboards.report.table_notes import ADVICE
from dashboards.report.tables import member_table
from dashboards.shell_commands import target
from foundation.text import count, listed

MEMBERS_INTRODUCTION = (
    "Each number is the best known one: measured where the network was built and timed. ± is one standard"
    " error, ~ is predicted, not measured."
)
BITS = " w and s are bits per weight and per value of the decode state."
TIED = " tied: not significantly better in quality than the next network."
OUTDONE = (
    " dominated as measured: on the front by its predicted latency, but another member is better in every"
    " objective now that both are measured."
)


def headline(facts: Facts) -> Html:
    """How many architectures were scored, and the best value of each objective."""
    study, front = facts.study, [network for network in facts.front if not network.outdone]
    if not front:
        failed = study.counts.get("failed")
        what = f"all {count(failed, 'candidate')} failed" if failed else "nothing scored yet"
        return joined([tag("h1", f"{study.name}: {what}"), _progress(facts), _remarks(facts)])
    scored = count(study.distinct, "distinct architecture")
    title = f"{scored} scored, {len(front):,} on the front"
    lead = [f"On the front, {listed(_best(quantity, front) for quantity in study.objectives)}."]
    best = next((f for f in facts.finals.finalists if f.best), None) if facts.finals else None
    if best is not None and best.last is not None and study.quality is not None:
        steps, score = best.last
        of = study.quality
        lead.append(f" Trained from scratch for {steps:,} steps, the best finalist reaches {of.said(score)}.")
    if facts.baselines is not None and facts.baselines.sentences:
        lead.append(f" {facts.baselines.sentences[0]}")
    notes = [_progress(facts), _no_quality(facts), _remarks(facts)]
    return joined([tag("h1", title), p(*lead, kind="lead"), *notes])


def _remarks(facts: Facts) -> Html:
    """What failed or cannot be read, and what that means for the front."""
    remarks = [p(f"{remark}.", kind="note") for remark in facts.study.remarks]
    if remarks and facts.study.counts.get("failed"):
        remarks.append(
            p(
                "Failed candidates are not on the front and are not tried again. Where one reason repeats,"
                " remove its cause and start a study under another name.",
                kind="muted",
            )
        )
    return joined(remarks)


def _no_quality(facts: Facts) -> Html | None:
    if facts.next_steps.scored:
        return None
    return p(
        "This study has no quality objective: no network was trained, and the front says nothing about how"
        " well its members model text. To search for quality as well, start a study under another name with ",
        code(f"-o {QUALITY}"),
        ".",
        kind="note",
    )


def _best(quantity: Quantity, front: Sequence[NetworkFacts]) -> str:
    values = [network.best_known[quantity.name] for network in front if quantity.name in network.best_known]
    best = (max if quantity.maximise else min)(values, key=lambda value: value.value)
    return quantity.best(best)


def _progress(facts: Facts) -> Html | None:
    study = facts.study
    if facts.search_complete:
        return None
    scored = f"The search is not complete: {facts.scored:,} of {study.planned:,} candidates are scored. "
    return p(scored, code(f"nas resume {target(study)}"), " continues it.", kind="note")


def front_section(facts: Facts) -> Html | None:
    """The front, pair by pair, its members and its composition."""
    if not facts.front:
        return None
    drawn: list[Child] = []
    if facts.fronts:
        drawn.append(figure(front_figure(facts.fronts[0]), caption(facts.fronts[0])))
        small = [_small_figure(pair) for pair in facts.fronts[1:]]
        drawn.append(tag("div", *small, kind="pair") if small else None)
    return section(
        "The front", *drawn, tag("h3", "Members of the front"), _members(facts), _composition(facts)
    )


def _composition(facts: Facts) -> Html | None:
    if facts.composition is None or len(facts.front) < 2:
        return None
    drawn = figure(figures["composition"](facts), _composition_caption(facts.composition))
    return joined([tag("h3", "Composition of the front"), drawn])


def _composition_caption(composition: CompositionFacts) -> str:
    return (
        f"Blue bars: the share of the front ({count(composition.networks, 'network')}) with this option at"
        f" this layer. Orange ticks: its share among all scored architectures ({composition.searched:,})."
        " Where a bar is far beyond its tick, the front selects for the option."
    )


def caption(pair: FrontFacts) -> Html:
    """What is drawn in a plane, and how the numbers are known."""
    text = "Each point is an architecture; the line is the front"
    uncertain = any(point.x.error or point.y.error for point in pair.front)
    text += ", in a band of one standard error." if uncertain and len(pair.front) > 1 else "."
    if (pair.x.scored or pair.y.scored) and len(pair.front) > 1:
        text += (
            " All networks are scored on the same validation windows, so two of them are compared window by"
            f" window, which is more precise than the band: {_ties(pair)}."
        )
    if pair.other_members:
        text += " Faint blue points are on the front because of another objective."
    return joined([text, *_how_known(pair), WITH_A_MOUSE])


def _how_known(pair: FrontFacts) -> Iterator[str]:
    """Which coordinates are measured and which predicted, where there are such."""
    values = [value for point in pair.members for value in (point.x, point.y)]
    measured = any(value.source.startswith("measured") for value in values)
    predicted = any(value.is_predicted for value in values)
    if measured:
        yield " Networks of the front are drawn by what was measured of them."
    if predicted:
        yield " Diamonds were not measured: they are predicted (~)."
    if pair.outdone:
        yield " Crosses are on this line as predicted, and behind it as measured."
    if measured and any(pair.dominated.predicted):
        yield (
            " Dominated networks (grey) were never built: they are where the search predicted them, which may"
            " be beyond the line."
        )


def _ties(pair: FrontFacts) -> str:
    steps = len(pair.front) - 1
    if not pair.ties:
        which = "the one step of this line is" if steps == 1 else f"all {steps} steps of this line are"
        return f"{which} significant"
    verb = "is" if pair.ties == 1 else "are"
    return f"{pair.ties} of {count(steps, 'step')} of this line {verb} within noise (hollow marks)"


def _small_figure(pair: FrontFacts) -> Html:
    drawn = front_figure(pair, height=360)
    return figure(drawn.update_layout(showlegend=False, margin_t=12))


def _members(facts: Facts) -> Html:
    finalists = {each.digest: each for each in facts.finals.finalists} if facts.finals else {}

    def tags(network: NetworkFacts) -> list[Html | None]:
        return [
            tag("span", "tied", kind="tag tied") if network.tied else None,
            tag("span", "dominated as measured", kind="tag") if network.outdone else None,
            tag("span", "finalist", kind="tag scratch") if network.digest in finalists else None,
        ]

    def details(network: NetworkFacts) -> Html:
        return _details(facts, network, finalists)

    about = MEMBERS_INTRODUCTION + (BITS if facts.composition is not None else "")
    about += TIED if any(network.tied for network in facts.front) else ""
    about += OUTDONE if any(network.outdone for network in facts.front) else ""
    marks = [p(f"{_in_words(line, facts)}.", kind="note") for line in facts.legend]
    marks += [p(*ADVICE, kind="muted")] if marks else []
    return joined(
        [p(about, kind="muted"), *marks, member_table(facts.front, facts.study.objectives, tags, details)]
    )


def _in_words(line: str, facts: Facts) -> str:
    """A line about numbers with their labels for their names."""
    names = {name for network in facts.front for name in network.best_known}
    for name in sorted(names, key=len, reverse=True):
        line = re.sub(
            rf"(?<![\w@]){re.escape(name)}(?![\w@])", quantity_among(facts.study.objectives, name).label, line
        )
    return line


def _details(facts: Facts, network: NetworkFacts, finalists: Mapping[str, Finalist]) -> Html:
    """Everything known of a member; that of the first one is unfolded."""
    finalist = finalists.get(network.digest)
    table = numbers_table(
        network.values,
        network.measured,
        objectives=facts.study.objectives,
        scenarios=facts.study.scenarios,
        trained=finalist.rungs if finalist else None,
    )
    lines = tag("ul", *(tag("li", line.strip()) for line in network.layers.splitlines()), kind="source")
    shown = tag("div", table, lines, kind="details")
    return folded("all numbers, and all layers", shown, unfolded=network is facts.front[0])
