"""Lottery tickets: a network is trained, its smallest weights go, and those that stay begin once more.

    m_0 = 1;   W_r = what W_k m_r becomes from step k to the end;   m_{r+1} keeps the largest |W_r m_r|

with W_k the weights after the first k steps, which all rounds rewind to (Frankle & Carbin 2019,
arXiv:1803.03635, section 2, with k = 0; Frankle et al. 2020, arXiv:1912.05671, section 3). Of the weights
that may go, (1 - s)^(r/n) stay after round r of n, so that the share s is zero at the end. A round begins
with a new optimizer, at step k of the schedule and of the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluators.training.fit import fit
from evaluators.training.losses import LateLosses, Losses
from evaluators.training.network_training import NetworkTraining
from evaluators.training.trainable import Trajectory, weights_digest
from search_spaces.network.model import Model

Masks = dict[str, Tensor]
"""By parameter, true for what stays."""


def kept_after(round: int, rounds: int, sparsity: float) -> float:
    """The share of weights that is left after a round."""
    return float((1 - sparsity) ** (round / rounds))


@torch.no_grad()
def largest(weights: Mapping[str, Tensor], masks: Masks, share: float, *, together: bool) -> Masks:
    """Masks that keep this share of all weights: the largest that the masks before have kept.

    `together` compares those of all parameters, else each has its own share. Of equal ones the first go.
    """
    groups = [list(weights)] if together else [[name] for name in weights]
    found: Masks = {}
    for names in groups:
        flat = torch.cat([weights[name].abs().masked_fill(~masks[name], -1.0).flatten() for name in names])
        gone = flat.argsort(stable=True)[: len(flat) - round(share * len(flat))]
        kept = torch.ones_like(flat, dtype=torch.bool).index_fill(0, gone, False)
        parts = kept.split([weights[name].numel() for name in names])
        found |= {name: part.view(weights[name].shape) for name, part in zip(names, parts, strict=True)}
    return found


class MaskedTraining(NetworkTraining):
    """The training of a network in which some weights stay zero."""

    def __init__(self, model: Model, masks: Masks, *args: Any, **settings: Any) -> None:
        super().__init__(model, *args, **settings)
        self.masks = masks
        self._zero()

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others: also what stays zero."""
        whole, masks = super().trajectory, hashlib.sha256()
        for name in sorted(self.masks):
            masks.update(self.masks[name].cpu().numpy().tobytes())
        return replace(whole, recipe={**whole.recipe, "masks": masks.hexdigest()[:16]}, steps=self.steps)

    @property
    def shared_steps(self) -> int:
        """None: rounds of other lengths prune other weights."""
        return 0

    def gradients(self) -> LateLosses:
        """Of the next batch, none for what stays zero."""
        losses = super().gradients()
        for name, kept in self.masks.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                gradient.mul_(kept)
        return losses

    def advance(self) -> Losses | LateLosses:
        """One step, after which zeros are zeros, whatever the optimizer did."""
        losses = super().advance()
        self._zero()
        return losses

    @torch.no_grad()
    def _zero(self) -> None:
        for name, kept in self.masks.items():
            self.parameters[name].mul_(kept)


@dataclass(frozen=True)
class Lottery:
    """Rounds of training and pruning: how many, how much is zero at the end, and where all begin.

    `course` are the arguments of each training, its task and steps among them. `on_step` is told how many
    steps of all trainings are done, those of an earlier run among them, and the loss.
    """

    rounds: int
    sparsity: float
    rewind: int
    together: bool
    course: Mapping[str, Any]
    on_step: Callable[[int, float], None] = field(default=lambda done, loss: None)

    @property
    def steps(self) -> int:
        """Those of all trainings together: a round begins at the step that it rewinds to."""
        return self.rounds * self._each + int(self.course["steps"])

    @property
    def _each(self) -> int:
        return int(self.course["steps"]) - self.rewind

    def draw(self, model: Model, names: Sequence[str], folder: Path | None = None) -> list[float]:
        """Leave the ticket in the model, trained; the last training loss of each round, the dense one first.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        weights = dict(model.named_parameters())
        masks: Masks = {name: torch.ones_like(weights[name], dtype=torch.bool) for name in names}
        training = self._training(model, masks)
        training.origin = weights_digest(weights)
        fit(training, folder=_inside(folder, "first-steps"), until=self.rewind, on_step=self.on_step)
        first = {name: weight.detach().clone() for name, weight in weights.items()}
        losses = [self._trained(training, folder, 0)]
        for number in range(1, self.rounds + 1):
            share = kept_after(number, self.rounds, self.sparsity)
            masks = largest({name: weights[name] for name in names}, masks, share, together=self.together)
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(first[name])
            training = self._training(model, masks)
            training.step, training.origin = self.rewind, weights_digest(weights)
            losses.append(self._trained(training, folder, number))
        return losses

    def _training(self, model: Model, masks: Masks) -> MaskedTraining:
        return MaskedTraining(model, masks, **self.course)

    def _trained(self, training: MaskedTraining, folder: Path | None, number: int) -> float:
        own, before = _inside(folder, f"round-{number}"), number * self._each

        def on_step(step: int, loss: float) -> None:
            self.on_step(before + step, loss)

        curve = fit(training, folder=own, on_step=on_step, curve_file=_inside(own, "curve.json"))
        return curve.loss[-1][1] if curve.loss else float("nan")


def _inside(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name
