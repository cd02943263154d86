"""Candidates whose process died while they were scored: tried again, and not for ever.

A trial is RUNNING in the store before its work starts. Where candidates are scored in the driver's process,
one that is still RUNNING at the next start was being scored when that process died, by its own doing or not.
How often it died is its reason while it runs. A search that stops in good order says that instead, and
nothing is counted.

A process that is killed from outside (`kill -9`, memory that the system takes back, a power cut) looks like
one that its candidate ended. A candidate that takes seconds is unlikely to be the one that runs twice when
that happens, so it is tried once more; one that is trained from scratch runs for long, goes on from its
checkpoint, and is tried more often.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace

from nas.study.trial import Fidelity, Trial, TrialState

TRIES = 2
"""How often a candidate is tried with which the process dies."""

TRAINED_TRIES = 10
"""How often one that is trained from scratch."""

STOPPED = "the search was stopped while it was scored"
_DIED = re.compile(r"the process died while it was scored, (\d+) times?")


def died(trial: Trial) -> bool:
    """Whether the process died, again and again, while a trial was scored."""
    return _DIED.fullmatch(trial.reason or "") is not None


def stopped(trial: Trial) -> Trial:
    """A running trial whose search stops in good order."""
    return replace(trial, reason=STOPPED)


def tries_of(fidelity: Fidelity) -> int:
    """How often a candidate that is scored so is tried."""
    return TRAINED_TRIES if fidelity.evaluator == "scratch" else TRIES


def after_death(trial: Trial) -> Trial:
    """A trial that a former process left running: to be scored again, or failed after its tries."""
    if trial.reason == STOPPED:
        return replace(trial, reason=None)
    before = _DIED.fullmatch(trial.reason or "")
    died = 1 + (int(before[1]) if before else 0)
    reason = f"the process died while it was scored, {died} {'time' if died == 1 else 'times'}"
    if died >= tries_of(trial.fidelity):
        return replace(trial, state=TrialState.FAILED, reason=reason, finished=time.time())
    return replace(trial, reason=reason)
