"""Differentiable search: gradient steps on the logits of a mixture of all architectures.

    search = DifferentiableSearch(supernet, task, Settings(variant="gdas", steps=300), seed=0)
    search.run(folder)                          # goes on where a killed run stopped
    found = search.choose(targets)              # an architecture, its costs, and findings to be told

Variants: `first` and `second` are DARTS as published (weights and logits in turn, each on its half of the
data); `gdas` computes one sampled architecture a step; `modern` leaves the weights as they are and moves the
logits only, over candidates trained or aligned before, under relaxed samples that sharpen with time.

The data is split by content: half of all sequences are for the weights, half for the logits, told apart by a
hash, so that no sequence serves both.

A target on an expected cost enters as an augmented Lagrangian (Hestenes 1969; Bertsekas 1982): with
g = E[cost] / target - 1 the loss gets  lambda g + mu g^2 / 2,  and lambda grows by `dual_rate` mu g a step.
Time that a target leaves unused is pulled in as well: a target is where the network shall be, not a bound.

Everything that decides the course is in the checkpoint (safetensors, with JSON in its header), and chance
comes from (seed, step).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from evaluators.differentiable.collapse import EmptyPlaces, Finding, Reading, alarm, degenerate
from evaluators.differentiable.data_split import Halves
from evaluators.differentiable.discretization import Choice, Target, answered, by_perturbation, repaired
from evaluators.differentiable.expected_cost import ExpectedCost
from evaluators.differentiable.gradients import (
    Weights,
    dominant_eigenvalue,
    first_order,
    second_order,
)
from evaluators.differentiable.sampling import hard_shares, relaxed_shares, step_dice, temperature_at
from evaluators.tasks.base import Task
from evaluators.training import checkpoints
from evaluators.training.resumable import Resumable, Trajectory
from evaluators.training.training import CLIP, adamw, set_rates, token_loss
from foundation.errors import EvaluationFailed, SettingError
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import Genes
from search_spaces.mixture.masked_blocks import Memo
from search_spaces.mixture.mixture import Mixture
from search_spaces.supernet import Supernet

Variant = Literal["first", "second", "gdas", "modern"]
VARIANTS = ("first", "second", "gdas", "modern")

BETAS = (0.5, 0.999)
DECAY = 1e-3
"""Of the logits' Adam, as published for DARTS."""

DECIDED = 0.9
"""The share of an option that was decided; the rest is left for repairs."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a search runs.

    For the first `warm_up` of its `steps` only the weights learn. `rate` is that of the logits; `unroll` that
    of the plain gradient step that `second` looks ahead. Samples go from temperature `hot` to `cold`.
    Every `watch_every` steps (0: never) the curvature and the empty places are read; with `guard` a search
    that goes wrong stops and goes back, without it the search goes on and the outcome says what was seen.
    """

    variant: Variant = "modern"
    steps: int = 200
    batch: int = 16
    warm_up: int = 0
    rate: float = 0.03
    unroll: float = 0.025
    hot: float = 5.0
    cold: float = 0.2
    watch_every: int = 20
    watch_batches: int = 2
    guard: bool = True
    penalty: float = 100.0
    dual_rate: float = 0.005

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise SettingError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        for name in ("steps", "batch", "watch_batches"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warm_up < self.steps:
            raise SettingError(f"warm_up must be below the {self.steps} steps, got {self.warm_up}")
        for name in ("rate", "unroll", "hot", "cold", "penalty", "dual_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class Pull:
    """An expected cost that shall come to a value."""

    target: Target
    expected: ExpectedCost


class DifferentiableSearch(Resumable):
    """Logits over a supernet's space, the weights they learn with, and the number of steps done.

    The supernet's own weights are not touched: all variants but `modern` learn on a copy. `origin` names
    where the weights come from, so that a checkpoint is not taken up with others.

    Raises:
        SpaceError: a gene that cannot be relaxed.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        settings: Settings,
        *,
        seed: int = 0,
        pulls: Sequence[Pull] = (),
        origin: str = "start",
    ) -> None:
        self.supernet, self.task, self.settings, self.seed = supernet, task, settings, seed
        self.pulls, self.origin = tuple(pulls), origin
        self.mixture = Mixture(supernet)
        self.genes = self.mixture.genes
        self.empty = EmptyPlaces(self.genes)
        self.halves = Halves(task, seed, settings.batch)
        self.logits = nn.Parameter(self.mixture.logits().to(supernet.device))
        self.chooser = torch.optim.Adam([self.logits], lr=settings.rate, betas=BETAS, weight_decay=DECAY)
        self.multipliers = torch.zeros(len(self.pulls), dtype=torch.float64)
        self.readings: list[Reading] = []
        self.findings: list[Finding] = []
        self.memo: Memo = {}
        learns = settings.variant != "modern"
        copies = {name: nn.Parameter(weight.detach().clone()) for name, weight in supernet.weights.items()}
        self.parameters: Mapping[str, nn.Parameter] = copies if learns else {}
        self.optimizer: torch.optim.Optimizer = (
            adamw(copies, supernet.rates) if learns else torch.optim.SGD([self.logits], lr=0.0)
        )
        self.weights: Weights = (
            copies if learns else {name: weight.detach() for name, weight in supernet.weights.items()}
        )

    @property
    def trajectory(self) -> Trajectory:
        """What names this search among all others."""
        about = {
            "space": to_json(self.supernet.space.root),
            "settings": asdict(self.settings),
            "origin": self.origin,
            "pulls": [(pull.target.name, pull.target.value) for pull in self.pulls],
        }
        batch = self.settings.batch
        return Trajectory(json.dumps(about), self.supernet.rates, self.task.digest, self.seed, batch, ())

    @property
    def shares(self) -> Tensor:
        """The softmax of the logits."""
        return self.genes.shares(self.logits.detach())

    def run(self, folder: Path | None = None, on_step: Callable[[int, float], None] | None = None) -> None:
        """Search to the end, or go on from the folder's checkpoint; `on_step` hears steps and losses.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        if folder is not None:
            checkpoints.resume(self, folder, self.settings.steps)
        every = max(1, self.settings.watch_every or self.settings.steps // 10)
        while self.step < self.settings.steps and not self.stopped:
            loss = self.advance()
            if on_step is not None:
                on_step(self.step, loss)
            done = self.step == self.settings.steps or self.stopped
            if folder is not None and (done or self.step % every == 0):
                checkpoints.save(self, folder)

    @property
    def stopped(self) -> bool:
        """Whether the guard ended the search."""
        return self.settings.guard and any(f.kind in ("curvature", "parameter-free") for f in self.findings)

    def advance(self) -> float:
        """One step of the logits (after the warm-up) and of the weights: the loss in nats."""
        loss = math.nan
        if self.step >= self.settings.warm_up:
            loss = self._step_logits()
        if self.parameters:
            learned = self._step_weights()
            loss = learned if math.isnan(loss) else loss
        if not math.isfinite(loss):
            raise EvaluationFailed(f"the loss of the mixture is {loss} at step {self.step + 1}")
        self.step += 1
        every = self.settings.watch_every
        if every and self.step > self.settings.warm_up and self.step % every == 0:
            self._watch(loss)
        return loss

    def loss(
        self, shares: Tensor, weights: Weights, batch: tuple[Tensor, Tensor], *, balance: bool = False
    ) -> Tensor:
        """Mean cross-entropy of the mixture in nats, with the blocks' own losses to `balance`."""
        tokens, targets = (part.to(self.logits.device) for part in batch)
        losses: list[Tensor] = []
        memo, shift = None if self.parameters else self.memo, None
        if self.settings.variant == "second" and weights is not self.parameters:
            # a look ahead is a small step, which rounding would swallow or blow up
            shift = {name: weight - self.weights[name].detach() for name, weight in weights.items()}
            weights = {name: weight.detach() for name, weight in self.weights.items()}
        read = self.mixture(tokens, shares, weights=weights, shift=shift, losses=losses, memo=memo)
        found = token_loss(read, targets)
        return sum(losses, start=found) if balance else found

    def _sampled(self, logits: Tensor, purpose: str) -> Tensor:
        """The shares of this step's mixture."""
        settings = self.settings
        if settings.variant in ("first", "second"):
            return self.genes.shares(logits)
        dice = step_dice(self.seed, self.step, purpose)
        after, of = self.step - settings.warm_up, settings.steps - settings.warm_up
        temperature = temperature_at(max(0, after), of, settings.hot, settings.cold)
        sample = hard_shares if settings.variant == "gdas" else relaxed_shares
        return sample(self.genes, logits, temperature, dice)

    def _step_logits(self) -> float:
        train, valid = self.halves.of_step(self.step)

        def on_train(logits: Tensor, weights: Weights) -> Tensor:
            return self.loss(self._sampled(logits, "logits"), weights, train)

        def on_valid(logits: Tensor, weights: Weights) -> Tensor:
            return self.loss(self._sampled(logits, "logits"), weights, valid)

        if self.settings.variant == "second":
            rate = self.settings.unroll
            slope = second_order(on_train, on_valid, self.logits, self.weights, rate=rate)
        else:
            slope = first_order(on_valid, self.logits, self.weights)
        self.logits.grad = slope.gradient + self._pulled()
        self.chooser.step()
        return slope.loss

    def _pulled(self) -> Tensor:
        """The gradient of all targets in the logits; multipliers grow by what was missed."""
        if not self.pulls:
            return torch.zeros_like(self.logits)
        leaf, penalty = self.logits.detach().requires_grad_(), self.settings.penalty
        shares = self.genes.shares(leaf)
        gaps = torch.stack([pull.expected(shares) / pull.target.value - 1 for pull in self.pulls])
        whole = (self.multipliers.to(gaps.device) * gaps + penalty / 2 * gaps.square()).sum()
        (gradient,) = torch.autograd.grad(whole, leaf)
        self.multipliers += self.settings.dual_rate * penalty * gaps.detach().cpu()
        return gradient

    def _step_weights(self) -> float:
        train, _ = self.halves.of_step(self.step)
        set_rates(self.optimizer, self.step + 1)
        self.optimizer.zero_grad()
        with torch.no_grad():
            shares = self._sampled(self.logits, "weights")
        loss = self.loss(shares, self.parameters, train, balance=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), CLIP)
        self.optimizer.step()
        return float(loss.detach())

    def _watch(self, loss: float) -> None:
        """Read the curvature and the empty places; note what is wrong, and go back where asked to."""
        start = torch.randn(self.logits.shape, generator=step_dice(self.seed, 0, "curvature"))
        start = start.to(self.logits.device)
        value, _ = dominant_eigenvalue(self.slope, self.logits.detach(), start, rounds=6)
        likeliest = answered(self.genes, {}, self.shares)
        empty = self.empty.of(likeliest)
        self.readings.append(Reading(self.step, loss, value, empty, self.logits.detach().clone()))
        back = self._note()
        if back is not None and self.settings.guard:
            with torch.no_grad():
                self.logits.copy_(self.readings[back].logits)

    def _note(self) -> int | None:
        """Keep what the last reading is alarming for; the reading to go back to."""
        wrong = alarm(self.readings)
        if wrong is None or any(finding.kind == wrong[0].kind for finding in self.findings):
            return None
        finding, back = wrong
        if not self.settings.guard:
            text = finding.text.replace("the search stopped at", "a guard would have stopped it at")
            finding = replace(finding, text=text.replace("and went back", "and gone back"))
        self.findings.append(finding)
        return back

    def slope(self, logits: Tensor) -> Tensor:
        """The gradient of the validation loss in the logits, of the mixture without chance."""
        found = torch.zeros_like(logits)
        for batch in self.halves.fixed(self.settings.watch_batches):

            def valid(at: Tensor, weights: Weights, batch: tuple[Tensor, Tensor] = batch) -> Tensor:
                return self.loss(self.genes.shares(at), weights, batch)

            found += first_order(valid, logits, self.weights).gradient / self.settings.watch_batches
        return found

    @torch.no_grad()
    def validation_loss(self, shares: Tensor) -> float:
        """The loss of a mixture on some batches that only the logits have seen, in nats."""
        batches = self.halves.fixed(self.settings.watch_batches)
        losses = [float(self.loss(shares, self.weights, batch)) for batch in batches]
        return sum(losses) / len(losses)

    def choose(
        self,
        targets: Sequence[Target] = (),
        *,
        how: Literal["magnitude", "perturbation"] = "magnitude",
        space: Space | None = None,
        settle: Callable[[Genotype], Genotype] | None = None,
    ) -> tuple[Choice, tuple[Finding, ...]]:
        """One architecture, and everything that must be said of it.

        `space` is the same tree with more constraints; `settle` answers anew what the mixture does not see.
        What was decided by perturbation or by `settle` is changed only where a target needs it.

        Raises:
            SpaceError: no allowed architecture was found.
        """
        genes, shares = self.genes if space is None else Genes(space), self.shares.cpu()
        if how == "perturbation":
            first = by_perturbation(self.genes, self.logits, self.validation_loss, seed=self.seed)
            shares = self._tilted(shares, first)
        if settle is not None and self.mixture.unseen:
            settled = settle(repaired(genes, shares, targets, seed=self.seed).genotype).genes
            shares = self._tilted(shares, {p: settled[p] for p in self.mixture.unseen if p in settled})
        choice = repaired(genes, shares, targets, seed=self.seed)
        findings = [*self.findings, *self._additivity()]
        if choice.excess > 0:
            missed = ", ".join(f"{t.name} {choice.costs[t.name]:.4g} for {t.value:.4g}" for t in targets)
            text = f"no likely architecture meets every target; the nearest has {missed}"
            findings.append(Finding("target missed", self.step, text, {"excess": choice.excess}))
        bad = degenerate(self.empty.of(choice.genotype), self.step)
        return choice, (*findings, bad) if bad else tuple(findings)

    def _tilted(self, shares: Tensor, decided: Mapping[str, Label]) -> Tensor:
        """Shares that leave a tenth for all options but the decided ones."""
        shares = shares.clone()
        for path, label in decided.items():
            gene = self.genes.gene(path)
            shares[self.genes.slice(gene)] *= 1 - DECIDED
            shares[self.genes.start[path] + self.genes.index(gene, label)] += DECIDED
        return shares

    def _additivity(self) -> list[Finding]:
        return [
            Finding(
                "not additive",
                self.step,
                f"{pull.target.name} does not add up over layers: its expectation is off by up to"
                f" {pull.expected.deviation:.2%}, and was repaired by the true values",
                {"deviation": pull.expected.deviation},
            )
            for pull in self.pulls
            if not pull.expected.exact
        ]

    def tensors(self) -> dict[str, Tensor]:
        """Weights, logits, their optimizers, multipliers and readings, by flat names."""
        flat = super().tensors() if self.parameters else {}
        flat["search/logits"] = self.logits.detach()
        flat["search/multipliers"] = self.multipliers
        for key, value in self.chooser.state[self.logits].items():
            flat[f"chooser/{key}"] = value
        rows = [[r.step, r.loss, r.eigenvalue, r.empty, *r.logits.tolist()] for r in self.readings]
        width = 4 + len(self.logits)
        flat["search/readings"] = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width)
        return flat

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these tensors are of this search."""
        logits = tensors.get("search/logits")
        return logits is not None and logits.shape == self.logits.shape and super().fits(tensors)

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on from what `tensors` said after `step` steps; findings follow from the readings."""
        mine = {name: t for name, t in tensors.items() if name.startswith(("search/", "chooser/"))}
        super().restore({name: t for name, t in tensors.items() if name not in mine}, step)
        with torch.no_grad():
            self.logits.copy_(mine["search/logits"])
        self.multipliers = mine["search/multipliers"].clone()
        self.chooser.state[self.logits] = {
            name.removeprefix("chooser/"): tensor.clone()
            for name, tensor in mine.items()
            if name.startswith("chooser/")
        }
        self.readings, self.findings = [], []
        for row in mine["search/readings"]:
            at, loss, value, empty = row[:4].tolist()
            self.readings.append(Reading(int(at), loss, value, empty, row[4:].to(self.logits)))
            self._note()
