"""One text that a network continues with a draft, without a server.

told = continued(model, prompt, Generation(new_tokens=100), NGram())
for token in told.tokens():
    ...
told.engine.tally.tokens_per_pass
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from foundation.errors import EvaluationFailed
from nas.serving.drafts.base import Draft
from nas.serving.engine import Engine
from nas.serving.requests import Piece, Request, Sampling
from nas.serving.settings import EngineSettings
from nas.serving.state_pool import MIB
from search_spaces.network.decode_state import in_steps
from search_spaces.network.generation import Generation
from search_spaces.network.model import Model, build


@dataclass(frozen=True)
class Continuation:
    """An engine with one request, and the pieces of its answer."""

    engine: Engine
    pieces: deque[Piece]

    def tokens(self) -> Iterator[int]:
        """The tokens of the answer, as they come.

        Raises:
            EvaluationFailed: predictions are not finite.
        """
        while self.pieces or self.engine.busy:
            while self.pieces:
                piece = self.pieces.popleft()
                yield from (chosen.token for chosen in piece.chosen)
                if piece.error:
                    raise EvaluationFailed(piece.error)
            self.engine.iterate()

    @property
    def summary(self) -> str:
        """How often the draft was right, in words."""
        tally = self.engine.tally
        return (
            f"{tally.tokens_per_pass:.2f} tokens a pass, {tally.accepted} of {tally.proposed} proposed tokens"
            f" accepted ({100 * tally.acceptance:.0f} %)"
        )


def continued(model: Model, prompt: Sequence[int], how: Generation, draft: Draft | None) -> Continuation:
    """A text of tokens to be continued as `Model.generate` does it, with its seed.

    Raises:
        SettingError: the draft is none for this network.
    """
    context = len(prompt) + how.new_tokens
    settings = EngineSettings(
        rows=1,
        context=max(2, context),
        memory=memory_of_text(model, context),
        prefix_memory=0,
        chunk=min(context, 4096),
    )
    engine, pieces = Engine(model, settings, draft=draft), deque[Piece]()
    sampling = Sampling(max_tokens=how.new_tokens, temperature=how.temperature, seed=how.seed)
    engine.submit(Request(prompt, sampling, pieces.append))
    return Continuation(engine, pieces)


def memory_of_text(model: Model, context: int) -> int:
    """MiB that surely hold the states of one text."""
    with torch.device("meta"):
        state = build(model.spec, device="meta").init_state(1, in_steps(context))
    size = sum(part.nbytes for layer in state.layers for parts in layer.values() for part in parts.values())
    return 1 + 4 * size // MIB
