"""Architecture, bits and zeros chosen together, against one after the other, at equal bytes.

    python -m benchmarks.life.joint [--seeds N] [--steps N] [--candidates N] [--bytes B]

For each seed one supernet is trained, whose subnets have any width, depth, mixer and bits of the space. From
its weights, with as many candidates scored by both,

* one after the other: first the architecture, scored at 16 bits among those that fit at 4; then 2 of 4
  weights zero or not, at the most equal bits that fit; then bits by layer;
* together: architecture, zeros and bits at once.

Candidates are drawn at random, the second half of them as mutants of the best. Both that come out have at
most B bytes, are trained alone from new weights for as many steps, with their bits, and with the zeros that
magnitude chooses halfway; then they are scored on windows that nothing was chosen by. A file of ours holds
zeros like other values, so bytes are counted as sparse tensor cores store 2:4: two of four codes, and two
bits for the place of each (Mishra et al. 2021, arXiv:2104.08378, section 3).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat as forever
from random import Random
from statistics import fmean, stdev
from typing import Any

import torch

from benchmarks.common import keep_row, show
from evaluators.compression.lottery import MaskedTraining
from evaluators.compression.pruning import kept_by_magnitude
from evaluators.scoring.base import Score, paired_difference
from evaluators.scoring.windows import window_losses
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.base import Task
from evaluators.tasks.language import LanguageModelling
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining, rounded_model
from nas.modifiers.base import layer_matrices
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.language.variation import mutate
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.quantization.bits import Bits, takes_few_bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

COMMAND = "python -m benchmarks.life.joint"
PATTERN = (2, 4)
BITS = (16, 8, 4, 3, 2)
LIKE = 4
"""The bits that who chooses the architecture first expects to have."""


@dataclass(frozen=True)
class Candidate:
    """An architecture with its bits, and whether 2 of 4 weights of its layers are zero."""

    genotype: Genotype
    spec: Decoder
    sparse: bool = False

    @property
    def bytes(self) -> float:
        """What it takes, 2:4 as two codes and two places of two bits."""
        saved = 0.0
        for layer in self.spec.layers if self.sparse else ():
            for place, block in layer.blocks.items():
                bits = layer.bits_at(place).weight
                codes = sum(
                    torch.Size(shape).numel()
                    for name, shape in parameter_shapes(block, self.spec.d_model).items()
                    if takes_few_bits(block, name, shape)
                )
                saved += codes * (bits - (2 * bits + 4) / 4) / 8
        return self.spec.cost(Scenario()).weight_bytes - saved


Draw = Callable[[Random, Candidate | None], Candidate]
"""Another candidate: a random one, or a mutant of one."""


def space_of(bits: Any) -> Space:
    """One to three layers of attention or Mamba-2, 16 to 48 wide."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=2, num_kv_heads=1, head_dim=8), Mamba2(num_heads=2, head_dim=16, state_dim=16)
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)),
        bits=Bits(weight=bits, group=32),
    )
    stack = repeat(layer, depths=(1, 2, 3))
    return Space(Decoder(vocab=256, d_model=one_of(16, 24, 32, 48), layers=stack), name="joint")


class Choices:
    """What is scored from one supernet."""

    def __init__(self, supernet: Supernet, task: Task, most: float, seed: int) -> None:
        self.supernet, self.task, self.most, self.dice = supernet, task, most, Random(seed)
        self.scored: dict[Candidate, float] = {}

    def score(self, candidate: Candidate) -> float:
        """Bits per byte with the supernet's weights, the least of every four zero where it is sparse."""
        if candidate not in self.scored:
            model = self.supernet.subnet(candidate.spec).extract().eval()
            if candidate.sparse:
                with torch.no_grad():
                    for name, kept in masks_of(model).items():
                        model.get_parameter(name).mul_(kept)
            windows = window_losses(model, self.task)
            self.scored[candidate] = float(windows[: len(windows) // 2].mean())
        return self.scored[candidate]

    def best(self, draw: Draw, count: int, fits: Callable[[Candidate], bool]) -> Candidate:
        """Of so many candidates that fit, half of them mutants of the best before them."""
        found = dict[Candidate, None]()
        tries = 0
        while len(found) < count and tries < 200 * count:
            tries += 1
            parents = sorted(found, key=self.score)[:4] if len(found) >= count // 2 else []
            candidate = draw(self.dice, self.dice.choice(parents) if parents else None)
            if candidate not in found and fits(candidate):
                found[candidate] = None
                self.score(candidate)
        return min(found, key=self.score)


def masks_of(model: Model) -> dict[str, torch.Tensor]:
    """The two of four weights of every matrix that stay."""
    held = dict(model.named_parameters())
    return {name: kept_by_magnitude(held[name], 0.5, PATTERN) for name in layer_matrices(model)}


def drawn(space: Space, dice: Random, parent: Candidate | None) -> Candidate:
    """Of a space, dense."""
    genotype = space.sample(dice) if parent is None else mutate(space, parent.genotype, dice)
    return Candidate(genotype, space.close(genotype))


def together(space: Space, dice: Random, parent: Candidate | None) -> Candidate:
    """Of a space, with zeros or without."""
    if parent is not None and dice.random() < 0.25:
        return replace(parent, sparse=not parent.sparse)
    sparse = dice.random() < 0.5 if parent is None else parent.sparse
    return replace(drawn(space, dice, parent), sparse=sparse)


def with_bits(spec: Decoder, bits: Iterator[float]) -> Decoder:
    """The same network, its layers at these bits."""
    layers = tuple(replace(layer, bits=replace(layer.bits, weight=next(bits))) for layer in spec.layers)
    return replace(spec, layers=layers)


def one_after_the_other(choices: Choices, whole: Space, count: int) -> Candidate:
    """Architecture, zeros, bits; each with what was chosen before."""

    def fits_later(candidate: Candidate) -> bool:
        like = with_bits(candidate.spec, forever(LIKE))
        return replace(candidate, spec=like).bytes <= choices.most

    architecture = choices.best(partial(drawn, space_of(16)), count // 3, fits_later)

    def at(bits: list[float], sparse: bool) -> Candidate:
        spec = with_bits(architecture.spec, iter(bits))
        return Candidate(whole.genotype_of(spec), spec, sparse)

    depth, equal = len(architecture.spec.layers), list[Candidate]()
    for sparse in (False, True):
        fitting = [c for b in BITS if (c := at([b] * depth, sparse)).bytes <= choices.most]
        equal += fitting[:1]
    if not equal:
        raise SystemExit(f"{choices.most:,.0f} bytes are too few for what was chosen at 16 bits")
    chosen = min(equal, key=choices.score)

    def draw(dice: Random, parent: Candidate | None) -> Candidate:
        bits: list[float] = [layer.bits.weight for layer in (parent or chosen).spec.layers]
        for index in range(depth):
            if parent is None or dice.random() < 1 / depth:
                bits[index] = dice.choice(BITS)
        return at(bits, chosen.sparse)

    found = choices.best(draw, count - count // 3, lambda c: c.bytes <= choices.most)
    return min((found, chosen), key=choices.score)


def trained(candidate: Candidate, task: Task, steps: int, seed: int, batch: int) -> Model:
    """A network trained alone, at its bits, from the middle on with its zeros."""
    model = build(candidate.spec, seed=seed)
    course: dict[str, Any] = {"steps": steps, "seed": seed, "batch": batch}
    fit(NetworkTraining(model, task, **course), until=steps // 2 if candidate.sparse else None)
    if candidate.sparse:
        masked = MaskedTraining(model, masks_of(model), task, **course)
        masked.step = steps // 2
        fit(masked)
    return rounded_model(model).eval()


def compared(seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Both choices of one seed, trained alone."""
    task = LanguageModelling.make(data=None, length=given.window, windows=2 * given.windows)
    space = space_of(one_of(*BITS))
    training = SupernetTraining(space, task, steps=given.steps, seed=seed, batch=given.batch)
    fit(training)
    choices = Choices(training.supernet, task, given.bytes, seed)
    row: dict[str, Any] = {"seed": seed}
    scores = dict[str, Score]()
    for how in ("one after the other", "together"):
        choices.dice = Random(seed)
        chosen = (
            one_after_the_other(choices, space, given.candidates)
            if how == "one after the other"
            else choices.best(partial(together, space), given.candidates, lambda c: c.bytes <= given.bytes)
        )
        model = trained(chosen, task, given.steps, seed, given.batch)
        scores[how] = Score.of(window_losses(model, task)[given.windows :].tolist())
        row |= {how: scores[how].value, f"{how}, bytes": round(chosen.bytes), f"{how}, what": shown(chosen)}
    change, error = paired_difference(scores["together"].samples, scores["one after the other"].samples)
    return row | {"change": change, "error": error}


def shown(candidate: Candidate) -> str:
    """In a few words."""
    layers = " ".join(
        f"{type(layer.sequence_mixer).__name__}/{layer.channel_mixer.expansion}:{layer.bits.weight}"  # type: ignore[union-attr]
        for layer in candidate.spec.layers
    )
    return f"{candidate.spec.d_model} wide, {layers}{', 2:4' if candidate.sparse else ''}"


def main() -> None:
    """Run, print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--steps", type=int, default=300, help="of the supernet, and of both that come out")
    words.add_argument("--candidates", type=int, default=90, help="scored by each way to choose")
    words.add_argument("--bytes", type=float, default=24e3, help="that a network may have")
    words.add_argument("--window", type=int, default=64)
    words.add_argument("--windows", type=int, default=32, help="for choices, and as many for scores")
    words.add_argument("--batch", type=int, default=16)
    given = words.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(given.seeds):
        row = compared(seed, given)
        asked = {name: getattr(given, name) for name in ("steps", "candidates", "bytes", "window", "batch")}
        keep_row("joint", COMMAND, ("seed", *asked), row | asked)
        rows.append(row)
    show("bits per byte", rows)
    changes = [row["change"] for row in rows]
    if len(changes) > 1:
        error = stdev(changes) / len(changes) ** 0.5
        print(f"together less one after the other: {fmean(changes):+.4f} ± {error:.4f} over seeds")


if __name__ == "__main__":
    main()
