"""The learning rate at which a kind of block learns best at the base width, by a sweep.

    sweep = sweep_rates(MyMixer(), task, steps=200)
    sweep.best                 # the rate at the bottom of a parabola through the best scores

A small network of the block, beside a SwiGLU or an attention whose rates stay, is trained from scratch at
rates a factor of two apart around the present one; where the best lies at an end, the sweep goes on there.
Scores are of one seed on the same batches and windows, so rates are compared pairwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.base import Task
from evaluators.training.recipe import DEFAULT, Recipe
from foundation.errors import EvaluationFailed
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.scaling import BASE_WIDTH

LAYERS = 2
POINTS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Rates of a sweep, of the present one."""

STEP, FARTHEST = 2.0, 16.0
"""How far the next rate is from the last one, and how far from the present rate a sweep goes at most."""


@dataclass(frozen=True)
class RateSweep:
    """What a kind of block scored at each rate; a rate at which it diverged is not there."""

    kind: str
    scores: Mapping[float, float]

    @property
    def best(self) -> float:
        """The rate at the bottom of the parabola over log rate through the best score and its neighbours.

        Raises:
            EvaluationFailed: it diverged at every rate.
        """
        if not self.scores:
            raise EvaluationFailed(f"{self.kind} diverged at every rate that was tried")
        rates = sorted(self.scores)
        middle = rates.index(min(rates, key=self.scores.__getitem__))
        if middle in (0, len(rates) - 1):
            return rates[middle]
        near = rates[middle - 1 : middle + 2]
        curve, slope, _ = np.polyfit(np.log(near), [self.scores[rate] for rate in near], 2)
        bottom = math.exp(-slope / (2 * curve)) if curve > 0 else near[1]
        return float(f"{min(max(bottom, near[0]), near[2]):.2g}")


def sweep_rates(
    block: Block,
    task: Task,
    *,
    steps: int = 200,
    seed: int = 0,
    recipe: Recipe = DEFAULT,
    device: str = "cpu",
    on_score: Callable[[float, float | None], None] = lambda rate, score: None,
) -> RateSweep:
    """Train the block's network at each rate; `on_score` is called with each rate and score (None: diverged).

    Raises:
        IllegalArchitecture: the block cannot be built at the base width.
    """
    kind, spec = type(block).__name__, network_of(block, task.vocab)
    spec.check()
    scores: dict[float, float] = {}

    def score(rate: float) -> None:
        others = [text for text in recipe.block_rates if text.partition("=")[0] != kind]
        own = replace(recipe, block_rates=(*others, f"{kind}={rate!r}"))
        with suppress(EvaluationFailed):
            scores[rate] = FromScratch(task, recipe=own, device=device).score(spec, steps, seed).value
        on_score(rate, scores.get(rate))

    present = recipe.rates_by_kind.get(kind, block.learning_rate)
    for share in POINTS:
        score(present * share)
    while scores:
        best = min(scores, key=scores.__getitem__)
        beyond = best / STEP if best == min(scores) else best * STEP if best == max(scores) else None
        if beyond is None or not 1 / FARTHEST <= beyond / present <= FARTHEST or beyond in scores:
            break
        score(beyond)
    return RateSweep(kind, dict(sorted(scores.items())))


def network_of(block: Block, vocab: int) -> Decoder:
    """The network in which a block's rate is found."""
    if block.mixes == "sequence":
        layer = Layer(sequence_mixer=block, channel_mixer=SwiGLU(expansion=2))
    else:
        attention = Attention(num_heads=4, num_kv_heads=2, head_dim=16)
        layer = Layer(sequence_mixer=attention, channel_mixer=block)
    return Decoder(vocab=vocab, d_model=BASE_WIDTH, layers=(layer,) * LAYERS)
