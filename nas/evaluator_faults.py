"""When unexpected errors in a row mean that the evaluator is at fault, and no longer the candidates.

Candidates may fail for reasons of their own, and many may: a study in which half of them succeed goes on. A
run of failures ends it where it is long, and would be beyond belief if candidates still succeeded as often
as before it: a device that fell away, a bug in a scorer that no candidate gets past.
"""

from __future__ import annotations

from collections import Counter

from foundation.errors import EvaluationFailed

LEAST_ERRORS = 20
"""How many unexpected errors in a row there must be at least."""

BEYOND_DOUBT = 1e-6
"""How likely such a run may be at most, by the share of candidates that succeeded before it."""


class EvaluatorFaults:
    """Counts outcomes in their order."""

    def __init__(self) -> None:
        self._scored = self._succeeded = 0  # before the present run
        self._run: list[str] = []

    def ended(self, *, succeeded: bool) -> None:
        """A candidate has a score, or failed by itself, as some do: its loss was not finite, say."""
        self._scored += len(self._run) + 1
        self._succeeded += succeeded
        self._run.clear()

    def broke(self, reason: str) -> None:
        """A candidate ended in an unexpected error.

        Raises:
            EvaluationFailed: the evaluator is at fault.
        """
        self._run.append(reason)
        if len(self._run) < LEAST_ERRORS:
            return
        share = (self._succeeded + 1) / (self._scored + 2)
        if (1 - share) ** len(self._run) < BEYOND_DOUBT:
            reasons = Counter(self._run).most_common(3)
            told = "; ".join(f"{count} times {text}" for text, count in reasons)
            raise EvaluationFailed(
                f"{len(self._run)} candidates in a row ended in an unexpected error: {told};"
                " resume the study when that is mended"
            )
