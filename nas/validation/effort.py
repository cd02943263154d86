"""What an engine spent before its first trial, beside what a trial costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from nas.engines.base import engines
from nas.study.facts import PREPARED
from nas.study.study import Study
from nas.study.trial import TrialState


def effort_of(study: Study) -> dict[str, Any]:
    """What the study's engine did before its first trial, as far as that is on record.

    `seconds` of it; `candidate_seconds`, the median of a trial; and what it `did`, counted (`Engine.effort`).
    """
    times = [
        trial.finished - trial.started
        for trial in study.trials()
        if trial.state is TrialState.COMPLETE and trial.reused is None and trial.finished is not None
    ]
    effort = {
        "engine": study.plan.engine,
        "seconds": study.facts.get(PREPARED, {}).get("seconds"),
        "candidate_seconds": round(statistics.median(times), 4) if times else None,
        "did": engines[study.plan.engine].effort(study) or None,
    }
    return {name: value for name, value in effort.items() if value is not None}


def effort_text(effort: Mapping[str, Any]) -> str:
    """What `effort_of` returns, in words."""
    engine, seconds, did = effort["engine"], effort.get("seconds"), effort.get("did", {})
    if not did and not round(seconds or 0):
        return f"{engine} chooses while it scores, so both sides cost the same, on the same trained weights"
    text = f"Not counted is what {engine} did before its first trial"
    if did:
        text += f" ({', '.join(f'{count:,} {what}' for what, count in did.items())})"
    if seconds is None:
        return f"{text}: how long that took is not on record"
    text += f": {seconds:.0f} s"
    each = effort.get("candidate_seconds")
    return f"{text}, in which about {seconds / each:,.0f} more candidates could be scored" if each else text
