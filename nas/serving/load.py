"""A load of requests at random times, and what its clients see of a server: the figures of a scenario.

    figures = serve(model, scenario)        # a scenario with arrivals: chat=cpu,batch=8,arrivals=4/s
    figures["ttft_p95_ms"]

Requests arrive by a Poisson process of its rate, each with a prompt and new tokens of the scenario's numbers,
and its batch are the rows of our engine. Between arrivals the clock jumps, and on one CPU thread it is that
of the process, so nobody waits for it and others on the machine do not count. Equal loads give equal
arrivals: networks are compared on the same requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from foundation.errors import EvaluationFailed
from nas.serving.continuation import memory_of_text
from nas.serving.engine import Engine
from nas.serving.figures import FIGURES, check_served
from nas.serving.requests import Piece, Request, Sampling
from nas.serving.settings import EngineSettings
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

REQUESTS, SEED = 100, 0
"""Requests of a load, and the seed of their arrivals."""

CHUNK = 256
"""Prompt tokens that the engine reads between two steps."""


@dataclass
class Answered:
    """When a request came, and when its first and its last token did, in seconds."""

    arrival: float
    first: float = 0.0
    last: float = 0.0


def arrivals(scenario: Scenario, requests: int = REQUESTS, seed: int = SEED) -> list[float]:
    """The times of so many requests, in seconds, the first at 0."""
    dice, now, times = Random(seed), 0.0, []
    for _ in range(requests):
        times.append(now)
        now += dice.expovariate(1.0) / scenario.arrivals
    return times


def figures(answered: Sequence[Answered], scenario: Scenario) -> dict[str, float]:
    """The `FIGURES` of a load, milliseconds but for the first."""
    seconds = max(each.last for each in answered) - min(each.arrival for each in answered)
    firsts = [1e3 * (each.first - each.arrival) for each in answered]
    tokens = [1e3 * (each.last - each.first) / max(1, scenario.new_tokens - 1) for each in answered]
    times = [float(np.percentile(each, share)) for each in (firsts, tokens) for share in (50, 95)]
    return dict(zip(FIGURES, (len(answered) * scenario.new_tokens / seconds, *times), strict=True))


class Run:
    """A load and an engine, an iteration after the other, on a clock that jumps where nothing is to do."""

    def __init__(self, model: Model, scenario: Scenario, requests: int = REQUESTS, seed: int = SEED) -> None:
        """Raise `SettingError` where the scenario has no arrivals, or is none of our server."""
        check_served(scenario)
        self.engine, self._scenario, self._clock = engine_for(model, scenario), scenario, clock_of(scenario)
        self._prompts = prompts_of(model, scenario, requests)
        self._answered = [Answered(each) for each in arrivals(scenario, requests, seed)]
        self._waiting = list(range(requests))[::-1]
        self._now = self._begun = 0.0
        self.iterations: list[tuple[int, int, float]] = []
        """Prompt tokens that each has read, rows that it has stepped, and its seconds."""

    def iterate(self) -> bool:
        """Let the engine iterate once; whether there is more to do.

        Raises:
            EvaluationFailed: the network's predictions are not finite.
        """
        if not (self._waiting or self.engine.busy):
            return False
        if not self.engine.busy:
            self._now = max(self._now, self._answered[self._waiting[-1]].arrival)
        while self._waiting and self._answered[self._waiting[-1]].arrival <= self._now:
            self._submit(self._waiting.pop())
        tally = self.engine.tally
        read, stepped, self._begun = tally.prompt_tokens, tally.stepped_rows, self._clock()
        self.engine.iterate()
        taken = self._clock() - self._begun
        self.iterations.append((tally.prompt_tokens - read, tally.stepped_rows - stepped, taken))
        self._now += taken
        return bool(self._waiting or self.engine.busy)

    @property
    def figures(self) -> dict[str, float]:
        """The `FIGURES` of what was answered."""
        return figures(self._answered, self._scenario)

    def _submit(self, index: int) -> None:
        one = self._answered[index]

        def tell(piece: Piece) -> None:
            if piece.finish == "error":
                raise EvaluationFailed(piece.error)
            one.last = self._now + self._clock() - self._begun
            one.first = one.first or one.last

        sampling = Sampling(max_tokens=self._scenario.new_tokens, temperature=0.0)
        self.engine.submit(Request(self._prompts[index], sampling, tell))


def serve(model: Model, scenario: Scenario, requests: int = REQUESTS, seed: int = SEED) -> dict[str, float]:
    """The `FIGURES` of a network, measured.

    Raises:
        SettingError: the scenario has no arrivals, or is none of our server.
        EvaluationFailed: the network's predictions are not finite.
    """
    run = Run(model, scenario, requests, seed)
    while run.iterate():
        pass
    return run.figures


def engine_for(model: Model, scenario: Scenario, *, chunk: int = CHUNK) -> Engine:
    """The engine of a scenario, whose memory holds all its rows."""
    settings = EngineSettings(
        rows=scenario.batch,
        queue=10**6,
        context=max(2, scenario.context),
        memory=scenario.batch * memory_of_text(model, scenario.context),
        prefix_memory=0,
        chunk=chunk,
    )
    model = model.to(scenario.device, getattr(torch, scenario.dtype)).eval()
    return Engine(model, settings)


def prompts_of(model: Model, scenario: Scenario, requests: int) -> list[list[int]]:
    """Random tokens, the same for equal numbers."""
    dice = torch.Generator().manual_seed(SEED)
    found: list[list[int]] = torch.randint(
        model.spec.vocab, (requests, scenario.prompt), generator=dice
    ).tolist()
    return found


def clock_of(scenario: Scenario) -> Callable[[], float]:
    """Processor time, where one thread is all that computes, else the wall clock, in seconds."""
    alone = scenario.device.startswith("cpu") and scenario.threads == 1
    return time.process_time if alone else time.perf_counter
