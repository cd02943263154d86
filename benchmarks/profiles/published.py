"""What published systems lead us to expect, timed by our own tool on networks of equal width.

Four claims: the fused kernel against attention written out; decode of multi-query and grouped-query attention
against multi-head at long contexts; mixers of linear time against attention as the prompt grows; decode
throughput of recurrent mixers against attention at a large batch. Blocks are in plain PyTorch, replayed from
graphs on a GPU; what the literature timed were mostly kernels of their own. Parameters have random values.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.profiles.results import Result, show
from hw_profiles.runtimes.base import random_tokens, runtime_of
from hw_profiles.runtimes.graph import captured
from hw_profiles.runtimes.placement import placed
from hw_profiles.runtimes.static_step import StaticStep
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.rounds import TimedCall, rounds_of, warmed
from hw_profiles.timing.timers import Call, on_gpu
from hw_profiles.timing.timings import Latency
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.s4d import S4D
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

FEWEST, MOST, WITHIN = 5, 9, 0.01
FIRST_TOKENS = 32
"""Tokens that a static step begins with: it takes the same time at every position (`StaticStep`)."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Widths and lengths, so that each claim takes some seconds on its kind of device."""

    d_model: int
    heads: int
    layers: int
    prompts: tuple[int, ...]
    contexts: tuple[int, ...]
    context_batch: int
    growth: tuple[int, ...]
    fitted_from: int
    crowd: int
    crowd_contexts: tuple[int, ...]

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.d_model // self.heads


SIZES = {
    "cuda": Size(
        d_model=1024,
        heads=16,
        layers=4,
        prompts=(2048, 8192),
        contexts=(2048, 8192, 32768),
        context_batch=8,
        growth=(1024, 2048, 4096, 8192, 16384, 32768),
        fitted_from=4096,
        crowd=64,
        crowd_contexts=(2048, 8192),
    ),
    "cpu": Size(
        d_model=256,
        heads=4,
        layers=2,
        prompts=(512, 2048),
        contexts=(512, 2048, 8192),
        context_batch=4,
        growth=(256, 512, 1024, 2048, 4096),
        fitted_from=512,
        crowd=16,
        crowd_contexts=(512, 2048),
    ),
    "tiny": Size(
        d_model=64,
        heads=4,
        layers=1,
        prompts=(32, 64),
        contexts=(32, 64),
        context_batch=2,
        growth=(32, 64, 128),
        fitted_from=32,
        crowd=4,
        crowd_contexts=(32, 64),
    ),
}


CROSSINGS = {
    "Mamba": (
        "2,000 tokens (the scan alone, A100)",
        "Mamba, Gu and Dao 2023, arXiv:2312.00752, section 4.5",
    ),
    "Mamba2": (
        "2,000 tokens, 6 times at 16,000 (their kernel alone, A100)",
        "Mamba-2, Dao and Gu 2024, arXiv:2405.21060, section 9.3",
    ),
}
"""From which length on mixers were published to be faster than FlashAttention-2."""


def run(scenario: Scenario, result: Result, *, size: str, limit: float) -> None:
    """All claims, one after the other; a claim that finds the time over is left out."""
    rows, seen = Rows(), Rows()
    claims = (fused_against_eager, shared_heads, growth, throughput)
    done = 0
    for claim in claims:
        if done and time.monotonic() - result.started > limit:
            break
        found, timings = claim(scenario, SIZES[size])
        rows, seen, done = rows + found, seen + timings, done + 1
        result.write(rows, complete=done == len(claims), timings=seen, size=vars(SIZES[size]))
        show(claim.__name__, found)


def attention(size: Size, kv_heads: int | None = None, window: int | None = None) -> Attention:
    """Softmax attention as wide as the network."""
    return Attention(
        num_heads=size.heads, num_kv_heads=kv_heads or size.heads, head_dim=size.head_dim, window=window
    )


def linear_mixers(size: Size) -> dict[str, Block]:
    """Mixers of linear time at the proportions of their papers, as far as the width allows."""
    heads, wide, head_dim = size.heads, 2 * size.d_model, size.head_dim
    return {
        "Mamba": Mamba(channels=wide, state_dim=16, dt_rank=max(1, size.d_model // 16)),
        "Mamba2": Mamba2(num_heads=2 * heads, head_dim=head_dim, state_dim=min(64, size.d_model)),
        "GatedLinearAttention": GatedLinearAttention(num_heads=heads, head_dim=head_dim, state_dim=head_dim),
        "Retention": Retention(num_heads=heads, head_dim=2 * head_dim, state_dim=head_dim),
        "RGLRU": RGLRU(num_heads=heads, head_dim=head_dim),
        "S4D": S4D(state_dim=32),
        "sliding window": attention(size, window=size.growth[0] // 2),
    }


def fused_against_eager(scenario: Scenario, size: Size) -> tuple[Rows, Rows]:
    """Prompts read with the fused kernel, and with attention written out."""
    rows, seen = Rows(), Rows()
    for prompt in size.prompts:
        at = replace(scenario, batch=1, prompt=prompt)
        for name, channels in (("network", SwiGLU()), ("mixers alone", None)):
            spec = network(attention(size), size, channels)
            with undisturbed(at):
                found = timed(
                    {"fused": partial(prefill, spec, at), "eager": partial(written_out, spec, at)}, at
                )
            seen += kept("fused_against_eager", found, prompt=prompt, what=name)
            rows.append(
                {
                    "claim": "the fused kernel over attention written out, prefill",
                    "published": "3 to 10 times (attention alone, A100)",
                    "source": "FlashAttention-2, Dao 2023, arXiv:2307.08691, section 4.1",
                    "setting": f"prompt {prompt}, {name}",
                    "ours": ratio(found, "eager", "fused"),
                    "unit": "times faster",
                }
            )
    return rows, seen


def shared_heads(scenario: Scenario, size: Size) -> tuple[Rows, Rows]:
    """Decode with one key-value head, with a few, and with one for each query head."""
    rows, seen = Rows(), Rows()
    few = max(1, size.heads // 4)
    kinds = {"MHA": size.heads, "GQA": few, "MQA": 1}
    published = {
        "GQA": (
            "5.4 times (T5-XXL, 8 of 64 heads, whole decoding)",
            "GQA, Ainslie et al. 2023, arXiv:2305.13245, table 1",
        ),
        "MQA": ("12 times (decoder, 8 heads, TPUv2)", "Shazeer 2019, arXiv:1911.02150, section 4.3"),
    }
    for context in size.contexts:
        at = replace(scenario, batch=size.context_batch, prompt=context, new_tokens=32)
        with undisturbed(at):
            found = timed(
                {
                    name: partial(decode, network(attention(size, kv), size, SwiGLU()), at)
                    for name, kv in kinds.items()
                },
                at,
            )
        seen += kept("shared_heads", found, context=context, batch=at.batch)
        for name, (said, source) in published.items():
            rows.append(
                {
                    "claim": f"decode of {name} over MHA",
                    "published": said,
                    "source": source,
                    "setting": f"context {context}, batch {at.batch}, {kinds[name]} of {size.heads} heads",
                    "ours": ratio(found, "MHA", name),
                    "unit": "times faster",
                }
            )
    return rows, seen


def growth(scenario: Scenario, size: Size) -> tuple[Rows, Rows]:
    """Prefill as prompts grow: fitted exponents, and from which length on a mixer beats attention."""
    mixers: dict[str, Block] = {"Attention": attention(size), **linear_mixers(size)}
    times: dict[str, dict[int, Latency]] = {name: {} for name in mixers}
    seen = Rows()
    for prompt in size.growth:
        at = replace(scenario, batch=1, prompt=prompt, new_tokens=1)
        with undisturbed(at):
            calls = {name: partial(prefill, network(mixer, size, None), at) for name, mixer in mixers.items()}
            found = timed(calls, at, together=1 if on_gpu(at) else len(calls))
        seen += kept("growth", found, prompt=prompt)
        for name, latency in found.items():
            times[name][prompt] = latency
    medians = {name: {n: latency.median_ms for n, latency in each.items()} for name, each in times.items()}
    rows = []
    for name, each in medians.items():
        first = {"claim": f"prefill of {name} as the prompt grows", "setting": lengths(size)}
        said = "2 (quadratic)" if name == "Attention" else "1 (linear)"
        grown = {"ours": exponent(each, size.fitted_from), "unit": f"exponent from {size.fitted_from} on"}
        rows.append({**first, "published": said, "source": "their complexity", **grown})
        if name != "Attention":
            longest = max(each)
            gain = medians["Attention"][longest] / each[longest]
            claim = f"{name} faster than fused attention from"
            crossed = {"ours": crossover(each, medians["Attention"]), "unit": "tokens"}
            said, source = CROSSINGS.get(name, ("no like figure", "none"))
            rows.append({"claim": claim, "setting": lengths(size), "published": said, **crossed})
            rows[-1] |= {"source": source, f"times faster at {longest}": gain}
    return rows, seen


def throughput(scenario: Scenario, size: Size) -> tuple[Rows, Rows]:
    """Tokens per second of decode at a large batch."""
    rows, seen = Rows(), Rows()
    mixers: dict[str, Block] = {"attention": attention(size), **linear_mixers(size)}
    mixers["attention, GQA"] = attention(size, max(1, size.heads // 4))
    for context in size.crowd_contexts:
        at = replace(scenario, batch=size.crowd, prompt=context, new_tokens=32)
        with undisturbed(at):
            found = timed(
                {name: partial(decode, network(mixer, size, SwiGLU()), at) for name, mixer in mixers.items()},
                at,
                together=3,
            )
        seen += kept("throughput", found, context=context, batch=at.batch)
        for name in mixers:
            if name.startswith("attention"):
                continue
            rows.append(
                {
                    "claim": f"decode throughput of {name} over attention (MHA)",
                    "published": "4 to 5 times at like size (Mamba, with larger batches)",
                    "source": "Mamba, Gu and Dao 2023, arXiv:2312.00752, section 4.5",
                    "setting": f"context {context}, batch {at.batch}",
                    "ours": ratio(found, "attention", name),
                    "unit": "times the tokens per second",
                    "over GQA": ratio(found, "attention, GQA", name),
                    "tokens per second": 1e3 * at.batch / found[name].median_ms,
                }
            )
    return rows, seen


def network(mixer: Block, size: Size, channels: Block | None) -> Decoder:
    """A few equal layers."""
    return Decoder(
        d_model=size.d_model, layers=(Layer(sequence_mixer=mixer, channel_mixer=channels),) * size.layers
    )


def prefill(spec: Decoder, scenario: Scenario) -> Call:
    """Reading the prompt, by the scenario's engine."""
    return runtime_of(scenario).prepare(build(spec, device=scenario.device), scenario).prefill


def written_out(spec: Decoder, scenario: Scenario) -> Call:
    """The same with attention written out; a replayed graph keeps the kernels that it captured."""
    with no_fused_kernel():
        call = prefill(spec, scenario)
    if not runtime_of(scenario).launches:
        return call

    def plainly() -> None:
        with no_fused_kernel():
            call()

    return plainly


def decode(spec: Decoder, scenario: Scenario) -> Call:
    """A step at the scenario's position, over fixed buffers of its whole context."""
    model = placed(build(spec, device=scenario.device), scenario)
    tokens = random_tokens(model, replace(scenario, prompt=FIRST_TOKENS, new_tokens=1), 0)
    step = StaticStep(model, scenario)
    step.begin(tokens[:, :-1], tokens[:, -1])
    step.position.fill_(scenario.decode_position)
    return captured(step, scenario) if on_gpu(scenario) else step


def timed(
    makers: Mapping[str, Callable[[], Call]], scenario: Scenario, *, together: int = 99
) -> dict[str, Latency]:
    """Latencies of calls, so many made and timed together; the memory of the others is free meanwhile."""
    found, names = dict[str, Latency](), list(makers)
    for start in range(0, len(names), together):
        calls = {name: TimedCall(makers[name]()) for name in names[start : start + together]}
        session = warmed(rounds_of(calls, scenario), scenario)
        session.take_until(FEWEST, MOST, WITHIN)
        found |= {name: session.marked(session.latency(name)) for name in calls}
        del session, calls
        gc.collect()
    return found


@contextmanager
def no_fused_kernel() -> Iterator[None]:
    """Causal attention as it is written in papers: scores, mask, softmax, product."""
    name = "scaled_dot_product_attention"
    fused = getattr(F, name)

    def plainly(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        *,
        is_causal: bool = False,
        enable_gqa: bool = False,
    ) -> Tensor:
        assert attn_mask is None
        assert is_causal
        assert not enable_gqa
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        return scores.masked_fill(later(q.shape[2], q.device), float("-inf")).softmax(-1) @ v

    setattr(F, name, plainly)
    try:
        yield
    finally:
        setattr(F, name, fused)


@lru_cache(maxsize=2)
def later(count: int, device: torch.device) -> Tensor:
    """Which tokens come after which [T, T]."""
    return torch.ones(count, count, dtype=torch.bool, device=device).triu(1)


def ratio(found: Mapping[str, Latency], slow: str, fast: str) -> float:
    """How many times as long one takes as the other."""
    return found[slow].median_ms / found[fast].median_ms


def exponent(times: Mapping[int, float], start: int) -> float:
    """The slope of log time over log length, from `start` tokens on."""
    used = {n: ms for n, ms in times.items() if n >= start}
    return float(np.polyfit(np.log(list(used)), np.log(list(used.values())), 1)[0])


def crossover(one: Mapping[int, float], other: Mapping[int, float]) -> float | str:
    """The length from which on `one` is the faster, between the lengths that were timed by a power law."""
    counts = sorted(one)
    gains = [math.log(other[n] / one[n]) for n in counts]
    if gains[-1] <= 0:
        return f"none up to {counts[-1]}"
    last = max((i for i, gain in enumerate(gains) if gain <= 0), default=-1)
    if last < 0:
        return f"{counts[0]} or fewer"
    share = -gains[last] / (gains[last + 1] - gains[last])
    return round(counts[last] * (counts[last + 1] / counts[last]) ** share)


def lengths(size: Size) -> str:
    """The prompts of the growth claim."""
    return f"prompts {size.growth[0]} to {size.growth[-1]}, batch 1, mixers alone"


def kept(claim: str, found: Mapping[str, Latency], **setting: Any) -> Rows:
    """What was timed, for the record."""
    return [
        {
            "claim": claim,
            **setting,
            "of": name,
            "median_ms": latency.median_ms,
            "interval_ms": list(latency.interval_ms),
            "samples": latency.n,
            "unsettled": latency.unsettled,
        }
        for name, latency in found.items()
    ]
