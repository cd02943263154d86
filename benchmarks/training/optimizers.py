"""Muon against AdamW at two widths: the loss of a network trained from scratch, at each of a few rates.

Four layers, byte-level text, 16 windows of 128 tokens a step, rates of the blocks times each factor, one
thread. The seed is that of the initial weights and of the batches. The best rate of each is run once more
with another seed, so that a difference can be held against chance, and at the smaller width with a cool-down.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from time import monotonic
from typing import Any

import torch

from benchmarks.common import keep, show_plainly
from evaluators.corpus import load_corpus
from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.language import LanguageModelling
from evaluators.training.recipe import Recipe
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer

WIDTHS, DEPTH, STEPS = (64, 128), 4, 200
OPTIMIZERS, FACTORS = ("adamw", "muon"), (0.5, 1.0, 2.0)


def main() -> None:
    """Train all, one after the other, and keep the table."""
    torch.set_num_threads(1)
    task = LanguageModelling(load_corpus().folder)
    rows = []
    for width, network in product(WIDTHS, networks(WIDTHS[0])):
        for optimizer in OPTIMIZERS:
            run = partial(_trained, task, width, network, optimizer)
            swept = [run(factor) for factor in FACTORS]
            best = min(swept, key=lambda row: row["bits_per_byte"])["rate"]
            swept.append(run(best, seed=1))
            if width == WIDTHS[0]:
                swept.append(run(best, schedule="trapezoid"))
            rows += swept
            show_plainly(f"{network}, width {width}, {optimizer}", swept)
    keep("training_optimizers", "python -m benchmarks.training.optimizers", rows, steps=STEPS, depth=DEPTH)


def networks(width: int) -> dict[str, tuple[Block, ...]]:
    """Sequence mixers of the layers by name; heads of 16 channels."""
    heads = width // 16
    attention = Attention(num_heads=heads, num_kv_heads=heads // 2, head_dim=16)
    return {"attention": (attention,) * DEPTH, "convolutions": (ShortConv(),) * DEPTH}


def _trained(
    task: LanguageModelling,
    width: int,
    network: str,
    optimizer: str,
    factor: float,
    *,
    seed: int = 0,
    schedule: str = "inverse_sqrt",
) -> dict[str, Any]:
    layers = tuple(
        Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=2)) for mixer in networks(width)[network]
    )
    recipe = Recipe().with_settings({"optimizer": optimizer, "rate": factor, "schedule": schedule})
    began = monotonic()
    score = FromScratch(task, recipe=recipe).score(Decoder(d_model=width, layers=layers), STEPS, seed)
    return {
        "network": network,
        "width": width,
        "optimizer": optimizer,
        "rate": factor,
        "schedule": schedule,
        "seed": seed,
        "bits_per_byte": score.value,
        "seconds": monotonic() - began,
    }


if __name__ == "__main__":
    main()
