"""The parts of the report about what came out: the headline, the front, the finalists."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.facts import ClaimFacts, Facts, Finalist, FrontFacts, GainFacts, NetworkFacts
from dashboards.facts.composition import CompositionFacts
from dashboards.facts.quantities import Quantity
from dashboards.facts.ties import QUALITY
from dashboards.figures import figures
from dashboards.figures.front import front_figure
from dashboards.report.html import Child, Html, code, figure, joined, p, row, section, table, tag
from dashboards.report.tables import member_table, number
from dashboards.shell_commands import target
from foundation.text import count, listed, significant, with_error
from nas.study.trial import Value


def headline(facts: Facts) -> Html:
    """What was found, in a sentence, and in another one how good it is."""
    study, front = facts.study, facts.front
    if not front:
        return joined([tag("h1", f"{study.name}: nothing scored yet"), _how_far(facts)])
    scored = count(study.distinct, "distinct architecture")
    title = f"{scored} scored, {len(front):,} on the front"
    bests = listed(_best(what, front) for what in study.objectives)
    lead = [f"On the front, {bests}."]
    best = next((f for f in facts.finals.finalists if f.best), None) if facts.finals else None
    if best is not None and best.last is not None:
        steps, score = best.last
        lead.append(
            f" Trained from scratch for {steps:,} steps, the best finalist reaches"
            f" {with_error(score.value, score.error or 0.0)} bits per byte."
        )
    return joined([tag("h1", title), p(*lead, kind="lead"), _how_far(facts)])


def _best(what: Quantity, front: Sequence[NetworkFacts]) -> str:
    values = [network.values[what.name] for network in front if what.name in network.values]
    best = (max if what.maximise else min)(values, key=lambda value: value.value)
    return what.best(best.value, best.error)


def _how_far(facts: Facts) -> Html | None:
    study = facts.study
    done = sum(study.counts.get(state, 0) for state in ("complete", "failed"))
    if done >= study.planned:
        return None
    text = f"The search is not at its end: {done:,} of {study.planned:,} trials are scored."
    return p(text, kind="note")


def front_section(facts: Facts) -> Html | None:
    """The front, pair by pair, and its members."""
    if not facts.front:
        return None
    drawn: list[Child] = []
    if facts.fronts:
        drawn.append(figure(front_figure(facts.fronts[0]), _caption(facts.fronts[0], facts)))
        more = [_smaller(pair) for pair in facts.fronts[1:]]
        drawn.append(tag("div", *more, kind="pair") if more else None)
    made = None
    if facts.composition is not None and len(facts.front) > 1:
        made = joined(
            [
                tag("h3", "What the front is made of"),
                figure(figures["composition"](facts), _makeup_caption(facts.composition)),
            ]
        )
    return section("The front", *drawn, tag("h3", "Its members"), _members(facts), made)


def _makeup_caption(made: CompositionFacts) -> str:
    return (
        f"Blue bars: the share of the front ({count(made.networks, 'network')}) that has this option at this"
        f" layer. Orange ticks: its share among all that were scored ({made.searched:,}). A bar far beyond"
        " its tick is what the front selects for."
    )


def _caption(pair: FrontFacts, facts: Facts) -> str:
    text = (
        "Each point is an architecture; the line is the best that was found, in a band of one standard error."
    )
    if QUALITY in (pair.x.name, pair.y.name) and len(pair.front) > 1:
        text += (
            f" Scores share their validation windows, so two networks are compared window by window, which is"
            f" sharper than the band: {_ties(pair)}."
        )
    if pair.elsewhere:
        text += " Faint blue points are on the front for another objective's sake."
    return f"{text} Drag to zoom, double-click to go back."


def _ties(pair: FrontFacts) -> str:
    steps = len(pair.front) - 1
    if not pair.ties:
        return f"{'the one step' if steps == 1 else f'all {steps} steps'} of this line can be told apart"
    verb = "is" if pair.ties == 1 else "are"
    return f"{pair.ties} of {count(steps, 'step')} of this line {verb} within noise (hollow marks)"


def _smaller(pair: FrontFacts) -> Html:
    drawn = front_figure(pair, height=360)
    return figure(drawn.update_layout(showlegend=False, margin_t=12))


def _members(facts: Facts) -> Html:
    finalists = {finalist.digest for finalist in facts.finals.finalists} if facts.finals else set()

    def tags(network: NetworkFacts) -> list[Html | None]:
        tied_mark = tag("span", "tied", kind="tag tied") if network.tied else None
        return [
            tied_mark,
            tag("span", "finalist", kind="tag scratch") if network.digest in finalists else None,
        ]

    rows = member_table(facts.front, [what.name for what in facts.study.objectives], tags)
    return joined([p(_READING, kind="muted"), rows])


_READING = (
    "w and s are bits per weight and per value of the decode state. ± is one standard error."
    " tied: cannot be told in quality from the next member."
)


def finals_section(facts: Facts) -> Html:
    """Finalists from scratch beside the proxy, and how far the proxy can be trusted."""
    validate = code(f"nas validate {target(facts.study)}")
    if facts.finals is None:
        go_on = code(f"nas resume {target(facts.study)}")
        text = p("No network was trained from scratch yet; ", go_on, " trains the finalists.", kind="missing")
        return section("From scratch", text, _validation(facts, validate))
    finals = facts.finals
    first, last = finals.rungs[0], finals.rungs[-1]
    told = p(
        f"{_how_scored(facts)} {count(len(finals.finalists), 'finalist')} went on to be trained from scratch"
        f" to {listed(f'{rung:,}' for rung in finals.rungs)} steps, the better part going on at each rung."
    )
    horizon = p(
        tag("strong", "Mind the horizon. "),
        "Short runs favour mixers that learn fast: short convolutions and plain recurrences are ahead before"
        f" attention has learned where to look. An order found at {first:,} or {last:,} steps may turn in a"
        " long run.",
        kind="note",
    )
    pair = tag(
        "div",
        figure(
            figures["rungs"](facts),
            "Orange: the best at the last rung. Blue: others trained to the end. Bars: one standard error.",
        ),
        figure(figures["proxy"](facts), "Where the proxy is right, points rise from left to right."),
        kind="pair",
    )
    return section("From scratch", told, horizon, pair, _finalists(facts), _validation(facts, validate))


def _how_scored(facts: Facts) -> str:
    if facts.study.evaluator == "scratch":
        return f"The search trained each network by itself for {facts.study.steps:,} steps."
    return "The search scored networks with the weights of the supernet, a proxy."


def _finalists(facts: Facts) -> Html:
    assert facts.finals is not None
    rungs, finalists = facts.finals.rungs, facts.finals.finalists
    latency = [n for n in ("prefill_ms", "decode_ms") if any(n in f.values for f in finalists)]
    measured = [n for n in latency if any(n in f.measured for f in finalists)]
    head = ["network", "proxy", *(f"{rung:,} steps" for rung in rungs)]
    for name in latency:
        head += [f"{name.removesuffix('_ms')} (ms)", *(["measured"] if name in measured else [])]
    rows = []
    for finalist in finalists:
        cells: list[Child] = [code(finalist.digest), _score(finalist.proxy)]
        cells += [_score(finalist.rungs.get(rung)) for rung in rungs]
        for name in latency:
            cells += [
                _plain(finalist.values.get(name)),
                *([_plain(finalist.measured.get(name))] if name in measured else []),
            ]
        strip = tag("td", f"{finalist.strip}; {finalist.why}", _mark(finalist), span=len(cells))
        rows.append(joined([row(cells), Html(f'<tr class="strip">{strip}</tr>')]))
    return table(row(head, header=True), rows, "members")


def _mark(finalist: Finalist) -> Html | None:
    if finalist.best:
        return tag("span", "best", kind="tag scratch")
    return tag("span", "tied with the best", kind="tag tied") if finalist.tied else None


def _score(value: Value | None) -> Html | None:
    return number(value, 1.0, 3)


def _plain(value: Value | None) -> str | None:
    return significant(value.value) if value is not None else None


def _validation(facts: Facts, command: Html) -> Html | None:
    found = facts.validation
    scratch = facts.study.evaluator == "scratch"  # then there is no proxy, as a rule
    if found is None:
        missing = p("The proxy was not checked on random networks; ", command, " does it.", kind="missing")
        return None if scratch else missing
    parts: list[Child] = [tag("h3", "How far to trust this")]
    if found.tau is not None:
        right = round(50 * (1 + found.tau))
        parts.append(
            p(
                f"On {len(found.pairs)} random networks, the proxy's ranking and that of training each from"
                f" scratch for {found.steps or '?'} steps agree with"
                f" {_tau(found.tau, found.interval)}: of a hundred pairs of networks, the proxy puts about"
                f" {right} in the right order."
            )
        )
    parts += [_claims(found.claims) if found.claims else None, _gain(found.gain) if found.gain else None]
    if facts.finals is None and found.pairs:
        parts.append(figure(figures["proxy"](facts)))
    return joined(parts)


def _claims(claims: ClaimFacts) -> Html:
    """What the engine itself had predicted."""
    ranked = [
        tag("li", f"{one.against}: {_tau(one.tau, one.interval)}, {count(one.networks, 'random network')}")
        for one in claims.rankings
    ]
    text = f"The engine {claims.engine} chose by {claims.by}"
    text += ". Their ranking agrees with that of" if ranked else "."
    notes = [p(f"{claims.engine}: {told}", kind="note") for told in claims.told]
    return joined([p(text), tag("ul", *ranked) if ranked else None, *notes])


def _gain(gain: GainFacts) -> Html:
    more = "more than chance finds" if gain.ratio > 1 else "less than chance finds"
    verdict = "that may be chance" if _holds_one(gain) else more
    text = (
        f"What the search found dominates {gain.ratio:.2f} times the volume of random choice from the same"
        f" weights{_interval(gain.interval)}, with {gain.candidates:,} scored candidates each: {verdict}."
    )
    whole = gain.over_all
    if whole is not None and whole.against > gain.against:
        text += (
            f" Against all {whole.against:,} random ones that are known: {whole.ratio:.2f} times"
            f"{_interval(whole.interval)}."
        )
    return joined([p(text), p(f"{gain.effort}.", kind="muted") if gain.effort else None])


def _holds_one(gain: GainFacts) -> bool:
    """Whether chance may be as good."""
    return gain.interval is None or gain.interval[0] <= 1 <= gain.interval[1]


def _tau(tau: float, interval: tuple[float, float] | None) -> str:
    return f"Kendall's τ = {tau:.2f}{_interval(interval)}"


def _interval(ends: tuple[float, float] | None) -> str:
    return f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
