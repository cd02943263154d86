"""Blockwise alignment: every alternative learns to do what the parent's block does at its place.

A parent is any network of the space, read from the supernet; at other widths the same network with another
`d_model` takes its part. It reads a batch once; the input x of each sublayer and what it adds to the residual
stream, y, are recorded; and each other kind of block that may stand there learns to add the same:

    error = mean (mixer(norm(x)) - y)^2 / mean y^2

Places do not affect each other, so all of them learn at once, and a step costs one forward pass of the parent
and two passes of each kind: one at its largest size and most bits, one at a random size and random bits.

Sizes of one kind share their slices, and the parent's own kind at a place shares them with the parent: it is
left alone, and so the parent computes bit for bit what it did. Smaller sizes of the parent's own kind are
what the training of the supernet made them. So is the map by which a mixer reads the embedding, which all
kinds at a place share. Where the parent has no block there is nothing to imitate. The result is a supernet of
its own; the given one stays.

Local imitation of a parent's blocks is Puzzle's (Bercovich et al. 2024, arXiv:2411.19146) and DNA's (Li et
al. 2020, arXiv:1911.13053); blocks learn on the parent's hidden states, not on each other's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from evaluators.blockwise.parent import Recorded, parents_by_width, recorded
from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.supernet.weights import copy_of, digest_of
from evaluators.tasks.base import Task
from evaluators.training.fit import fit
from evaluators.training.losses import Losses
from evaluators.training.recipe import DEFAULT, Recipe
from evaluators.training.trainable import Trainable, Trajectory
from foundation.errors import SettingError, SpaceError
from search_spaces.blocks.base import Mixed
from search_spaces.language.serialization import to_json
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import Decoder, weights_site
from search_spaces.network.sublayers import Sublayer, sublayers_in, sublayers_of
from search_spaces.supernet import Supernet

ERROR_WINDOWS = 16
"""Validation windows over which errors are measured."""


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
        SpaceError: alternatives read the embedding where not all tokens pass a layer of the parent.
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
        self.supernet, self.given = copy_of(supernet), digest_of(supernet)
        self.parent, self.task, self.seed, self.batch = parent, task, seed, batch
        self.parents = parents_by_width(supernet, parent)
        self.kinds = self._kinds()
        parameters = {
            key: weight
            for key, weight in self.supernet.weights.items()
            if any(key.startswith(f"{kind}.") for kind in self.kinds)
        }
        schedule = recipe.supernet.schedule
        super().__init__(
            parameters,
            self.supernet.learning_rates(recipe.rates_by_kind),
            self.supernet.roles,
            recipe,
            schedule=schedule,
            rate=1.0,
            tokens=batch * task.length,
            steps=steps,
        )
        self._borrowed: dict[Sublayer, BorrowedSublayer] = {}

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others: the weights it began with are part of it."""
        spec = {"space": self.supernet.space.digest, "parent": to_json(self.parent), "of": self.given}
        return Trajectory(
            json.dumps(spec),
            {key: self.rates[key] for key in self.parameters},
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
        tokens = self.task.train_batch_on(self.supernet.device, self.step, self.seed, self.batch)[0]
        with self.low_precision(self.supernet.device):
            seen = recorded(self.supernet, self.parents[d_model], tokens)
        largest, minimised = list[float](), dict[str, float]()
        for kind, sublayers in self._learning(d_model, seen):
            error, minimised[f"{kind}: the error"] = self._backward(sublayers[0], seen)
            largest.append(error)
            if len(sublayers) > 1:
                smaller = self._backward(dice.choice(sublayers[1:]), seen)
                minimised[f"{kind}: the error of a smaller size"] = smaller[1]
        return Losses((sum(largest) / max(1, len(largest)),), minimised)

    def clipped_together(self) -> Iterator[list[nn.Parameter]]:
        """Each kind at each place by itself, since they do not affect each other."""
        for kind in self.kinds:
            yield [weight for key, weight in self.parameters.items() if key.startswith(f"{kind}.")]

    @torch.no_grad()
    def errors(self) -> dict[str, float]:
        """The error of the largest size of each kind on validation windows, at the parent's width."""
        tokens = self.task.validation()[0][:ERROR_WINDOWS].to(self.supernet.device)
        seen = recorded(self.supernet, self.parent, tokens)
        learning = self._learning(self.parent.d_model, seen)
        return {kind: float(self._error(s[0], self._mixed(s[0], seen), seen)) for kind, s in learning}

    def _learning(self, d_model: int, seen: Recorded) -> Iterator[tuple[str, list[Sublayer]]]:
        """The kinds that learn at a width, where the parent has something to imitate."""
        for kind, by_width in self.kinds.items():
            sublayers = by_width.get(d_model, [])
            if sublayers and sublayers[0].path in seen.sublayers:
                yield kind, sublayers

    def _backward(self, sublayer: Sublayer, seen: Recorded) -> tuple[float, float]:
        """Add the gradients of one sublayer; its error, and all that it minimises."""
        with self.low_precision(self.supernet.device):
            mixed = self._mixed(sublayer, seen)
        error = self._error(sublayer, mixed, seen)
        whole = error if mixed.loss is None else error + mixed.loss
        if whole.requires_grad:
            whole.backward()
        return error.item(), whole.item()

    def _error(self, sublayer: Sublayer, mixed: Mixed, seen: Recorded) -> Tensor:
        """How far what a sublayer adds is from what the parent's adds."""
        x, y = seen.sublayers[sublayer.path]
        return imitation_error(mixed.y - x, y)

    def _mixed(self, sublayer: Sublayer, seen: Recorded) -> Mixed:
        """What a sublayer computes of what the parent's reads."""
        if sublayer not in self._borrowed:
            self._borrowed[sublayer] = BorrowedSublayer(self.supernet, sublayer)
        return self._borrowed[sublayer](seen.sublayers[sublayer.path][0], seen.embedding)

    def _kinds(self) -> dict[str, dict[int, list[Sublayer]]]:
        """By site and kind, but the parent's own, and by width, what learns: the largest first."""
        own = {sublayer.key for parent in self.parents.values() for sublayer in sublayers_of(parent)}
        layers = enumerate(self.parent.layers)
        dynamic = {weights_site(layer.shared, i): layer.not_static for i, layer in layers}
        kinds: dict[str, dict[int, list[Sublayer]]] = {}
        for sublayer in sublayers_in(self.supernet.space):
            block, d_model = sublayer.block, sublayer.d_model
            if block is None or sublayer.key in own or not parameter_shapes(block, d_model):
                continue
            reason = dynamic.get(sublayer.site or "", "")
            if sublayer.reads_embedding and reason:
                raise SpaceError(
                    f"{sublayer.path}: the parent's layer {reason}, so what reads the embedding of"
                    " all tokens cannot be aligned; choose another parent"
                )
            kinds.setdefault(sublayer.key, {}).setdefault(d_model, []).append(sublayer)
        for by_width in kinds.values():
            for sublayers in by_width.values():
                sublayers.sort(key=_size, reverse=True)
        return kinds


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


def imitation_error(added: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference over the mean square of what is wanted; 1 for adding nothing."""
    scale = wanted.square().mean().clamp_min(torch.finfo(wanted.dtype).tiny)
    return (added - wanted).square().mean() / scale


def _size(sublayer: Sublayer) -> tuple[float, float, int, int]:
    assert sublayer.block is not None
    shapes = parameter_shapes(sublayer.block, sublayer.d_model).values()
    params, bits = sum(torch.Size(shape).numel() for shape in shapes), sublayer.bits
    return params, bits.weight, bits.activation, bits.state
