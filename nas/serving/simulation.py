"""What a load will see of a server, simulated event by event: our scheduler with times in place of tensors.

The simulation takes the engine's steps as they are: requests wait for a row in the order of their arrival,
chunks of their prompts are read before each step, and a step decodes one token of all rows. How long reading
and stepping take is predicted from a network's prefill and decode latency by `Ratios`, which were measured
once on a few networks of the space: pages, rows at positions of their own and sampling take their time, too.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Self

import numpy as np

from nas.serving.engine import Engine
from nas.serving.figures import check_served
from nas.serving.load import (
    CHUNK,
    REQUESTS,
    SEED,
    Answered,
    arrivals,
    clock_of,
    engine_for,
    figures,
    prompts_of,
)
from nas.serving.requests import Request, Sampling
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

SHORT_CHUNK, WHOLE = 32, 2**20
"""Chunks of a few tokens, and of all prompts."""

EACH = 8
"""Numbers of rows up to this one are timed one by one: few rows are multiplied by other code than many, and
three can take longer than four."""

STEPS, READINGS, BETWEEN = 24, 9, 8
"""Steps that are timed of each number of rows, prompts that are read, and steps in between."""


@dataclass(frozen=True)
class Ratios:
    """How the engine's times follow from those of a table, as numbers without a unit.

    A chunk of a prompt takes `chunk` decode steps of the whole batch and, for each token, `token` of what a
    token of the prefilled batch takes. A step of so many `rows` takes `steps` of those of the batch.
    """

    token: float
    chunk: float
    rows: tuple[int, ...]
    steps: tuple[float, ...]

    def to_plain(self) -> dict[str, float]:
        """As a table keeps them: numbers by name."""
        steps = {f"step {rows}": ratio for rows, ratio in zip(self.rows, self.steps, strict=True)}
        return {"token": self.token, "chunk": self.chunk, **steps}

    @classmethod
    def from_plain(cls, plain: Mapping[str, float]) -> Self:
        """Those of a table."""
        steps = sorted((int(name[5:]), ratio) for name, ratio in plain.items() if name.startswith("step "))
        return cls(plain["token"], plain["chunk"], *map(tuple, zip(*steps, strict=True)))

    def costs(self, prefill_ms: float, decode_ms: float, scenario: Scenario) -> Costs:
        """The times of a network with these latencies."""
        token = self.token * prefill_ms / (scenario.batch * scenario.prompt)
        return Costs(
            token, self.chunk * decode_ms, self.rows, tuple(decode_ms * ratio for ratio in self.steps)
        )


@dataclass(frozen=True)
class Costs:
    """Milliseconds of a chunk, of each of its tokens, and of a step of some numbers of `rows`."""

    token_ms: float
    chunk_ms: float
    rows: tuple[int, ...]
    steps_ms: tuple[float, ...]

    def step_ms(self, rows: int) -> float:
        """A step of so many rows, between those that are known by straight lines."""
        return float(np.interp(rows, self.rows, self.steps_ms))


def simulate(
    costs: Costs,
    scenario: Scenario,
    requests: int = REQUESTS,
    seed: int = SEED,
    chunk: int = CHUNK,
    *,
    pace: Iterable[float] = (),
) -> dict[str, float]:
    """The `FIGURES` of a load, predicted.

    `pace` has for each iteration how many times as long as `costs` says it takes; behind its end that is 1.
    """
    steps = [1e-3 * costs.step_ms(rows) for rows in range(1 + scenario.batch)]
    times, now = deque(enumerate(arrivals(scenario, requests, seed))), 0.0
    answered = [Answered(arrival) for _, arrival in times]
    waiting, running = deque[int](), dict[int, int]()
    unread = 0  # tokens of the prompt that is being read, of the request in front
    paces = chain(pace, repeat(1.0))
    while times or waiting or running:
        slow = next(paces)
        if not (waiting or running):
            now = max(now, times[0][1])
        while times and times[0][1] <= now:
            waiting.append(times.popleft()[0])
        left = chunk
        while left and waiting and len(running) < scenario.batch:
            unread = unread or scenario.prompt
            count = min(left, unread)
            now += slow * 1e-3 * (costs.chunk_ms + costs.token_ms * count)
            left, unread = left - count, unread - count
            if not unread:
                index = waiting.popleft()
                answered[index].first = answered[index].last = now
                if scenario.new_tokens > 1:
                    running[index] = scenario.new_tokens - 1
        if not running:
            continue
        now += slow * steps[len(running)]
        for index in list(running):
            answered[index].last = now
            running[index] -= 1
            if not running[index]:
                del running[index]
    return figures(answered, scenario)


def measured_costs(model: Model, scenario: Scenario) -> Costs:
    """What reading and stepping take of a network in our engine."""
    engine = engine_for(model, scenario, chunk=WHOLE)
    each = range(1, 1 + min(EACH, scenario.batch))
    counts = sorted({*each, -(-scenario.batch // 2), scenario.batch})
    steps = tuple(_step_ms(engine, scenario, rows) for rows in counts)
    long, calls = _read_ms(engine_for(model, scenario), scenario), -(-scenario.prompt // CHUNK)
    short_calls = -(-scenario.prompt // SHORT_CHUNK)
    if short_calls == calls:
        return Costs(long / scenario.prompt, 0.0, tuple(counts), steps)
    short = _read_ms(engine_for(model, scenario, chunk=SHORT_CHUNK), scenario)
    chunk_ms = min(max(0.0, (short - long) / (short_calls - calls)), long / calls)
    return Costs((long - calls * chunk_ms) / scenario.prompt, chunk_ms, tuple(counts), steps)


def measured_ratios(networks: Sequence[tuple[Model, float, float]], scenario: Scenario) -> Ratios:
    """The ratios of these networks, each with its prefill and decode milliseconds in a table: the medians.

    Raises:
        SettingError: the scenario has no arrivals, or is none of our server.
    """
    check_served(scenario)
    found = []
    for model, prefill_ms, decode_ms in networks:
        costs = measured_costs(model, scenario)
        token = costs.token_ms * scenario.batch * scenario.prompt / prefill_ms
        found.append((token, costs.chunk_ms / decode_ms, *(ms / decode_ms for ms in costs.steps_ms)))
    token, chunk, *steps = (statistics.median(column) for column in zip(*found, strict=True))
    return Ratios(token, chunk, costs.rows, tuple(steps))


def _ask(engine: Engine, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
    sampling = Sampling(max_tokens=new_tokens, temperature=0.0)
    for prompt in prompts:
        engine.submit(Request(prompt, sampling, _ignore))


def _ignore(piece: Any) -> None:
    """Nobody reads the answers."""


def _step_ms(engine: Engine, scenario: Scenario, rows: int) -> float:
    """The median of a step of so many rows, around the middle of the scenario's new tokens."""
    clock, taken = clock_of(scenario), []
    begin = max(1, min(scenario.decode_position - STEPS // 2, scenario.context - STEPS))
    texts = prompts_of(engine.model, scenario, rows)
    prompts = [(text * -(-begin // len(text)))[:begin] for text in texts]
    _ask(engine, prompts, min(STEPS, scenario.context - begin))
    engine.iterate()  # reads all prompts
    while engine.running:
        begun = clock()
        engine.iterate()
        taken.append(1e3 * (clock() - begun))
    return statistics.median(taken) if taken else 0.0


def _read_ms(engine: Engine, scenario: Scenario) -> float:
    """The median of reading a prompt until its first token is there; steps in between, as under load."""
    clock, taken = clock_of(scenario), []
    sampling = Sampling(max_tokens=min(BETWEEN, scenario.new_tokens), temperature=0.0)
    for prompt in prompts_of(engine.model, scenario, READINGS):
        told: list[float] = []
        begun = clock()
        engine.submit(Request(prompt, sampling, lambda _, told=told: told.append(clock())))  # type: ignore[misc]
        while engine.iterate():
            pass
        taken.append(1e3 * (told[0] - begun))
    return statistics.median(taken)
