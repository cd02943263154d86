"""Continuous against static batching under Poisson load, what pages waste, and 200 streams at once.

    python -m benchmarks.life.serving [--requests N]

Requests arrive by a Poisson process; prompts have 16 to 128 tokens, answers a geometric number of tokens with
a mean of 32 (Yu et al. 2022, Orca, section 6, has such a mix). Both ways of batching are the same engine with
the same rows and memory; the static one lets nobody join before the whole batch has ended, but gives answers
back as soon as they are whole. The clock is the processor time of the engine's iterations, so that others on
the machine do not count; between arrivals it jumps. An answer's latency is divided by its tokens; at equal
95th percentiles of that, the ratio of the tokens a second is what continuous batching gains.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random
from statistics import mean, quantiles
from typing import Any

import httpx

from benchmarks.common import keep, show
from nas.serving.engine import Engine
from nas.serving.requests import Piece, Request, Sampling
from nas.serving.settings import EngineSettings
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build

COMMAND = "python -m benchmarks.life.serving"
ROWS, CONTEXT, ANSWER, LONGEST = 16, 512, 32, 128
LOADS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
SHARED, OWN, SHARING = 192, 32, 40
STREAMS, STREAM_TOKENS = 200, 32
PROGRAM = "from nas.start import main; main()"


class Static(Engine):
    """Nobody joins before all rows of a batch have ended."""

    joining = 0

    def iterate(self) -> bool:
        """A batch is who waits when the last one has ended."""
        if not (self.running or self.reading):
            self.joining = len(self.waiting)
        return super().iterate()

    def may_admit(self) -> bool:
        """Only who belongs to the batch."""
        return self.joining > 0

    def _admit(self) -> bool:
        admitted = super()._admit()
        self.joining -= admitted
        return admitted


@dataclass
class Arrival:
    """A request of the load, and when its answer was whole."""

    time: float
    prompt: tuple[int, ...]
    new_tokens: int
    first: float = 0.0
    end: float = 0.0

    @property
    def per_token(self) -> float:
        """Latency over tokens, in seconds."""
        return (self.end - self.time) / self.new_tokens


@dataclass
class Run:
    """What one load has cost."""

    arrivals: list[Arrival]
    seconds: float
    wastes: list[float] = field(default_factory=list)
    batch: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of all answers, from the first arrival to the last answer."""
        return sum(each.new_tokens for each in self.arrivals) / self.seconds

    def p95(self) -> float:
        """95th percentile of the latency per token, in seconds."""
        return quantiles([each.per_token for each in self.arrivals], n=20)[-1]


def network() -> Model:
    """A hybrid of two layers, attention and Mamba-2."""
    attention = Attention(num_heads=4, num_kv_heads=2, head_dim=32)
    mamba = Mamba2(num_heads=4, head_dim=32, state_dim=32)
    layers = [Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=3)) for mixer in (attention, mamba)]
    return build(Decoder(vocab=256, d_model=128, layers=tuple(layers))).eval()


def load(rate: float, count: int, seed: int) -> list[Arrival]:
    """So many arrivals, `rate` a second; equal seeds give the same requests at every rate."""
    dice, now, arrivals = Random(seed), 0.0, []
    for _ in range(count):
        now += dice.expovariate(1.0) / rate
        prompt = tuple(dice.randrange(256) for _ in range(dice.randint(16, 128)))
        new_tokens = min(LONGEST, 1 + int(dice.expovariate(1.0 / ANSWER)))
        arrivals.append(Arrival(now, prompt, new_tokens))
    return arrivals


def replay(engine: Engine, arrivals: list[Arrival]) -> Run:
    """Give arrivals to an engine at their times, on a clock of its processor time."""
    now, waiting, run = arrivals[0].time, list(arrivals), Run(arrivals, 0.0)
    told: list[tuple[Arrival, Piece]] = []
    while waiting or engine.busy:
        if not engine.busy:
            now = max(now, waiting[0].time)
        while waiting and waiting[0].time <= now:
            _submit(engine, waiting.pop(0), told)
        begun = time.process_time()
        engine.iterate()
        now += time.process_time() - begun
        for arrival, piece in told:
            arrival.first = arrival.first or now
            if piece.finish:
                assert piece.finish == "length", piece
                arrival.end = now
        told.clear()
        if engine.running:
            run.wastes.append(engine.pool.usage().waste)
    run.seconds = now - arrivals[0].time
    run.batch = engine.tally.stepped_rows / max(1, engine.tally.steps)
    return run


def _submit(engine: Engine, arrival: Arrival, told: list[tuple[Arrival, Piece]]) -> None:
    sampling = Sampling(max_tokens=arrival.new_tokens, temperature=0.0)
    engine.submit(Request(arrival.prompt, sampling, lambda piece: told.append((arrival, piece))))


def at_bound(runs: Sequence[Run], bound: float) -> float:
    """Tokens a second where the 95th percentile reaches the bound, between two loads by straight lines.

    At most those of the highest load.
    """
    points = sorted((run.tokens_per_second, run.p95()) for run in runs)
    best = 0.0
    for (slow, low), (fast, high) in pairwise(points):
        if low <= bound:
            best = fast if high <= bound else slow + (fast - slow) * (bound - low) / (high - low)
    return best


def compare(count: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Both ways of batching over a range of loads, in shares of what a full batch could do."""
    model = network()
    settings = EngineSettings(rows=ROWS, context=CONTEXT, queue=10**6)
    full = replay(Engine(model, settings), load(1e6, 3 * ROWS, seed))
    most = full.tokens_per_second / (ANSWER + 0.5)  # requests a second
    rows: list[dict[str, Any]] = []
    runs: dict[str, list[Run]] = {}
    for name, kind in (("static", Static), ("continuous", Engine)):
        for share in LOADS:
            run = replay(kind(model, settings), load(share * most, count, seed))
            runs.setdefault(name, []).append(run)
            first = quantiles([each.first - each.time for each in run.arrivals], n=20)[-1]
            rows.append(
                {
                    "batching": name,
                    "load": share,
                    "tokens/s": run.tokens_per_second,
                    "p95 ms per token": 1e3 * run.p95(),
                    "p95 s to first token": first,
                    "rows in a step": run.batch,
                    "waste": mean(run.wastes),
                }
            )
            print(rows[-1], flush=True)
    gains = [
        {
            "p95 ms per token": 1e3 * run.p95(),
            "static tokens/s": run.tokens_per_second,
            "continuous tokens/s": at_bound(runs["continuous"], run.p95()),
            "ratio": at_bound(runs["continuous"], run.p95()) / run.tokens_per_second,
        }
        for run in runs["static"]
    ]
    return rows, gains


def sharing(seed: int) -> list[dict[str, Any]]:
    """Prompts that begin alike, with and without memory for their states."""
    model, dice = network(), Random(seed)
    begin = [dice.randrange(256) for _ in range(SHARED)]
    prompts = [(*begin, *(dice.randrange(256) for _ in range(OWN))) for _ in range(SHARING)]
    rows = []
    for memory in (0, 64):
        engine = Engine(model, EngineSettings(rows=ROWS, context=CONTEXT, prefix_memory=memory))
        run = replay(engine, [Arrival(0.0, prompt, 1) for prompt in prompts])
        read = engine.tally.prompt_tokens
        rows.append(
            {
                "prefix memory MiB": memory,
                "prompt tokens": sum(map(len, prompts)),
                "read": read,
                "share saved": 1 - read / sum(map(len, prompts)),
                "processor seconds": run.seconds,
            }
        )
    return rows


async def _stream(client: httpx.AsyncClient, index: int) -> int:
    """Read one stream to its end; the number of its pieces."""
    body = {"model": "net", "prompt": f"stream {index}: ", "max_tokens": STREAM_TOKENS, "stream": True}
    pieces = 0
    async with client.stream("POST", "/v1/completions", json={**body, "seed": index}) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            pieces += line.startswith("data: {")
        return pieces


async def _streams(address: str) -> list[int]:
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=600) as client:
        return await asyncio.gather(*map(partial(_stream, client), range(STREAMS)))


def streams() -> dict[str, Any]:
    """200 streams at once from a server in a process of its own; the wall clock, beside whoever else runs."""
    words = ("serve", "zoo:griffin", "--name", "net", "--port", "0", "--rows", str(STREAMS))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words, "--context", "256"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1].removesuffix("/v1")
    try:
        begun = time.perf_counter()
        pieces = asyncio.run(_streams(address))
        seconds = time.perf_counter() - begun
        page = httpx.get(f"{address}/metrics").text.splitlines()
    finally:
        process.terminate()
        process.wait()
    held = [line.split()[-1] for line in page if line.startswith('nas_state_bytes{kind="held"}')]
    steps = [float(line.split()[-1]) for line in page if line.startswith("nas_decode_steps_total")]
    written = [float(line.split()[-1]) for line in page if line.startswith("nas_generated_tokens_total")]
    return {
        "streams": STREAMS,
        "ended": sum(1 for count in pieces if count),
        "tokens": written[0],
        "wall seconds": seconds,
        "rows in a step": written[0] / steps[0],
        "bytes held after": float(held[0]),
    }


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows, gains = compare(chosen.requests, chosen.seed)
    show("Poisson load", rows)
    show("at equal 95th percentiles", gains)
    shared = sharing(chosen.seed)
    show(f"{SHARING} prompts of {SHARED} common and {OWN} own tokens", shared)
    crowd = streams()
    show("streams at once", [crowd])
    command = f"{COMMAND} --requests {chosen.requests} --seed {chosen.seed}"
    keep("serving", command, rows, gains=gains, sharing=shared, streams=crowd, network=str(network().spec))


if __name__ == "__main__":
    main()
