"""What kinds of mixers cost each other in a supernet, taken apart.

    python -m benchmarks.oneshot.kinds --width 64 --steps 600

Byte-level language modelling on the interpreter's own library; four layers of one size with six kinds of
mixers and SwiGLU(3), 16 bits, so that kinds are all that is open. Six hybrids are laid out as a Latin square:
at every layer each kind is in exactly one of them. Their losses are compared with those of the same networks
trained alone for `--steps`, each row one cause more:

- *alone, fewer steps*: as many as a kind is visited by a supernet of four networks a step, two thirds.
- *the six only*: a supernet whose steps visit no others. No two of them have a mixer in common, so what they
  share is what stands around the mixers: embeddings, norms, SwiGLU.
- *all hybrids*: the supernet that a search trains: 1,296 hybrids, neighbours drawn anew at every step.
- *all, then the six*: the last quarter of the steps visits the six only.
- *the six only* and *all hybrids* again with six networks a step: as many visits of a kind as alone.

Each row is kept as soon as it is there.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch

from benchmarks.common import keep_row, show
from benchmarks.oneshot.progressive_shrinking import scored
from evaluators.scoring.scratch import FromScratch
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.sandwich import Sandwich
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.recipe import Recipe
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

SEED, LAYERS, BATCH = 0, 4, 8


def mixers(width: int) -> tuple[Block, ...]:
    """Six kinds, each of one size."""
    heads = width // 16
    return (
        Attention(num_heads=heads, num_kv_heads=heads // 2, head_dim=16),
        GatedDeltaNet(num_heads=heads, head_dim=16),
        GatedLinearAttention(num_heads=heads, head_dim=16, state_dim=16),
        Mamba2(num_heads=heads, head_dim=32, state_dim=32),
        RGLRU(num_heads=heads, head_dim=16),
        ShortConv(kernel=3),
    )


def decoder(width: int, kinds: Sequence[Block]) -> Decoder:
    """A network with these mixers, first layer first."""
    layers = tuple(Layer(sequence_mixer=kind, channel_mixer=SwiGLU(expansion=3)) for kind in kinds)
    return Decoder(vocab=256, d_model=width, layers=layers)


def six(width: int) -> list[Decoder]:
    """A Latin square: every kind once at every layer."""
    kinds = mixers(width)
    shifts = (0, 1, 3, 4)
    return [decoder(width, [kinds[(row + shift) % 6] for shift in shifts]) for row in range(6)]


@dataclass(frozen=True)
class Given(Sandwich):
    """Visits to given networks, dealt out evenly, from a step on; before it, to the whole space."""

    given: tuple[Decoder, ...] = ()
    begins: int = 0

    def of(self, step: int) -> list[Decoder]:
        """See `Sandwich.of`."""
        if step < self.begins:
            return super().of(step)
        first = step * self.networks
        return [self.given[(first + place) % len(self.given)] for place in range(self.networks)]


class Training(SupernetTraining):
    """A supernet whose steps visit given networks from a step on."""

    def __init__(self, space: Space, *, given: Sequence[Decoder], begins: int, **settings: object) -> None:
        self.given, self.begins = tuple(given), begins
        super().__init__(space, **settings)  # type: ignore[arg-type]

    def _sandwich(self, part: Space) -> Sandwich:
        return Given(part, self.seed, self.settings.networks, given=self.given, begins=self.begins)


@dataclass(frozen=True)
class Bench:
    """The task, a width and a number of steps."""

    task: LanguageModelling
    width: int
    steps: int

    def alone(self, steps: int) -> list[float]:
        """Bits per byte of the six, each trained by itself."""
        evaluator = FromScratch(self.task, batch=BATCH, device="cpu")
        return [statistics.fmean(evaluator.score(spec, steps, SEED).samples) for spec in six(self.width)]

    def shared(self, networks: int, begins: float) -> list[float]:
        """Bits per byte of the six, read from a supernet that visits them alone once a share has passed."""
        open_layer = Layer(sequence_mixer=one_of(*mixers(self.width)), channel_mixer=SwiGLU(expansion=3))
        space = Space(Decoder(vocab=256, d_model=self.width, layers=(open_layer,) * LAYERS), name="kinds")
        training = Training(
            space,
            given=six(self.width),
            begins=round(begins * self.steps),
            task=self.task,
            steps=self.steps,
            seed=SEED,
            batch=BATCH,
            recipe=Recipe(supernet=SupernetRecipe(networks=networks)),
        )
        for _ in range(self.steps):
            training.learn()
        return [statistics.fmean(scored(training, spec)) for spec in six(self.width)]


def rows(bench: Bench) -> dict[str, Callable[[], list[float]]]:
    """What is trained, by its name in the table; the first is what the others are compared with."""
    return {
        "alone": lambda: bench.alone(bench.steps),
        "alone, two thirds of the steps": lambda: bench.alone(round(bench.steps * 2 / 3)),
        "the six only, four a step": lambda: bench.shared(4, 0.0),
        "all hybrids, four a step": lambda: bench.shared(4, 1.0),
        "all, then the six, four a step": lambda: bench.shared(4, 0.75),
        "the six only, six a step": lambda: bench.shared(6, 0.0),
        "all hybrids, six a step": lambda: bench.shared(6, 1.0),
    }


def main(arguments: Sequence[str]) -> None:
    """Train, print the table, and keep every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=64, help="a multiple of 32")
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = LanguageModelling.make(data=None, length=64, windows=128)
    task.validation()
    bench = Bench(task, given.width, given.steps)
    command = " ".join(["python -m benchmarks.oneshot.kinds", *arguments])
    table: list[dict[str, object]] = []
    alone: list[float] = []
    for name, train in rows(bench).items():
        found = train()
        alone = alone or found
        behind = [100 * (mine / own - 1) for mine, own in zip(found, alone, strict=True)]
        row = {
            "width": given.width,
            "steps": given.steps,
            "trained": name,
            "bits per byte": round(statistics.fmean(found), 4),
            "behind, %": round(statistics.fmean(behind), 2),
            "error, %": round(statistics.stdev(behind) / sqrt(len(behind)), 2),
        }
        table.append(row)
        print(row, flush=True)
        each = {"each": [round(value, 4) for value in found]}
        keep_row("oneshot_kinds", command, ("width", "steps", "trained"), {**row, **each})
    show("What kinds cost each other", table)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
