"""Several studies on one page: their fronts laid over each other, and who found what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import plotly.offline

from dashboards.facts import ComparedStudy, ComparisonFacts, JointMember, NetworkFacts, read_comparison
from dashboards.facts.ties import QUALITY
from dashboards.figures.comparison import MAX_BANDS, fronts_figure, progress_figure
from dashboards.report.html import (
    Html,
    code,
    document,
    fact_list,
    figure,
    joined,
    p,
    row,
    section,
    table,
    tag,
)
from dashboards.report.tables import member_table
from dashboards.shell_commands import target
from dashboards.style.theme import MARKS
from foundation.files import write_atomically
from foundation.text import count, listed, percent, significant
from nas.study.study import Study

NAMED = 3
"""How many studies a title names."""


def write_comparison(studies: Sequence[Study], path: Path | None = None) -> tuple[Path, ComparisonFacts]:
    """Write a comparison of studies of one store, by default beside their folders; where it is, and of what.

    Raises:
        SettingError: the studies cannot be compared.
        StoreError: the file cannot be written.
    """
    facts = read_comparison(studies)
    path = Path(path) if path is not None else studies[0].folder.parent / "compare.html"
    write_atomically(path, comparison_html(facts))
    return path, facts


def comparison_html(facts: ComparisonFacts) -> str:
    """The comparison as text."""
    names = called(facts)
    parts = [
        p(f"nas · {count(len(facts.sides), 'study', 'studies')} side by side", kind="kicker"),
        tag("h1", f"{names}, laid over each other"),
        p(lead(facts), kind="lead"),
        _overview(facts),
        *(p(note, kind="note") for note in facts.notes),
        _fronts(facts),
        _standing(facts),
        _joint(facts),
        _go_on(facts),
        _footer(facts),
    ]
    return document(f"{names}: nas studies compared", tag("main", *parts), plotly.offline.get_plotlyjs())


def called(facts: ComparisonFacts) -> str:
    """The studies by their names, as long as these fit into a title."""
    several = len(facts.sides) > NAMED
    return f"{len(facts.sides)} studies" if several else listed(side.study.name for side in facts.sides)


def lead(facts: ComparisonFacts) -> str:
    """What came out, in two sentences."""
    several = sum(len(member.found) > 1 for member in facts.joint)
    twice = f"{several:,} found more than once"
    members = f"On the joint front, {count(len(facts.joint), 'network')}"
    first, *others = sorted(facts.sides, key=lambda side: -side.share)
    best = f"Of the volume that all fronts dominate together, {first.study.name} covers"
    if len(facts.sides) > NAMED:
        found = twice if several else "none found more than once"
        return f"{best} the most, {percent(first.share, first.error)}. {members}, {found}."
    shares = [f"{best} {percent(first.share, first.error)}"]
    shares += [f"{side.study.name} {percent(side.share, side.error)}" for side in others]
    found = listed(f"{side.joint:,} by {side.study.name}" for side in facts.sides)
    return f"{listed(shares)}. {members}: {found}{', ' + twice if several else ''}."


def _overview(facts: ComparisonFacts) -> Html:
    first = facts.sides[0].study
    spaces = dict.fromkeys(f"{s.study.space_name} ({s.study.space_digest})" for s in facts.sides)
    rows = {
        "space" if len(spaces) == 1 else "spaces": listed(spaces),
        "objectives": listed(
            what.label + (" (more is better)" if what.maximise else "") for what in facts.objectives
        ),
        "scenario": first.scenario,
        "scored by": f"{first.evaluator}, {first.steps:,} steps",
        "reference point": listed(
            f"{what.label} {what.text(value)}"
            for what, value in zip(facts.objectives, facts.reference, strict=True)
        ),
    }
    return fact_list(rows)


def _fronts(facts: ComparisonFacts) -> Html:
    drawn = [figure(fronts_figure(facts), _caption(facts))]
    more = range(1, len(facts.sides[0].fronts))
    small = [
        figure(fronts_figure(facts, plane, 360).update_layout(showlegend=False, margin_t=12))
        for plane in more
    ]
    drawn += [tag("div", *small, kind="pair")] if small else []
    return section("The fronts", *drawn)


def _caption(facts: ComparisonFacts) -> str:
    text = "Each line is the best that one study found"
    text += ", in a band of one standard error." if len(facts.sides) <= MAX_BANDS else "."
    plane = facts.sides[0].fronts[0]
    if QUALITY in (plane.x.name, plane.y.name):
        text += " Hollow marks: the next step of the line is within noise."
    if any(side.fronts[0].elsewhere for side in facts.sides):
        text += " Faint marks are on their front for another objective's sake."
    if any(len(member.found) > 1 for member in facts.joint):
        text += " A mark within a mark: several studies found that network."
    return f"{text} Click a name to hide its study, drag to zoom, double-click to go back."


def _standing(facts: ComparisonFacts) -> Html:
    head = ["study", "engine", "scored", "on its front", "hypervolume", "share of all"]
    head += [f"share after {facts.fewest:,}"] if facts.uneven else []
    head += ["on the joint front", "found by it alone"]
    rows = []
    for place, side in enumerate(facts.sides):
        equal = [percent(side.share_at(facts.fewest))] if facts.uneven else []
        name = joined([_sign(place), side.study.name])
        numbers = [f"{side.study.distinct:,}", f"{len(side.front):,}", significant(side.volume, 4)]
        shares = [percent(side.share, side.error), *equal]
        rows.append(row([name, side.engine, *numbers, *shares, f"{side.joint:,}", f"{side.alone:,}"]))
    progress = figure(progress_figure(facts), "Read upwards at one number of architectures: at equal cost.")
    return section(
        "How much each found",
        p(_reading(facts)),
        table(row(head, header=True), rows, "ruled standing"),
        progress,
    )


def _reading(facts: ComparisonFacts) -> str:
    text = (
        "The hypervolume is what a front dominates below the reference point, a tenth of the range beyond the"
        " worst member of any front; costs count in logarithms, so that twice as fast is worth the same"
        " everywhere. The share is of what all fronts dominate together."
    )
    if any(side.error is not None for side in facts.sides):
        text += (
            " ± is one standard error from the choice of validation windows; what other seeds of training or"
            " of the search would change is not in it."
        )
    if facts.uneven:
        text += f" Studies scored different numbers of architectures: compare them after {facts.fewest:,}."
    return text


def _sign(place: int) -> Html:
    return tag("span", MARKS[place].sign, kind=f"sign of{place}")


def _joint(facts: ComparisonFacts) -> Html:
    members = {id(member.network): member for member in facts.joint}

    def tags(network: NetworkFacts) -> list[Html]:
        return _finders(members[id(network)])

    about = p(
        "What no network of any of these studies beats in all objectives, and who found it.", kind="muted"
    )
    networks = [member.network for member in facts.joint]
    rows = member_table(networks, [what.name for what in facts.objectives], tags)
    return section("The joint front", about, rows)


def _finders(member: JointMember) -> list[Html]:
    return [
        tag(
            "span",
            _sign(finding.side),
            f"{finding.study}{', by chance' if finding.chance else ''}",
            kind="tag",
            title=f"trial {finding.number}, {finding.digest}",
        )
        for finding in member.found
    ]


def _go_on(facts: ComparisonFacts) -> Html:
    lines = [_show(facts, side, place) for place, side in enumerate(facts.sides)]
    lines += [f"# all about one study\nnas report {target(side.study)}" for side in facts.sides[:1]]
    return section("How to go on", tag("pre", "\n".join(lines)))


def _show(facts: ComparisonFacts, side: ComparedStudy, place: int) -> str:
    """How to look at a member: one that this study brought to the joint front, if it did."""
    mine = (f.digest for member in facts.joint for f in member.found if f.side == place)
    digest = next(mine, side.front[0].digest)
    return f"# one network of {side.study.name}, layer by layer\nnas show {target(side.study, digest)}"


def _footer(facts: ComparisonFacts) -> Html:
    written = datetime.now().strftime("%-d %B %Y, %H:%M")
    return tag("footer", f"Written {written}. Store: ", code(facts.sides[0].study.store))
