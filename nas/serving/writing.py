"""The text of one answer as it comes: whole characters, up to where a stop string might begin."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.tokens.vocabulary import TextStream


class Writing:
    """Spells tokens, and ends before the first stop string, which is no part of the answer."""

    def __init__(self, stream: TextStream, stops: Sequence[str]) -> None:
        self._stream, self._stops, self._held = stream, tuple(stops), ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is sure after one more token; `stopped` says whether it was the last."""
        return self._release(self._stream.push(token))

    def end(self) -> str:
        """What is left of the text, where no more tokens come."""
        if self.stopped:
            return ""
        return self._release(self._stream.end()) + ("" if self.stopped else self._held)

    def _release(self, more: str) -> str:
        text = self._held + more
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of a stop string."""
    most = min(len(text), len(stop) - 1)
    return next((count for count in range(most, 0, -1) if text.endswith(stop[:count])), 0)
