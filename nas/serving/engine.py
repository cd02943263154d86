"""Continuous batching: requests join and leave the batch between any two steps.

An iteration (Yu et al. 2022, Orca, section 4.1) reads a chunk of the prompts that wait, as far as there is
memory for them, and then decodes one token for every running row, each at its own position. Chunks keep long
prompts from holding up the others (Agrawal et al. 2023, arXiv:2308.16369). Where the pages run out, the row
that came last gives way: it waits again, and what it had written is read anew (Kwon et al. 2023,
arXiv:2309.06180, section 4.5, recomputation). With a draft, few rows are decoded several tokens at a time
(`nas.serving.speculation`), outside the pool.

The engine belongs to one thread; `submit` and `Request.cancelled` may be used from others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from evaluators.compression.adapters import Adapter
from evaluators.tokens.vocabulary import Vocabulary
from foundation.errors import SettingError, UnknownName
from nas.serving.adapters.pool import AdapterPool
from nas.serving.drafts.base import Draft
from nas.serving.prefixes import Prefixes, copied
from nas.serving.requests import Chosen, Finish, Piece, QueueFull, Request, TooLong
from nas.serving.sampling import choose
from nas.serving.settings import EngineSettings
from nas.serving.speculation import SpeculatedRow, Speculation
from nas.serving.state_pool import MIB, StatePool
from nas.serving.tally import Tally
from nas.serving.writing import Writing
from search_spaces.network.decode_state import DecodeState
from search_spaces.network.model import Model

NO_ADAPTERS: Mapping[str, Adapter] = MappingProxyType({})
NOT_FINITE = "the network's predictions are not finite"


@dataclass(eq=False)
class Row:
    """A request with the slot of its states, which hold its first `position` tokens."""

    request: Request
    slot: int
    adapter: int
    """The slot of its adapter."""

    tokens: list[int]
    state: DecodeState | None
    """While its prompt is read; then the state is in the pool."""

    position: int = 0
    speculated: SpeculatedRow | None = None
    parting: int = 0
    """Where its prompt parts from an earlier one: a snapshot of the state is taken there."""


class Engine:
    """Decodes requests of one network."""

    def __init__(
        self,
        model: Model,
        settings: EngineSettings | None = None,
        vocabulary: Vocabulary | None = None,
        *,
        ends: Sequence[int] = (),
        draft: Draft | None = None,
        adapters: Mapping[str, Adapter] = NO_ADAPTERS,
    ) -> None:
        """Without a vocabulary answers have tokens and no text; an answer stops before a token of `ends`.

        Raises:
            SettingError: the memory cannot hold one row of the context, or one adapter; the draft, or an
                adapter, is none for the network.
        """
        self.model, self.settings, self.vocabulary = model, settings or EngineSettings(), vocabulary
        asked = self.settings
        self.pool = StatePool(
            model, rows=asked.rows, context=asked.context, page=asked.page, memory=asked.memory * MIB
        )
        self.adapters = AdapterPool(model, adapters, asked.adapter_memory * MIB)
        self.prefixes = Prefixes(asked.prefix_memory * MIB)
        self.ends, self.tally = frozenset(ends), Tally()
        with torch.no_grad():  # a soft prompt is read once
            self.begun = model.init_state(1, 0) if model.virtual_tokens else None
        self.speculation = Speculation(model, draft) if draft else None
        self.waiting: deque[Request] = deque()
        self.running: list[Row] = []
        self.reading: Row | None = None
        self._writing: dict[Request, Writing] = {}

    def submit(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises:
            SettingError: its prompt is empty, or has tokens that the network does not know.
            UnknownName: there is no such adapter.
            TooLong: it does not fit into the context or the memory, even alone.
            QueueFull: as many as may run and wait are there already.
        """
        vocab = self.model.spec.vocab
        if not request.prompt or not all(0 <= token < vocab for token in request.prompt):
            raise SettingError(f"a prompt has tokens from 0 to {vocab - 1}, and at least one of them")
        if request.adapter is not None and request.adapter not in self.adapters.adapters:
            raise UnknownName(f"there is no adapter {request.adapter!r}")
        if not self.pool.holds(request.total):
            raise TooLong(
                f"{len(request.prompt)} tokens of a prompt and {request.sampling.max_tokens} new ones are"
                f" more than the context of {self.settings.context} tokens"
            )
        there = len(self.waiting) + len(self.running) + (self.reading is not None)
        if there >= self.pool.rows + self.settings.queue:
            self.tally.refused += 1
            raise QueueFull(f"{there} requests run or wait already")
        self.waiting.append(request)

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self.waiting or self.running or self.reading)

    @torch.no_grad()
    def iterate(self) -> bool:
        """Read some tokens of prompts and decode one of every row; whether there is more to do."""
        self._drop_cancelled()
        self._read()
        if self.speculation and len(self.running) <= self.settings.draft_rows:
            for row in list(self.running):
                if row in self.running:  # and has not given way
                    with self.adapters.entered([row.adapter]):
                        self._speculate(row, self.speculation)
        elif self.running:
            self._decode()
        return self.busy

    def fail_all(self, error: str) -> None:
        """End every request with an error."""
        for row in (*self.running, *filter(None, [self.reading])):
            self._leave(row, "error", error)
        while self.waiting:
            self._end(self.waiting.popleft(), "error", error=error)

    def may_admit(self) -> bool:
        """Whether a waiting request may join now, if there is memory for it."""
        return True

    def _drop_cancelled(self) -> None:
        for row in [row for row in (*self.running, self.reading) if row and row.request.cancelled]:
            self._leave(row, "cancelled")
        if any(request.cancelled for request in list(self.waiting)):
            for request in list(self.waiting):
                if request.cancelled:
                    self.waiting.remove(request)
                    self._end(request, "cancelled")

    def _read(self) -> None:
        """Read chunks of prompts, in the order of their arrival."""
        left = self.settings.chunk
        while left > 0 and (self.reading or self._admit()):
            row = self.reading
            assert row is not None
            assert row.state is not None
            stop = row.parting if row.position < row.parting else len(row.tokens)
            chunk = row.tokens[row.position : min(row.position + left, stop)]
            with self.adapters.entered([row.adapter]):
                logits, row.state = self.model.prefill(self._tensor([chunk]), row.state, last=True)
            row.position += len(chunk)
            left -= len(chunk)
            self.tally.prompt_tokens += len(chunk)
            if row.position == row.parting:
                self.prefixes.keep(row.tokens[: row.parting], row.state, row.request.adapter)
            if row.position == len(row.tokens):
                self.pool.put(row.slot, row.state)
                self.reading, row.state = None, None
                self.running.append(row)
                self._advance([row], logits[:, -1])

    def _admit(self) -> bool:
        """Let the next request take a slot, if there is one, and memory for its prompt and a first token."""
        while self.waiting and self.may_admit():
            request = self.waiting[0]
            if request.cancelled:
                self._end(self.waiting.popleft(), "cancelled")
                continue
            tokens = [*request.prompt, *request.generated]
            adapter = self.adapters.take(request.adapter)
            if adapter is None:
                return False
            slot = self.pool.take(len(tokens), [(row.slot, row.request.total) for row in self.running])
            if slot is None:
                self.adapters.release(adapter)
                return False
            self.waiting.popleft()
            self.reading = self._begun(Row(request, slot, adapter, tokens, None))
            return True
        return False

    def _begun(self, row: Row) -> Row:
        """A row that has read nothing yet, or what its prompt shares with earlier ones of its adapter."""
        tokens, reader = row.tokens, row.request.adapter
        row.parting, row.state = self.prefixes.parting(tokens, reader), self.prefixes.longest(tokens, reader)
        if row.state is None and self.begun is not None:
            row.state = copied(self.begun)
        elif row.state is None:
            room = self.pool.page * -(-len(tokens) // self.pool.page)
            row.state = self.model.init_state(1, room)
        row.position = int(row.state.position)
        self.tally.prefix_tokens += row.position
        return row

    def _decode(self) -> None:
        """One token of every running row."""
        for row in list(self.running):  # the oldest first: they are the last to give way
            while row in self.running and not self.pool.grow(row.slot, row.position + 1):
                self._give_way()
        if not self.running:
            return
        rows = list(self.running)
        for row in rows:
            if row.speculated and row.speculated.holds_state:
                with self.adapters.entered([row.adapter]):
                    state = row.speculated.give_back(row.tokens)
                self.pool.put(row.slot, state)
        for batch in self.adapters.batches([row.adapter for row in rows]):
            self._step([rows[i] for i in batch])
        self.tally.steps += 1
        self.tally.stepped_rows += len(rows)

    def _step(self, rows: Sequence[Row]) -> None:
        """One token of rows that have their pages."""
        state = self.pool.batch([row.slot for row in rows], [row.position for row in rows])
        with self.adapters.entered([row.adapter for row in rows]):
            logits, _ = self.model.step(self._tensor([row.tokens[-1] for row in rows]), state)
        for row in rows:
            row.position += 1
        self._advance(rows, logits)

    def _speculate(self, row: Row, speculation: Speculation) -> None:
        """One pass of a row over what its draft proposes."""
        if row.speculated is None:
            row.speculated = speculation.begin(row.request)
        if not row.speculated.holds_state:
            row.speculated.take(self.pool.taken(row.slot, row.position))
        proposed = row.speculated.propose(row.tokens)
        while not self.pool.grow(row.slot, row.position + 1 + len(proposed)):
            if proposed:
                proposed.pop()
                continue
            self._give_way()
            if row not in self.running:
                return
        logits = row.speculated.verify(row.tokens, proposed)
        generated = row.request.generated
        before = len(generated)
        for i in range(len(proposed) + 1):
            row.position += 1
            self._advance([row], logits[i : i + 1])
            if row not in self.running or generated[-1] not in proposed[i : i + 1]:
                break
        self.tally.passes += 1
        self.tally.passed_tokens += len(generated) - before
        self.tally.proposed += len(proposed)
        self.tally.accepted += i

    def _give_way(self) -> None:
        """Let the row that came last wait again, before all others."""
        row = self.reading or self.running[-1]
        self._free(row)
        self.tally.preempted += 1
        self.waiting.appendleft(row.request)

    def _advance(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Give each row its next token, and let those leave that are done."""
        for row, chosen in zip(rows, choose(logits, [row.request for row in rows]), strict=True):
            if chosen is None:
                self._leave(row, "error", NOT_FINITE)
                continue
            self._append(row, chosen)

    def _append(self, row: Row, chosen: Chosen) -> None:
        request = row.request
        if request.first_token is None:
            request.first_token = time.monotonic()
            self.tally.first_tokens.append(request.first_token - request.arrived)
        if chosen.token in self.ends:
            self._leave(row, "stop")
            return
        row.tokens.append(chosen.token)
        request.generated.append(chosen.token)
        self.tally.new_tokens += 1
        writing = self._writing_of(request)
        text = writing.push(chosen.token) if writing else ""
        if writing and writing.stopped:
            self._leave(row, "stop", chosen=(chosen,), text=text)
        elif len(request.generated) >= request.sampling.max_tokens:
            self._leave(row, "length", chosen=(chosen,), text=text)
        else:
            request.tell(Piece((chosen,), text))

    def _writing_of(self, request: Request) -> Writing | None:
        if self.vocabulary is None:
            return None
        if request not in self._writing:
            stream = self.vocabulary.stream(request.prompt)
            self._writing[request] = Writing(stream, request.sampling.stop)
        return self._writing[request]

    def _leave(
        self, row: Row, finish: Finish, error: str = "", *, chosen: tuple[Chosen, ...] = (), text: str = ""
    ) -> None:
        """End a request that holds a slot."""
        self._free(row)
        self._end(row.request, finish, error=error, chosen=chosen, text=text)

    def _free(self, row: Row) -> None:
        self.pool.release(row.slot)
        self.adapters.release(row.adapter)
        if row is self.reading:
            self.reading = None
        else:
            self.running.remove(row)

    def _end(
        self,
        request: Request,
        finish: Finish,
        *,
        error: str = "",
        chosen: tuple[Chosen, ...] = (),
        text: str = "",
    ) -> None:
        writing = self._writing.pop(request, None)
        rest = writing.end() if writing and finish in ("stop", "length") else ""
        self.tally.finished[finish] += 1
        if request.first_token is not None and len(request.generated) > 1:
            taken = time.monotonic() - request.first_token
            self.tally.token_times.append(taken / (len(request.generated) - 1))
        request.tell(Piece(chosen, text + rest, finish, error))

    def _tensor(self, tokens: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(tokens, device=self.model.embedding.device)
