"""Several studies on one page: their fronts in one plane, the volumes they dominate, and the joint front."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import plotly.offline

from dashboards.facts import ComparedStudy, ComparisonFacts, JointMember, NetworkFacts, read_comparison
from dashboards.figures.comparison import MAX_BANDS, fronts_figure, progress_figure
from dashboards.report.html import (
    WITH_A_MOUSE,
    Child,
    Html,
    code,
    commands,
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
from dashboards.report.tables import member_table, objectives_text
from dashboards.shell_commands import target
from dashboards.style.theme import MARKS
from foundation.files import write_atomically
from foundation.text import count, listed, percent, significant
from nas.study.study import Study

GROWN = "Read vertically: shares at an equal number of scored architectures."
"""How to read the curves of volumes."""

MAX_NAMES = 3
"""A title names at most this many studies."""


def write_comparison(studies: Sequence[Study], path: Path | None = None) -> tuple[Path, ComparisonFacts]:
    """Write a comparison of studies of one store, by default beside their folders; returns path and facts.

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
    names = title(facts)
    parts = [
        p(f"nas · {count(len(facts.studies), 'study', 'studies')} side by side", kind="kicker"),
        tag("h1", f"{names}, compared"),
        p(lead(facts), kind="lead"),
        _overview(facts),
        *(p(note, kind="note") for note in facts.notes),
        _fronts(facts),
        _volumes(facts),
        _joint_front(facts),
        _baselines(facts),
        _next_commands(facts),
        _footer(facts),
    ]
    return document(f"{names}: nas studies compared", tag("main", *parts), plotly.offline.get_plotlyjs())


def title(facts: ComparisonFacts) -> str:
    """The names of the studies, or their number where these are too many for a title."""
    if len(facts.studies) > MAX_NAMES:
        return f"{len(facts.studies)} studies"
    return listed(compared.study.name for compared in facts.studies)


def lead(facts: ComparisonFacts) -> str:
    """The result in two sentences: shares of the joint volume, members of the joint front."""
    repeated = sum(len(member.discoveries) > 1 for member in facts.joint)
    members = f"On the joint front, {count(len(facts.joint), 'network')}"
    first, *rest = sorted(facts.studies, key=lambda compared: -compared.share)
    best = f"Of the volume that all fronts dominate together, {first.study.name} covers"
    if len(facts.studies) > MAX_NAMES:
        text = f"{repeated:,} scored by more than one study" if repeated else "each scored by one study only"
        return f"{best} the most, {percent(first.share, first.error)}. {members}, {text}."
    shares = [f"{best} {percent(first.share, first.error)}"]
    shares += [f"{compared.study.name} {percent(compared.share, compared.error)}" for compared in rest]
    counts = listed(f"{compared.joint:,} by {compared.study.name}" for compared in facts.studies)
    several = f", {repeated:,} scored by more than one study" if repeated else ""
    return f"{listed(shares)}. {members}: {counts}{several}."


def _overview(facts: ComparisonFacts) -> Html:
    first = facts.studies[0].study
    spaces = dict.fromkeys(f"{c.study.space_name} ({c.study.space_digest})" for c in facts.studies)
    reference = zip(facts.objectives, facts.reference, strict=True)
    rows = {
        "space" if len(spaces) == 1 else "spaces": listed(spaces),
        "objectives": objectives_text(facts.objectives),
        "scenario": first.scenario,
        "scored by": f"{first.evaluator}, {first.steps:,} steps",
        "reference point": listed(
            f"{quantity.label} {quantity.text(value)}" for quantity, value in reference
        ),
    }
    return fact_list(rows)


def _fronts(facts: ComparisonFacts) -> Html:
    drawn: list[Child] = [figure(fronts_figure(facts), joined([fronts_text(facts), WITH_A_MOUSE]))]
    small = [
        figure(fronts_figure(facts, pair, 360).update_layout(showlegend=False, margin_t=12))
        for pair in range(1, len(facts.studies[0].fronts))
    ]
    drawn += [tag("div", *small, kind="pair")] if small else []
    return section("The fronts", *drawn)


def fronts_text(facts: ComparisonFacts) -> str:
    """How to read the fronts of several studies."""
    text = "Each line is the front of one study"
    text += ", in a band of one standard error." if len(facts.studies) <= MAX_BANDS else "."
    pair = facts.studies[0].fronts[0]
    if pair.x.scored or pair.y.scored:
        text += " Hollow marks: the next step of the line is within noise."
    if any(compared.fronts[0].other_members for compared in facts.studies):
        text += " Faint marks are on their study's front because of another objective."
    if any(len(member.discoveries) > 1 for member in facts.joint):
        text += " A mark within a mark: several studies scored that network."
    if any(point.is_predicted for compared in facts.studies for point in compared.fronts[0].members):
        text += " Points and volumes are those that the searches predicted, so that all are compared alike."
    return f"{text} A click on a name hides its study."


def _volumes(facts: ComparisonFacts) -> Html:
    head = ["study", "engine", "scored", "on its front", "hypervolume", "share of all"]
    head += [f"share after {facts.fewest:,}"] if facts.uneven else []
    head += ["on the joint front", "scored only here"]
    rows = [_volume_row(facts, index) for index in range(len(facts.studies))]
    return section(
        "Dominated volumes",
        p(volumes_text(facts)),
        table(row(head, header=True), rows, "ruled standing"),
        figure(progress_figure(facts), GROWN),
    )


def _volume_row(facts: ComparisonFacts, index: int) -> Html:
    compared = facts.studies[index]
    shares = [percent(compared.share, compared.error)]
    shares += [percent(compared.share_at(facts.fewest))] if facts.uneven else []
    return row(
        [
            joined([_sign(index), compared.study.name]),
            compared.engine,
            f"{compared.study.distinct:,}",
            f"{len(compared.front):,}",
            significant(compared.volume, 4),
            *shares,
            f"{compared.joint:,}",
            f"{compared.exclusive:,}",
        ]
    )


def volumes_text(facts: ComparisonFacts) -> str:
    """What a volume is a share of, and what its error holds."""
    text = (
        "The hypervolume is the volume that a front dominates below the reference point, a tenth of the"
        " range beyond the worst member of any front; costs count in logarithms, so that a factor of two is"
        " worth the same everywhere. The share is relative to the volume that all fronts dominate together."
    )
    if any(compared.error is not None for compared in facts.studies):
        text += (
            " ± is one standard error from resampling the validation windows; the variance between random"
            " seeds of training or of the search is not included."
        )
    if facts.uneven:
        text += f" Studies scored different numbers of architectures: compare them after {facts.fewest:,}."
    return text


def _sign(index: int) -> Html:
    return tag("span", MARKS[index].sign, kind=f"sign of{index}")


def _joint_front(facts: ComparisonFacts) -> Html:
    members = {id(member.network): member for member in facts.joint}

    def tags(network: NetworkFacts) -> list[Html]:
        return _discovery_tags(members[id(network)])

    about = p(
        "The networks that no network of any of these studies dominates, and the studies that scored them.",
        kind="muted",
    )
    return section(
        "The joint front", about, member_table([m.network for m in facts.joint], facts.objectives, tags)
    )


def _discovery_tags(member: JointMember) -> list[Html]:
    return [
        tag(
            "span",
            _sign(discovery.index),
            f"{discovery.study}{', random' if discovery.random else ''}",
            kind="tag",
            title=f"trial {discovery.number}, {discovery.digest}",
        )
        for discovery in member.discoveries
    ]


def _baselines(facts: ComparisonFacts) -> Html | None:
    """What became of the baselines of each study that has some."""
    told = [
        p(_sign(index), f"{compared.study.name}: ", " ".join(compared.verdicts))
        for index, compared in enumerate(facts.studies)
        if compared.verdicts
    ]
    return section("Against baselines", *told) if told else None


def _next_commands(facts: ComparisonFacts) -> Html:
    lines = dict(_show(facts, compared, index) for index, compared in enumerate(facts.studies))
    lines["Write the report of one study"] = f"nas report {target(facts.studies[0].study)}"
    return section("Next commands", commands(lines))


def _show(facts: ComparisonFacts, compared: ComparedStudy, index: int) -> tuple[str, str]:
    """The command that shows a member: one that this study scored of the joint front, if there is one."""
    own = (d.digest for member in facts.joint for d in member.discoveries if d.index == index)
    digest = next(own, compared.front[0].digest)
    about = f"Show one network of {compared.study.name}, layer by layer"
    return about, f"nas show {target(compared.study, digest)}"


def _footer(facts: ComparisonFacts) -> Html:
    written = datetime.now().strftime("%-d %B %Y, %H:%M")
    return tag("footer", f"Written {written}. Store: ", code(facts.studies[0].study.store))
