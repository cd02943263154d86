"""In which state a study is: not started, running, stopped, failed or complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.text import count
from nas.store.folders import in_use
from nas.study.facts import OUTCOME
from nas.study.study import Study
from nas.study.tally import all_failed
from nas.study.trial import STAGES, TrialState


def state_of(study: Study, counts: Mapping[TrialState, int]) -> tuple[str, str]:
    """The state of a study with so many trials of the search, and the error that ended a failed one.

    It is running while a process of this machine works on it, and stopped from its first run on, which may
    have ended before the first trial, while it measured its table or trained its supernet. Studies searched
    before outcomes were on record are complete with all their trials.

    Raises:
        StoreError: its record cannot be read.
    """
    if in_use(study.folder):
        return "running", ""
    outcome: Mapping[str, Any] = study.facts.get(OUTCOME, {})
    if error := outcome.get("error"):
        return "failed", str(error)
    scored, failed = counts.get(TrialState.COMPLETE, 0), counts.get(TrialState.FAILED, 0)
    tried = scored + failed
    if tried < study.plan.trials and counts.get(TrialState.INFEASIBLE) and study.scores:
        tried = sum(trial.counts for trial in study.trials())  # some of them may have met a gate
    if tried < study.plan.trials or (OUTCOME in study.facts and not outcome):
        return ("stopped" if counts or OUTCOME in study.facts else "not started"), ""
    if scored or not tried:
        return "complete", ""
    nothing = f"none of {count(tried, 'candidate')} passed the gate"
    return "failed", all_failed(study.trials()) if failed == tried else nothing


def others_at_work(study: Study, *, searched: bool = False) -> str:
    """That other processes still work on a study, in a line, and what they score; empty where none does.

    Several may search one study, each until there are as many trials as planned. `searched` says that this
    process has just ended its own search: what still runs then is another one's, on whatever machine.
    """
    trials = [trial for stage in STAGES for trial in study.trials(stage)]
    running = sum(trial.state is TrialState.RUNNING for trial in trials)
    if not (in_use(study.folder) or (searched and running)):
        return ""
    scoring = f", with {count(running, 'trial')} running" if running else ""
    return (
        f"another process still works on study {study.name}{scoring}: this is not its end;"
        f" `nas front {study.name}` shows later what came of it"
    )
