"""The report's part about validation: the proxy, the engine's criterion, the gain over random choice."""

from __future__ import annotations

from dashboards.facts import ClaimFacts, Facts, GainFacts, ValidationFacts
from dashboards.figures import figures
from dashboards.report.html import Child, Html, code, figure, joined, p, tag
from dashboards.shell_commands import target
from foundation.text import count


def validation_section(facts: Facts) -> Html | None:
    """What `nas validate` measured, or that it was not run."""
    validation = facts.validation
    if validation is None:
        if facts.study.evaluator == "scratch":
            return None  # every score comes from a training of its own: there is no proxy to validate
        command = code(f"nas validate {target(facts.study)}")
        return p("The proxy was not validated on random networks; ", command, " does it.", kind="missing")
    parts: list[Child] = [tag("h3", "Validation")]
    parts.append(_proxy(validation, validation.tau) if validation.tau is not None else None)
    parts.append(_claims(validation.claims) if validation.claims else None)
    parts.append(_gain(validation.gain) if validation.gain else None)
    parts.append(_zero_cost(validation) if validation.zero_cost else None)
    if facts.finals is None and validation.pairs:
        parts.append(figure(figures["proxy"](facts)))
    return joined(parts)


def _proxy(validation: ValidationFacts, tau: float) -> Html:
    concordant = round(50 * (1 + tau))
    return p(
        f"On {len(validation.pairs)} random networks, the proxy's ranking and that of training each from"
        f" scratch for {validation.steps or '?'} steps agree with {_tau(tau, validation.interval)}: of a"
        f" hundred pairs of networks, the proxy orders about {concordant} correctly."
    )


def _claims(claims: ClaimFacts) -> Html:
    """How well the engine's own criterion ranks networks."""
    items = [
        tag("li", f"{r.against}: {_tau(r.tau, r.interval)}, {count(r.networks, 'random network')}")
        for r in claims.rankings
    ]
    text = f"The engine {claims.engine} chose by {claims.by}"
    text += ". Their ranking agrees with that of" if items else "."
    notes = [p(f"{claims.engine}: {remark}", kind="note") for remark in claims.remarks]
    return joined([p(text), tag("ul", *items) if items else None, *notes])


def _zero_cost(validation: ValidationFacts) -> Html:
    """How scores of initial weights rank trained networks; a larger score promises a better network."""
    networks = count(validation.zero_cost[0].networks, "trained network")
    items = [tag("li", f"{r.against}: {_tau(r.tau, r.interval)}") for r in validation.zero_cost]
    verdict = validation.zero_cost_verdict
    return joined([p(f"Zero-cost scores on {networks}: {verdict}."), tag("ul", *items)])


def _gain(gain: GainFacts) -> Html:
    direction = "better than random choice" if gain.ratio > 1 else "worse than random choice"
    text = (
        f"The search's candidates dominate {gain.ratio:.2f} times the hypervolume of random choice from the"
        f" same weights{_interval(gain.interval)}, with {gain.candidates:,} scored candidates each:"
        f" {direction if _is_significant(gain) else 'not significantly different from random choice'}."
    )
    over_all = gain.over_all
    if over_all is not None and over_all.against > gain.against:
        text += (
            f" Compared with all {over_all.against:,} random candidates on record: {over_all.ratio:.2f} times"
            f"{_interval(over_all.interval)}."
        )
    return joined([p(text), p(f"{gain.effort}.", kind="muted") if gain.effort else None])


def _is_significant(gain: GainFacts) -> bool:
    """Whether the interval of the gain excludes 1."""
    return gain.interval is not None and not gain.interval[0] <= 1 <= gain.interval[1]


def _tau(tau: float, interval: tuple[float, float] | None) -> str:
    return f"Kendall's τ = {tau:.2f}{_interval(interval)}"


def _interval(ends: tuple[float, float] | None) -> str:
    return f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
