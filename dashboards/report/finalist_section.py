"""The report's part about finalists: networks trained from scratch, beside their scores in the search."""

from __future__ import annotations

from dashboards.facts import Facts, Finalist, FinalistFacts
from dashboards.facts.quantities import Quantity
from dashboards.figures import figures
from dashboards.figures.proxy import compared_steps
from dashboards.report.html import Html, code, figure, folded, joined, p, section, tag
from dashboards.report.numbers import numbers_table
from dashboards.report.tables import layers, number
from dashboards.report.validation_section import validation_section
from dashboards.shell_commands import target
from foundation.text import count, listed
from nas.study.trial import Value


def finalist_section(facts: Facts) -> Html | None:
    """Finalists beside the proxy, and the validation of the proxy; None where nothing is trained."""
    if not facts.next_steps.scored:
        return None
    if facts.finals is None:
        return section("Trained from scratch", _none_yet(facts), validation_section(facts))
    return section(
        "Trained from scratch",
        _introduction(facts),
        _unfinished(facts),
        _short_training_note(facts),
        _figures(facts),
        _finalists(facts),
        validation_section(facts),
    )


def _none_yet(facts: Facts) -> Html:
    """Why there is no finalist, and how to have some."""
    left = facts.next_steps
    if left.unfinished:
        resume = code(f"nas resume {target(facts.study)}")
        trained = count(left.finalists, "finalist")
        return p("No finalist was trained yet; ", resume, f" trains {trained} from scratch.", kind="missing")
    text = f"This study trains no finalists. {_scoring(facts)} "
    more = "To have the best networks trained longer, start a study under another name with "
    return p(text, more, code("--finalists"), ".", kind="missing")


def _unfinished(facts: Facts) -> Html | None:
    if not facts.next_steps.unfinished:
        return None
    resume = code(f"nas resume {target(facts.study)}")
    return p("Some finalists are still to be trained; ", resume, " trains them.", kind="note")


def _introduction(facts: Facts) -> Html:
    assert facts.finals is not None
    finalists, rungs = facts.finals.finalists, facts.finals.rungs
    return p(
        f"{_scoring(facts)} {count(len(finalists), 'finalist')} were trained from scratch to"
        f" {listed(f'{rung:,}' for rung in rungs)} steps; each rung kept the best of them."
    )


def _scoring(facts: Facts) -> str:
    if facts.study.evaluator == "scratch":
        return f"The search trained each network by itself for {count(facts.study.steps, 'step')}."
    return "The search scored networks with the weights of the supernet, a proxy."


def _short_training_note(facts: Facts) -> Html:
    assert facts.finals is not None
    first, last = facts.finals.rungs[0], facts.finals.rungs[-1]
    return p(
        tag("strong", "Short trainings. "),
        "They favour mixers that learn fast: short convolutions and plain recurrences are ahead before"
        f" attention has learned where to look. A ranking at {first:,} or {last:,} steps may be different"
        " in a long training: train the networks that matter for longer before choosing among them.",
        kind="note",
    )


def _figures(facts: Facts) -> Html:
    assert facts.finals is not None
    return tag(
        "div",
        figure(figures["finalists"](facts), curves_caption(facts.finals)),
        figure(figures["proxy"](facts), proxy_caption(facts)),
        kind="pair",
    )


def curves_caption(finals: FinalistFacts) -> str:
    """What the colours of the learning curves mean, of those that are there."""
    trained = [finalist for finalist in finals.finalists if finalist.rungs]
    colours = {
        "Orange: the best at the last rung.": any(f.best for f in trained),
        "Blue: others trained to the end.": any(f.finished and not f.best for f in trained),
        "Grey: not trained to the end.": any(not f.finished for f in trained),
        "Bars: one standard error.": any(score.error for f in trained for score in f.rungs.values()),
    }
    return " ".join(text for text, there in colours.items() if there)


def proxy_caption(facts: Facts) -> str:
    """How to read the proxy's figure: only scores after as many steps are compared."""
    steps = compared_steps(facts)
    after = f"All networks as trained from scratch for {count(steps, 'step')}. " if steps is not None else ""
    return f"{after}Where the proxy ranks correctly, points rise from left to right."


def _finalists(facts: Facts) -> Html:
    """Scores by training steps; all other numbers only of those that are not among the front's members."""
    assert facts.finals is not None
    assert facts.study.quality is not None
    rungs, finalists, quality = facts.finals.rungs, facts.finals.finalists, facts.study.quality
    members = {network.digest for network in facts.front}
    titles = ["proxy", *(f"{rung:,} steps" for rung in rungs)]
    bodies = []
    for finalist in finalists:
        scores = [finalist.proxy, *(finalist.rungs.get(rung) for rung in rungs)]
        cells = [tag("td", _score(score), label=title) for title, score in zip(titles, scores, strict=True)]
        name = tag("td", code(finalist.digest), _mark(finalist))
        numbers = None if finalist.digest in members else _numbers(facts, finalist, quality)
        outcome = p(f"{finalist.outcome}.", kind="muted")
        below = tag("td", layers(finalist.one_line), outcome, numbers, span=len(titles) + 1)
        bodies.append(tag("tbody", tag("tr", name, *cells), tag("tr", below, kind="below")))
    head = tag("tr", tag("th", "network"), *(tag("th", title) for title in titles))
    what = f"{quality.axis_title} after training from scratch; ± is one standard error."
    about = p(what[0].upper() + what[1:], kind="muted")
    return joined([about, tag("table", tag("thead", head), *bodies, kind="members")])


def _numbers(facts: Facts, finalist: Finalist, quality: Quantity) -> Html:
    table = numbers_table(
        {name: value for name, value in finalist.values.items() if name != quality.name},
        finalist.measured,
        objectives=facts.study.objectives,
        scenarios=facts.study.scenarios,
    )
    return folded("all numbers", table)


def _mark(finalist: Finalist) -> Html | None:
    if finalist.best:
        return tag("span", "best", kind="tag scratch")
    return tag("span", "tied with the best", kind="tag tied") if finalist.tied else None


def _score(value: Value | None) -> Html | None:
    return number(value, 1.0, 3)
