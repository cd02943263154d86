"""Many adapters on one base in mixed batches, against the same requests one adapter after the other.

    python -m benchmarks.life.adapters [--adapters N] [--tokens N]

One request for each of the adapters (random low-rank factors of all matrices that read or write the residual
stream) is answered by one engine, all rows in one batch; then each by the same engine alone, one after the
other, which is what a server of merged networks does that holds one at a time, without the time to merge.
The clock is the processor time of the engine. Greedy answers are compared token by token.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.common import keep, show
from evaluators.compression.adapters import Adapter, Factors
from evaluators.compression.low_rank import matrices
from nas.serving.engine import Engine
from nas.serving.requests import Piece, Request, Sampling
from nas.serving.settings import EngineSettings
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build

COMMAND = "python -m benchmarks.life.adapters"
RANK, PROMPT, VOCAB = 8, 32, 256
SIZES: Mapping[str, tuple[int, int]] = {"small": (128, 2), "large": (512, 4)}
"""Width and pairs of layers."""


def network(width: int, pairs: int) -> Model:
    """A hybrid of attention and Mamba-2."""
    heads = width // 32
    attention = Attention(num_heads=heads, num_kv_heads=heads // 2, head_dim=32)
    mamba = Mamba2(num_heads=2 * heads, head_dim=32, state_dim=32)
    layers = [Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=3)) for mixer in (attention, mamba)]
    return build(Decoder(vocab=VOCAB, d_model=width, layers=(*layers,) * pairs)).eval()


def adapter(model: Model, seed: int) -> Adapter:
    """Random factors whose product is a tenth as large as what it is added to."""
    dice, found = torch.Generator().manual_seed(seed), {}
    for name, shape in matrices(model, ("input", "output")).items():
        down = torch.randn(shape.stacked, RANK, shape.inputs, generator=dice) * shape.inputs**-0.5
        up = torch.randn(shape.stacked, shape.rows, RANK, generator=dice) * 0.1 * RANK**-0.5
        found[name] = Factors(down, up)
    return Adapter(found, "")


def answered(engine: Engine, asked: Mapping[str, list[int]], tokens: int) -> list[list[int]]:
    """What the engine writes to each of these requests, all given to it at once."""
    written: list[list[int]] = []
    for which, prompt in asked.items():
        own: list[int] = []
        written.append(own)

        def tell(piece: Piece, own: list[int] = own) -> None:
            assert piece.finish in (None, "length"), piece
            own.extend(chosen.token for chosen in piece.chosen)

        engine.submit(Request(prompt, Sampling(max_tokens=tokens, temperature=0.0), tell, which))
    while engine.iterate():
        pass
    return written


def compare(size: str, count: int, tokens: int) -> dict[str, Any]:
    """One size: mixed, one after the other, and the base alone with as many rows."""
    model = network(*SIZES[size])
    adapters = {f"a{i}": adapter(model, i) for i in range(count)}
    settings = EngineSettings(rows=count, context=PROMPT + tokens, prefix_memory=0, chunk=4096)
    engine = Engine(model, settings, adapters=adapters)
    dice = torch.Generator().manual_seed(0)
    prompts = torch.randint(VOCAB, (count, PROMPT), generator=dice).tolist()
    asked = dict(zip(adapters, prompts, strict=True))
    answered(engine, {"a0": prompts[0]}, 2)  # warm
    seconds, texts = {}, {}
    for way in ("mixed", "in turn", "base alone"):
        begun = time.process_time()
        if way == "mixed":
            texts[way] = answered(engine, asked, tokens)
        elif way == "in turn":
            texts[way] = [answered(engine, {name: prompt}, tokens)[0] for name, prompt in asked.items()]
        else:
            texts[way] = []
            plain = Engine(model, settings)
            for prompt in prompts:
                plain.submit(Request(prompt, Sampling(max_tokens=tokens, temperature=0.0), lambda _: None))
            while plain.iterate():
                pass
        seconds[way] = time.process_time() - begun
    pairs = list(zip(texts["mixed"], texts["in turn"], strict=True))
    return {
        "size": size,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "adapters": count,
        "MiB of an adapter": engine.adapters.slot_bytes / 2**20,
        "equal answers": sum(one == other for one, other in pairs),
        **{f"{way}, tokens/s": count * tokens / spent for way, spent in seconds.items()},
        "ratio": seconds["in turn"] / seconds["mixed"],
    }


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    chosen = parser.parse_args()
    rows = [compare(size, chosen.adapters, chosen.tokens) for size in SIZES]
    show("mixed batches against one adapter after the other", rows)
    keep("adapters", f"{COMMAND} --adapters {chosen.adapters} --tokens {chosen.tokens}", rows)


if __name__ == "__main__":
    main()
