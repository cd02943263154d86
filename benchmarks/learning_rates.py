"""The peak learning rate at which each kind of block learns best in short proxy training.

Two layers of the block (beside a SwiGLU or an attention), 64 wide, trained from scratch on the corpus at each
rate; the others keep theirs. What blocks state as `learning_rate` comes from this table. One seed: a rate is
right to about a factor of one and a half, which is what it is used for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from multiprocessing import get_context

import torch

from benchmarks.common import keep
from evaluators.corpus import load_corpus
from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.language import ByteLanguageModelling
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer

RATES = (2e-3, 4e-3, 6e-3, 8.5e-3, 1.2e-2, 1.7e-2, 2.4e-2)
STEPS, SEED = 200, 0
SIZES = {"num_heads": 4, "head_dim": 16, "num_kv_heads": 2, "state_dim": 16, "channels": 128, "expansion": 2}


def main(kinds: Sequence[str] = ()) -> None:
    """Run all, or some kinds, side by side on the processors there are, and keep the table."""
    corpus, kinds = load_corpus(), kinds or list(blocks)
    tasks = [(kind, rate) for kind in kinds for rate in RATES]
    rows = []
    with ProcessPoolExecutor(
        int(os.environ.get("NAS_PROCESSES", os.cpu_count() or 1)), mp_context=get_context("spawn")
    ) as pool:
        running = {pool.submit(_score, kind, rate, str(corpus.folder)): (kind, rate) for kind, rate in tasks}
        for done in as_completed(running):
            kind, rate = running[done]
            rows.append({"block": kind, "rate": rate, **done.result()})
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: (row["block"], row["rate"]))
    best = {}
    for kind in kinds:
        scored = [
            (row["bits_per_byte"], row["rate"])
            for row in rows
            if row["block"] == kind and "failed" not in row
        ]
        best[kind] = min(scored)[1] if scored else None
    keep("learning_rates", "python -m benchmarks learning_rates", rows, best=best, steps=STEPS)


def _score(kind: str, rate: float, folder: str) -> dict[str, object]:
    torch.set_num_threads(1)
    spec = small(blocks[kind])
    blocks[kind].learning_rate = rate
    mixes = spec.mixes == "sequence"
    layer = Layer(
        sequence_mixer=spec if mixes else Attention(num_heads=4, num_kv_heads=2, head_dim=16),
        channel_mixer=SwiGLU(expansion=2) if mixes else spec,
    )
    task = ByteLanguageModelling(folder)
    try:
        score = FromScratch(task).score(Decoder(d_model=64, layers=(layer, layer)), STEPS, SEED)
    except Exception as error:  # a rate at which a block diverges is a result
        return {"failed": f"{type(error).__name__}: {str(error)[:120]}"}
    return {"bits_per_byte": score.value}


def small(kind: type[Block]) -> Block:
    """The block at the sizes of the sweep."""
    known = {field.name for field in fields(kind)}
    return replace(kind(), **{name: size for name, size in SIZES.items() if name in known})


if __name__ == "__main__":
    main(sys.argv[1:])
