"""Blockwise alignment: every alternative learns to do what the parent's block does at its place.

A parent is any network of the space, read from the supernet; at other widths the same network with another
`d_model` takes its part. It reads a batch once; at each half of a layer its input x and what it adds to the
stream, y, are kept; and each other kind of block that may stand there learns to add the same:

    error = mean (mixer(norm(x)) - y)^2 / mean y^2

Places do not see each other, so all of them learn at once, and a step costs one forward pass of the parent
and two passes of each kind: one at its largest size and most bits, one at a random size and random bits.

Sizes of one kind share their slices, and the parent's own kind at a place shares them with the parent: it is
left alone, and so the parent computes bit for bit what it did. Smaller sizes of the parent's own kind are
what the training of the supernet made them. Where the parent has no block there is nothing to imitate. The
result is a supernet of its own; the given one stays.

Local imitation of a parent's blocks is Puzzle's (Bercovich et al. 2024, arXiv:2411.19146) and DNA's (Li et
al. 2020, arXiv:1911.13053); blocks learn on the parent's hidden states, not on each other's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from evaluators.blockwise.sublayers import BorrowedHalf, Half, halves_in, halves_of
from evaluators.tasks.base import Task
from evaluators.training.fit import fit
from evaluators.training.recipe import DEFAULT, Recipe
from evaluators.training.trainable import Losses, Trainable, Trajectory, weights_digest
from foundation.errors import IllegalArchitecture, SettingError
from search_spaces.language.serialization import to_json
from search_spaces.network.decoder import Decoder, parameter_shapes
from search_spaces.network.layer import DecoderLayer
from search_spaces.network.residual import Residual
from search_spaces.supernet import Supernet, Weights, closings

JUDGED = 16
"""Validation windows by which errors are told."""

Recorded = dict[str, tuple[Tensor, Tensor]]
"""By site, what a half of the parent read and what it added [B, T, D]."""


@dataclass(frozen=True)
class Aligned:
    """A supernet whose alternatives imitate a parent, and the normalised errors by site and kind of block.

    An error of 1 is that of adding nothing. `before` and `after` are over validation windows, at the parent's
    width, for the largest size of each kind.
    """

    supernet: Supernet
    before: Mapping[str, float]
    after: Mapping[str, float]
    seconds: float


class Alignment(Trainable):
    """The training of the alternatives in a supernet's copy, by its schedule at the blocks' own rates.

    Raises:
        SettingError: fewer steps than one.
        IllegalArchitecture: the parent is not in the space.
    """

    def __init__(
        self,
        supernet: Supernet,
        parent: Decoder,
        task: Task,
        *,
        steps: int,
        seed: int,
        batch: int = 16,
        recipe: Recipe = DEFAULT,
    ) -> None:
        if steps < 1 or batch < 1:
            raise SettingError(f"alignment: steps and batch must be at least 1, got {steps} and {batch}")
        supernet.space.genotype_of(parent)
        self.supernet, self.given = copied(supernet), digest_of(supernet)
        self.parent, self.task, self.seed, self.batch = parent, task, seed, batch
        self.parents = parents_of(supernet, parent)
        self.kinds = self._kinds()
        parameters = {
            key: weight
            for key, weight in self.supernet.weights.items()
            if any(key.startswith(f"{kind}.") for kind in self.kinds)
        }
        schedule = recipe.supernet.schedule
        super().__init__(parameters, self.supernet.rates, recipe, schedule=schedule, rate=1.0, steps=steps)
        self._read: dict[Half, BorrowedHalf] = {}

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others: the weights it began with are part of it."""
        spec = {"space": self.supernet.space.digest, "parent": to_json(self.parent), "of": self.given}
        return Trajectory(
            json.dumps(spec),
            {key: self.supernet.rates[key] for key in self.parameters},
            self.task.digest,
            self.seed,
            self.batch,
            {**self.recipe.of_supernets(), "supernet": self.schedule.to_plain()},
            self.steps,
            self.origin,
        )

    def gradients(self) -> Losses:
        """Of the largest and a random size of each kind; shown is the mean error of the largest sizes."""
        dice = Random(f"{self.seed}/{self.step}")
        d_model = dice.choice(sorted(self.parents))
        tokens = self.task.train_batch(self.step, self.seed, self.batch)[0].to(self.supernet.device)
        with self.low_precision(self.supernet.device):
            seen = recorded(self.supernet, self.parents[d_model], tokens)
        largest, minimised = list[float](), dict[str, float]()
        for kind, by_width in self.kinds.items():
            halves = by_width.get(d_model, [])
            site = kind.partition(":")[0]
            if not halves or site not in seen:
                continue
            error, minimised[f"{kind}: the error"] = self._backward(halves[0], *seen[site])
            largest.append(error)
            if len(halves) > 1:
                smaller = self._backward(dice.choice(halves[1:]), *seen[site])
                minimised[f"{kind}: the error of a smaller size"] = smaller[1]
        return Losses((sum(largest) / max(1, len(largest)),), minimised)

    def clipped_together(self) -> Iterator[list[nn.Parameter]]:
        """Each kind at each place by itself, since they do not see each other."""
        for kind in self.kinds:
            yield [weight for key, weight in self.parameters.items() if key.startswith(f"{kind}.")]

    def errors(self) -> dict[str, float]:
        """The error of the largest size of each kind on validation windows, at the parent's width."""
        tokens = self.task.validation()[0][:JUDGED].to(self.supernet.device)
        seen = recorded(self.supernet, self.parent, tokens)
        found = {}
        with torch.no_grad():
            for kind, by_width in self.kinds.items():
                site, halves = kind.partition(":")[0], by_width.get(self.parent.d_model, [])
                if halves and site in seen:
                    x, y = seen[site]
                    found[kind] = float(imitation_error(self._half(halves[0])(x).y - x, y))
        return found

    def _backward(self, half: Half, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Add the gradients of one half; its error, and all that it minimises."""
        with self.low_precision(self.supernet.device):
            mixed = self._half(half)(x)
        error = imitation_error(mixed.y - x, y)
        whole = error if mixed.loss is None else error + mixed.loss
        if whole.requires_grad:
            whole.backward()
        return error.item(), whole.item()

    def _half(self, half: Half) -> BorrowedHalf:
        if half not in self._read:
            self._read[half] = BorrowedHalf(self.supernet, half)
        return self._read[half]

    def _kinds(self) -> dict[str, dict[int, list[Half]]]:
        """By site and kind, but the parent's own, and by width, what learns: the largest first."""
        own = {half.key for parent in self.parents.values() for _, _, half in halves_of(parent)}
        found: dict[str, dict[int, list[Half]]] = {}
        for half in halves_in(self.supernet.space):
            if half.block is None or half.key in own or not parameter_shapes(half.block, half.d_model):
                continue
            found.setdefault(half.key, {}).setdefault(half.d_model, []).append(half)
        for by_width in found.values():
            for halves in by_width.values():
                halves.sort(key=_size, reverse=True)
        return found


def align(
    supernet: Supernet,
    parent: Decoder,
    task: Task,
    *,
    steps: int,
    seed: int,
    batch: int = 16,
    recipe: Recipe = DEFAULT,
    folder: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Aligned:
    """A supernet like the given one, in which every other kind of block imitates `parent` at its place.

    With a `folder`, a killed alignment continues from its checkpoint to the same weights, and a finished one
    is read. `on_step` is called with the number of each step and the mean error.

    Raises:
        EvaluationFailed: an error is not finite.
        IllegalArchitecture: the parent is not in the space.
    """
    training = Alignment(supernet, parent, task, steps=steps, seed=seed, batch=batch, recipe=recipe)
    before = training.errors()
    curve = fit(training, folder=folder, on_step=on_step)
    return Aligned(training.supernet, before, training.errors(), curve.seconds)


def parents_of(supernet: Supernet, parent: Decoder) -> dict[int, Decoder]:
    """The parent at each width of the space at which it is an architecture of it."""
    widths = {d for decoder in closings_of_root(supernet) for d in closings(decoder.d_model)}
    found = {}
    for d_model in sorted(widths):
        alike = replace(parent, d_model=d_model)
        try:
            alike.check()
            supernet.subnet(alike)
        except IllegalArchitecture:
            continue
        found[d_model] = alike
    return found


def closings_of_root(supernet: Supernet) -> list[Decoder]:
    """The decoders at the root of a space, open inside."""
    root = supernet.space.root
    return list(root.options) if hasattr(root, "options") else [root]


def imitation_error(added: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference over the mean square of what is wanted; 1 for adding nothing."""
    scale = wanted.square().mean().clamp_min(torch.finfo(wanted.dtype).tiny)
    return (added - wanted).square().mean() / scale


@torch.no_grad()
def recorded(supernet: Supernet, spec: Decoder, tokens: Tensor, weights: Weights | None = None) -> Recorded:
    """What each half of a network reads and adds on tokens [B, T], by the site of its weights.

    A site that is read several times is there with what it read first.
    """
    subnet, seen = supernet.subnet(spec), Recorded()

    def keep(site: str) -> Callable[[nn.Module, tuple[Tensor, ...], object], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            seen.setdefault(site, (inputs[0], output.y - inputs[0]))  # type: ignore[attr-defined]

        return hook

    sites = {(index, place): half.site for index, place, half in halves_of(spec)}
    hooks = []
    for index, layer in enumerate(subnet.module.layers):
        assert isinstance(layer, DecoderLayer)
        for place, half in layer.sublayers.items():
            assert isinstance(half, Residual)
            hooks.append(half.register_forward_hook(keep(sites[index, place])))
    try:
        subnet(tokens, weights)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def copied(supernet: Supernet) -> Supernet:
    """Another supernet of the same space with the same values."""
    other = Supernet(supernet.space, device=supernet.device)
    with torch.no_grad():
        for key, weight in other.weights.items():
            weight.copy_(supernet.weights[key])
    other.rates.update(supernet.rates)
    return other


def digest_of(supernet: Supernet) -> str:
    """16 hex digits of all weights: what was made from these weights is not taken for made from others."""
    return weights_digest(supernet.weights)


def _size(half: Half) -> tuple[float, float, int, int]:
    assert half.block is not None
    shapes = parameter_shapes(half.block, half.d_model).values()
    params = sum(torch.Size(shape).numel() for shape in shapes)
    return params, half.bits.weight, half.bits.activation, half.bits.state
