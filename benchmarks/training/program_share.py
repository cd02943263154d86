"""What the program alone needs for a step of a supernet, without and with recorded regions: on any CPU.

    python -m benchmarks.training.program_share

The spaces have the layers, kinds of blocks and number of widths of `gpu`, and of the space that
`benchmarks.training.speed` times, but tensors so small that their arithmetic takes next to no time: what is
left is the work of the program, which a GPU waits for. `plain` runs every operation; with `recorded` a region
is the start of a graph, which is empty here: inputs and results are copied, nothing is computed, so losses
mean nothing.

Milliseconds are CPU time of the process, the smallest of several stretches that take turns; a busy machine
disturbs them less than time on the clock. A real graph takes some microseconds more to be started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.common import keep, show_plainly
from evaluators.corpus import load_corpus
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training import recorded
from evaluators.training.capture import Replay
from evaluators.training.recipe import Recipe
from evaluators.training.recorded import Recorder, Region
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits

LENGTH, WARM, STEPS, STRETCHES = 16, 100, 4, 6


@dataclass(frozen=True)
class Shape:
    """A space: its blocks, widths and depths."""

    name: str
    mixers: tuple[Block, ...]
    channel_mixer: Any
    widths: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def space(self) -> Space:
        """With the bits of its layers open."""
        bits = Bits(weight=one_of(4, 8, 16), state=one_of(8, 16))
        layer = Layer(sequence_mixer=one_of(*self.mixers), channel_mixer=self.channel_mixer, bits=bits)
        root = Decoder(vocab=256, d_model=one_of(*self.widths), layers=repeat(layer, depths=self.depths))
        return Space(root, name=self.name)


def shapes() -> Iterator[Shape]:
    """As many places and kinds as `gpu` has, and as the space of `speed`."""
    window = Attention(num_heads=4, num_kv_heads=2, head_dim=4, window=8)
    delta, rglru = GatedDeltaNet(num_heads=4, head_dim=4, state_dim=4), RGLRU(num_heads=4, head_dim=4)
    conv = ShortConv(kernel=3)
    yield Shape(
        "as gpu",
        (
            Attention(num_heads=one_of(4, 8, 12), num_kv_heads=one_of(1, 2, 4), head_dim=4),
            window,
            LatentAttention(num_heads=4, head_dim=4, rope_dim=2, kv_rank=one_of(4, 8)),
            Mamba2(num_heads=one_of(2, 4), head_dim=4, state_dim=one_of(4, 8)),
            delta,
            GatedLinearAttention(num_heads=4, head_dim=4, state_dim=one_of(2, 4)),
            rglru,
            conv,
        ),
        one_of(SwiGLU(expansion=one_of(2, 3, 4)), MoE(num_experts=8, top_k=one_of(1, 2), expansion=1)),
        (8, 12, 16, 20, 24),
        (6, 8, 10, 12),
    )
    attention, mamba = Attention(num_heads=4, num_kv_heads=2, head_dim=4), Mamba2(num_heads=4, head_dim=4)
    mixers = (attention, window, delta, mamba, rglru, conv)
    yield Shape("as speed", mixers, SwiGLU(expansion=3), (12, 16), (6, 8, 10))


class Empty(Recorder):
    """Graphs in which nothing is."""

    def _replay_of(self, function: Callable[[], None]) -> Replay:
        return lambda: None

    def _place(self, role: str, number: int, like: torch.Tensor) -> torch.Tensor:
        return super()._place(role, number, like).zero_()

    def _pays(self, region: Region, graphs: recorded.Graphs, inputs: object) -> bool:
        return True


def measured(shape: Shape) -> dict[str, Any]:
    """Milliseconds of a step in both forms."""
    plain, graphs = (_training(shape) for _ in range(2))
    recorder = graphs.regions.recorder = Empty()
    for training in (plain, graphs):
        for _ in range(WARM):
            training.advance()
    times: dict[str, list[float]] = {"plain": [], "recorded": []}
    for _ in range(STRETCHES):
        for name, training in (("plain", plain), ("recorded", graphs)):
            times[name].append(_milliseconds(training))
    best = {f"{name}_ms": min(each) for name, each in times.items()}
    return {
        "space": shape.name,
        "parameters": len(plain.supernet.weights),
        "recorded": recorder.count,
        **best,
        "ratio": best["plain_ms"] / best["recorded_ms"],
    }


def _training(shape: Shape) -> SupernetTraining:
    task = LanguageModelling(load_corpus().folder, length=LENGTH)
    recipe = Recipe(supernet=SupernetRecipe(networks=4))
    return SupernetTraining(shape.space, task, steps=100_000, seed=0, batch=1, recipe=recipe)


def _milliseconds(training: SupernetTraining) -> float:
    began = time.process_time()
    for _ in range(STEPS):
        training.advance()
    return 1e3 * (time.process_time() - began) / STEPS


def main() -> None:
    """Both spaces."""
    torch.set_num_threads(1)
    recorded._proves_itself = lambda *given: True
    rows = [measured(shape) for shape in shapes()]
    show_plainly("A step of a supernet", rows)
    keep(
        "training_program_share",
        " ".join(["python -m benchmarks.training.program_share", *sys.argv[1:]]),
        rows,
    )


if __name__ == "__main__":
    main()
