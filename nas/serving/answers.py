"""The answer to one body: requests in the engine's thread, pieces of them in the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from evaluators.tokens.vocabulary import Vocabulary
from foundation.errors import EvaluationFailed, NasError
from nas.serving.protocol import Asked, Malformed, choice, completion, logprobs_of, problem, usage
from nas.serving.requests import Chosen, Piece, Request
from nas.serving.worker import Worker

DONE = "data: [DONE]\n\n"


class Answers:
    """The requests of one body; they end when it is closed, whatever has come of them."""

    def __init__(self, worker: Worker, asked: Asked, base: str, vocabulary: Vocabulary) -> None:
        """Raise what `Worker.submit` raises; then nothing runs. Any model but the base is an adapter."""
        self._worker, self._asked, self._vocabulary = worker, asked, vocabulary
        adapter = None if asked.model == base else asked.model
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._requests: list[Request] = []
        loop, engine = asyncio.get_running_loop(), worker.engine
        most = engine.pool.rows + engine.settings.queue
        if len(asked.prompts) > most:
            raise Malformed(
                f"{len(asked.prompts)} prompts are more than the {most} that run and wait", "prompt"
            )
        try:
            for index, prompt in enumerate(asked.prompts):
                request = Request(prompt, asked.sampling, partial(self._tell, loop, index), adapter)
                worker.submit(request)
                self._requests.append(request)
        except NasError:
            self.close()
            raise
        self._open = len(self._requests)
        self.new_tokens = 0

    def close(self) -> None:
        """End what still runs."""
        for request in self._requests:
            if not request.cancelled:
                self._worker.cancel(request)

    async def whole(self) -> dict[str, Any]:
        """The whole answer.

        Raises:
            EvaluationFailed: one of the requests has failed.
        """
        texts, finishes = [""] * len(self._requests), [""] * len(self._requests)
        chosen: list[list[Chosen]] = [[] for _ in self._requests]
        async for index, piece in self._all():
            if piece.finish in ("error", "cancelled"):
                raise EvaluationFailed(piece.error or "cancelled")
            texts[index] += piece.text
            chosen[index] += piece.chosen
            finishes[index] = piece.finish or ""
        choices = [choice(i, texts[i], finishes[i], self._logprobs(chosen[i], 0)) for i in range(len(texts))]
        return completion(self._asked, choices, usage=usage(self._asked, self.new_tokens))

    async def events(self) -> AsyncIterator[str]:
        """The answer as server-sent events; a fault is one of them, and the last."""
        written = [0] * len(self._requests)
        try:
            async for index, piece in self._all():
                if piece.finish in ("error", "cancelled"):
                    yield _event(problem(piece.error or "cancelled", "server_error"))
                    return
                logprobs = self._logprobs(list(piece.chosen), written[index])
                written[index] += len(piece.text)
                if piece.text or piece.finish or logprobs:
                    part = choice(index, piece.text, piece.finish, logprobs)
                    yield _event(completion(self._asked, [part]))
            if self._asked.usage:
                told = usage(self._asked, self.new_tokens)
                yield _event(completion(self._asked, [], usage=told))
            yield DONE
        finally:
            self.close()

    async def _all(self) -> AsyncIterator[tuple[int, Piece]]:
        while self._open:
            index, piece = await self._pieces.get()
            self._open -= piece.finish is not None
            self.new_tokens += len(piece.chosen)
            yield index, piece

    def _logprobs(self, chosen: list[Chosen], offset: int) -> dict[str, Any] | None:
        if self._asked.sampling.logprobs is None:
            return None
        return logprobs_of(chosen, offset, self._vocabulary)

    def _tell(self, loop: asyncio.AbstractEventLoop, index: int, piece: Piece) -> None:
        """Called in the engine's thread; after the server has ended, there is nobody to tell."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._pieces.put_nowait, (index, piece))


def _event(plain: dict[str, Any]) -> str:
    return f"data: {json.dumps(plain)}\n\n"
