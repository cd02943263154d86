"""Differentiable search: gradient steps on the logits of a mixture of all architectures.

    search = DifferentiableSearch(supernet, task, SearchSettings(variant="gdas", steps=300), seed=0)
    fit(search, folder=folder)                  # continues where a killed run stopped
    choice, findings = choose(search, targets)  # an architecture, its costs, and what is to be reported

Variants: `first` and `second` are DARTS as published (weights and logits in turn, each on its part of the
data); `gdas` computes one sampled architecture a step; `modern` leaves the weights as they are and moves the
logits only, over candidates trained or aligned before, under relaxed samples that sharpen with time.

The data is split by content: one part of all sequences is for the weights, one for the logits, by a hash, so
that no sequence serves both.

Targets on expected costs pull the logits (`evaluators.differentiable.lagrangian`). Everything that decides
the course is in the checkpoint, and random choices come from (seed, step).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from evaluators.differentiable.answers import answered
from evaluators.differentiable.collapse import EmptyPlaces, Finding, Reading
from evaluators.differentiable.data_split import DataSplit
from evaluators.differentiable.gradients import Weights, dominant_eigenvalue, first_order, second_order
from evaluators.differentiable.lagrangian import AugmentedLagrangian, Pull
from evaluators.differentiable.readings import Readings
from evaluators.differentiable.sampling import shares_of_step, step_dice
from evaluators.differentiable.settings import SearchSettings
from evaluators.tasks.base import Task
from evaluators.training.losses import LateLosses, Losses
from evaluators.training.recipe import DEFAULT, Recipe
from evaluators.training.regions import token_loss
from evaluators.training.trainable import Trainable, Trajectory
from search_spaces.language.serialization import to_json
from search_spaces.mixture.masked_blocks import Memo
from search_spaces.mixture.mixture import Mixture
from search_spaces.supernet import Supernet

BETAS = (0.5, 0.999)
DECAY = 1e-3
"""Of the logits' Adam, as published for DARTS."""

OWN = ("search/", "logits/")
"""How names begin of what a checkpoint holds beside the weights and their optimizer."""


class DifferentiableSearch(Trainable):
    """Logits over a supernet's space, and the weights that learn with them by the recipe of single networks.

    The supernet's own weights are not touched: all variants but `modern` learn on a copy. `origin` names
    where the weights come from, so that a checkpoint is not taken up with others.

    Raises:
        SpaceError: a gene that cannot be relaxed.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        settings: SearchSettings,
        *,
        seed: int = 0,
        pulls: Sequence[Pull] = (),
        origin: str = "start",
        recipe: Recipe = DEFAULT,
    ) -> None:
        copies = {name: nn.Parameter(weight.detach().clone()) for name, weight in supernet.weights.items()}
        learned: Mapping[str, nn.Parameter] = copies if settings.variant != "modern" else {}
        schedule, rate = recipe.schedule, recipe.rate
        super().__init__(
            learned,
            supernet.learning_rates(recipe.rates_by_kind),
            supernet.roles,
            recipe,
            schedule=schedule,
            rate=rate,
            tokens=settings.batch * task.length,
            steps=settings.steps,
        )
        self.supernet, self.task, self.settings, self.seed = supernet, task, settings, seed
        self.origin = origin
        self.lagrangian = AugmentedLagrangian(pulls, penalty=settings.penalty, dual_rate=settings.dual_rate)
        self.mixture = Mixture(supernet)
        self.genes = self.mixture.genes
        self.empty = EmptyPlaces(self.genes)
        self.data = DataSplit(task, seed, settings.batch)
        self.logits = nn.Parameter(self.mixture.logits().to(supernet.device))
        self.logits_optimizer = torch.optim.Adam(
            [self.logits], lr=settings.rate, betas=BETAS, weight_decay=DECAY
        )
        self.readings = Readings(guard=settings.guard)
        self.memo: Memo = {}
        self.weights: Weights = learned or {n: weight.detach() for n, weight in supernet.weights.items()}

    @property
    def trajectory(self) -> Trajectory:
        """What names this search among all others."""
        about = {
            "space": to_json(self.supernet.space.root),
            "settings": self.settings.to_plain(),
            "pulls": [(pull.target.name, pull.target.value) for pull in self.lagrangian.pulls],
        }
        return Trajectory(
            json.dumps(about),
            self.rates,
            self.task.digest,
            self.seed,
            self.settings.batch,
            self.recipe.of_networks(),
            self.steps,
            self.origin,
        )

    @property
    def shares(self) -> Tensor:
        """The softmax of the logits."""
        return self.genes.shares(self.logits.detach())

    @property
    def stopped(self) -> bool:
        """Whether the guard ended the search."""
        return self.readings.stopped

    @property
    def findings(self) -> list[Finding]:
        """What was alarming in the readings."""
        return self.readings.findings

    @property
    def finished(self) -> bool:
        """At the last step, or where the guard ended the search."""
        return super().finished or self.stopped

    def advance(self) -> Losses | LateLosses:
        """One step of the logits (after the warm-up) and of the weights."""
        losses = super().advance()
        every = self.settings.watch_every
        if every and self.step > self.settings.warm_up and self.step % every == 0:
            assert isinstance(losses, Losses)
            self._watch(losses.shown[0] * self.task.nats)
        return losses

    def gradients(self) -> Losses:
        """A step of the logits, then the gradients of the weights; shown is the loss of the logits."""
        losses: dict[str, float] = {}
        if self.step >= self.settings.warm_up:
            losses["the loss of the mixture in the logits"] = self._step_logits()
        if self.parameters:
            losses["the loss of the mixture"] = self._weight_gradients()
        return Losses((next(iter(losses.values()), math.nan) / self.task.nats,), losses)

    def loss(
        self, shares: Tensor, weights: Weights, batch: tuple[Tensor, Tensor], *, balance: bool = False
    ) -> Tensor:
        """Mean cross-entropy of the mixture in nats, with the blocks' own losses to `balance`."""
        tokens, targets = (part.to(self.logits.device) for part in batch)
        auxiliary: list[Tensor] = []
        memo, shift = None if self.parameters else self.memo, None
        if self.settings.variant == "second" and weights is not self.parameters:
            # a look ahead is a small step, which rounding would swallow or blow up
            shift = {name: weight - self.weights[name].detach() for name, weight in weights.items()}
            weights = {name: weight.detach() for name, weight in self.weights.items()}
        with self.low_precision(self.logits.device):
            logits = self.mixture(tokens, shares, weights=weights, shift=shift, losses=auxiliary, memo=memo)
        loss = token_loss(logits.float(), targets)
        return sum(auxiliary, start=loss) if balance else loss

    def _sampled(self, logits: Tensor, purpose: str) -> Tensor:
        """The shares of this step's mixture."""
        dice = step_dice(self.seed, self.step, purpose)
        return shares_of_step(self.genes, logits, self.settings, step=self.step, dice=dice)

    def _step_logits(self) -> float:
        train, valid = self.data.of_step(self.step)

        def on_train(logits: Tensor, weights: Weights) -> Tensor:
            return self.loss(self._sampled(logits, "logits"), weights, train)

        def on_valid(logits: Tensor, weights: Weights) -> Tensor:
            return self.loss(self._sampled(logits, "logits"), weights, valid)

        if self.settings.variant == "second":
            rate = self.settings.unroll
            slope = second_order(on_train, on_valid, self.logits, self.weights, rate=rate)
        else:
            slope = first_order(on_valid, self.logits, self.weights)
        self.logits.grad = slope.gradient + self.lagrangian.step(self.genes, self.logits)
        self.logits_optimizer.step()
        return slope.loss

    def _weight_gradients(self) -> float:
        train, _ = self.data.of_step(self.step)
        with torch.no_grad():
            shares = self._sampled(self.logits, "weights")
        loss = self.loss(shares, self.parameters, train, balance=True)
        loss.backward()
        return float(loss.detach())

    def _watch(self, loss: float) -> None:
        """Read the curvature and the empty places; go back where the guard ends the search."""
        start = torch.randn(self.logits.shape, generator=step_dice(self.seed, 0, "curvature"))
        start = start.to(self.logits.device)
        value, _ = dominant_eigenvalue(self.slope, self.logits.detach(), start, rounds=6)
        likeliest = answered(self.genes, {}, self.shares)
        reading = Reading(self.step, loss, value, self.empty.of(likeliest), self.logits.detach().clone())
        healthy = self.readings.add(reading)
        if healthy is not None:
            with torch.no_grad():
                self.logits.copy_(healthy.logits)

    def slope(self, logits: Tensor) -> Tensor:
        """The gradient of the validation loss in the logits, of the mixture without sampling."""
        total = torch.zeros_like(logits)
        for batch in self.data.validation(self.settings.watch_batches):

            def valid(at: Tensor, weights: Weights, batch: tuple[Tensor, Tensor] = batch) -> Tensor:
                return self.loss(self.genes.shares(at), weights, batch)

            total += first_order(valid, logits, self.weights).gradient / self.settings.watch_batches
        return total

    @torch.no_grad()
    def validation_loss(self, shares: Tensor) -> float:
        """The loss of a mixture on some batches that only the logits have seen, in nats."""
        batches = self.data.validation(self.settings.watch_batches)
        losses = [float(self.loss(shares, self.weights, batch)) for batch in batches]
        return sum(losses) / len(losses)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, logits, their optimizers, multipliers and readings, by flat names."""
        flat = super().tensors() if self.parameters else {}
        flat["search/logits"] = self.logits.detach()
        flat["search/multipliers"] = self.lagrangian.multipliers
        for key, value in self.logits_optimizer.state[self.logits].items():
            flat[f"logits/{key}"] = value
        flat["search/readings"] = self.readings.packed(len(self.logits))
        return flat

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these tensors are of this search."""
        logits = tensors.get("search/logits")
        shared = {name: t for name, t in tensors.items() if not name.startswith(OWN)}
        return logits is not None and logits.shape == self.logits.shape and super().fits(shared)

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from what `tensors` returned after `step` steps; findings follow from the readings."""
        mine = {name: t for name, t in tensors.items() if name.startswith(OWN)}
        super().restore({name: t for name, t in tensors.items() if name not in mine}, step)
        with torch.no_grad():
            self.logits.copy_(mine["search/logits"])
        self.lagrangian.multipliers = mine["search/multipliers"].clone()
        self.logits_optimizer.state[self.logits] = {
            name.removeprefix("logits/"): tensor.clone()
            for name, tensor in mine.items()
            if name.startswith("logits/")
        }
        rows = mine["search/readings"]
        self.readings = Readings.unpacked(rows, self.logits, guard=self.settings.guard)
