"""Speculative decoding of single rows: a draft proposes, the network reads all of it in one pass.

Leviathan et al. 2023, arXiv:2211.17192, with another rule of acceptance: the network draws each token as it
would have done alone, with the same noise, and what was proposed is right as long as it is the same. So
answers are equal with and without a draft, token by token, whatever the temperature (but for what rounding
changes where several tokens are read at once); the draft foresees them with the same noise.

Shapes: T tokens, V vocab.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from foundation.errors import SettingError
from nas.serving.drafts.base import Draft, Proposer
from nas.serving.requests import Request
from nas.serving.rewinding import Rewinding
from nas.serving.sampling import foresee
from search_spaces.network.decode_state import DecodeState
from search_spaces.network.model import Model

MOST_UNREAD = 16
"""Accepted tokens behind the mark that are read again with the next pass; more are read by themselves."""


class Speculation:
    """A draft made ready for a network."""

    def __init__(self, model: Model, draft: Draft) -> None:
        """Raise `SettingError` where the network cannot be verified, or the draft is none for it."""
        if rounded := [str(i) for i, layer in enumerate(model.spec.layers) if layer.bits.state < 16]:
            raise SettingError(
                f"draft {draft.name}: layer {rounded[0]} rounds its decode state from token to token, which a"
                " pass over several tokens does not: leave the draft out, or let states have 16 bits"
            )
        self.model, self.draft = model, draft
        self._begin = draft.begun(model)

    def begin(self, request: Request) -> SpeculatedRow:
        """A row whose state lies in the pool."""
        return SpeculatedRow(self.model, self._begin(), request, self.draft.tokens)


class SpeculatedRow:
    """One text that a draft goes on with, its state outside the pool while it does."""

    def __init__(self, model: Model, proposer: Proposer, request: Request, count: int) -> None:
        self._model, self._proposer, self._request, self._count = model, proposer, request, count
        self._text: Rewinding | None = None

    @property
    def holds_state(self) -> bool:
        """Whether the state is here, and not in the pool."""
        return self._text is not None

    def take(self, state: DecodeState) -> None:
        """Hold the state, at a position that is a number, that has read all tokens but the last."""
        self._text = Rewinding(self._model, state)

    def give_back(self, tokens: Sequence[int]) -> DecodeState:
        """The state that has read all of the text but its last token."""
        text, self._text = self._caught_up(tokens, 1), None
        return text.state

    def propose(self, tokens: Sequence[int]) -> list[int]:
        """What the draft foresees behind these tokens, less than the answer may still have."""
        left = self._request.sampling.max_tokens - len(self._request.generated)
        count = min(self._count, left - 1)
        pick = partial(_pick, self._request)
        return self._proposer.propose(tokens, count, pick) if count > 0 else []

    def verify(self, tokens: Sequence[int], proposed: Sequence[int]) -> Tensor:
        """Logits [T + 1, V] after the text, and after each of T proposed tokens."""
        text = self._caught_up(tokens, MOST_UNREAD)
        unread = tokens[text.position :]
        return text.read([*unread, *proposed])[len(unread) - 1 :]

    def _caught_up(self, tokens: Sequence[int], most: int) -> Rewinding:
        """The text, gone back to what is right, and read so far that at most so many tokens are left."""
        text = self._text
        assert text is not None
        text.align(tokens)
        if len(tokens) - text.position > most:
            text.read_last(tokens[text.position : -1])
        text.mark()
        return text


def _pick(request: Request, logits: Tensor, draws: int) -> int:
    return foresee(logits, request, draws)
