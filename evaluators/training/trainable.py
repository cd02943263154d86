"""What `fit` trains: parameters by name with their optimizer, which learn step by step and can be stopped."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.training.losses import LateLosses, Losses
from evaluators.training.pace import Pace
from evaluators.training.precision import autocast, computing_in
from evaluators.training.recipe import Recipe
from evaluators.training.schedules.base import Schedule
from foundation.errors import SettingError
from search_spaces.network.scaling import Role


@dataclass(frozen=True)
class Trajectory:
    """Everything that decides how a training goes: two trainings of equal trajectories have equal weights.

    `spec` is the JSON of what is trained, `recipe` the settings that decide its weights. `steps` is the end
    of the training where its course depends on that. `origin` is the digest of the weights it began with,
    where those were given.
    """

    spec: str
    rates: Mapping[str, float]
    task: str
    seed: int
    batch: int
    recipe: Mapping[str, Any]
    steps: int | None = None
    origin: str = ""

    @property
    def digest(self) -> str:
        """16 hex digits."""
        return digest_of(asdict(self))


def digest_of(trajectory: Mapping[str, Any]) -> str:
    """16 hex digits of a trajectory as plain values."""
    return hashlib.sha256(json.dumps(trajectory, sort_keys=True).encode()).hexdigest()[:16]


class Trainable(ABC):
    """Parameters by name, their optimizer, and the number of steps done, of `steps` in all.

    A kind of training defines its gradients (`gradients`) and what names it (`trajectory`); steps,
    checkpoints and reports are the same for all (`evaluators.training.fit`). Learning rates are `rates`,
    times `rate`, times the recipe's laws for the `tokens` that a network reads in a step and for the horizon,
    times the share of the `schedule`.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        rates: Mapping[str, float],
        roles: Mapping[str, Role],
        recipe: Recipe,
        *,
        schedule: Schedule,
        rate: float,
        tokens: int,
        steps: int,
    ) -> None:
        device = next((str(weight.device) for weight in parameters.values()), "cpu")
        self.parameters, self.rates, self.recipe = parameters, rates, recipe.on(device)
        self.schedule, self.steps = schedule, steps
        self.rate = rate * recipe.scale(tokens, steps if schedule.has_horizon else None)
        self.optimizer = recipe.optimizer.make(parameters, rates, roles)
        self.step, self.origin = 0, ""

    @property
    @abstractmethod
    def trajectory(self) -> Trajectory:
        """What names this training among all others."""

    @property
    def shared_steps(self) -> int:
        """The first steps, which do not depend on where the training ends: longer ones go on from them."""
        return 0

    def trajectory_at(self, step: int) -> Trajectory:
        """What names the weights after a step: in the steps that are shared, without the end."""
        whole = self.trajectory
        return replace(whole, steps=None) if 0 < step <= self.shared_steps else whole

    @abstractmethod
    def gradients(self) -> Losses | LateLosses:
        """Put the gradients of the next step into the parameters; its losses, which may come late."""

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is, beside the step, for readers of a checkpoint; the training does not use it."""
        return {}

    @property
    def pace(self) -> Pace:
        """What its steps do, to be timed; empty where that is not known."""
        return Pace()

    @property
    def finished(self) -> bool:
        """Whether there is no further step."""
        return self.step >= self.steps

    def learn(self) -> tuple[float, ...]:
        """One step; the losses to report, in the task's unit.

        Raises:
            EvaluationFailed: a loss is not finite; see `advance`.
        """
        losses = self.advance()
        if isinstance(losses, LateLosses):
            losses = losses.read()
            losses.require_finite(self.step)
        return losses.shown

    def advance(self) -> Losses | LateLosses:
        """One step; its losses, which a GPU may still be computing: nothing here waits for it.

        Whoever reads them late must do so before the weights are used or saved, because a loss that is not
        finite spoils them.

        Raises:
            EvaluationFailed: a loss that is there is not finite; the weights stay as they were before the
                step.
        """
        share = self.schedule.share(self.step + 1, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["peak"] * share
        self.zero_gradients()
        with computing_in(self.recipe.precision):
            losses = self.gradients()
        if isinstance(losses, LateLosses) and losses.there:
            losses = losses.read()
        if isinstance(losses, Losses):
            losses.require_finite(self.step + 1)
        if self.recipe.clip is not None:
            for weights in self.clipped_together():
                nn.utils.clip_grad_norm_(weights, self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        return losses

    def zero_gradients(self) -> None:
        """Forget the gradients of the step before."""
        self.optimizer.zero_grad()

    def clipped_together(self) -> Iterable[Iterable[nn.Parameter]]:
        """The parameters whose gradients have one norm: all."""
        return [self.parameters.values()]

    def low_precision(self, device: torch.device | str) -> AbstractContextManager[Any]:
        """The context of a forward pass in the recipe's precision."""
        return autocast(self.recipe.precision, device)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with these values in the place of the initial ones; they become part of the trajectory.

        Raises:
            SettingError: names or shapes are not those of what is trained, or steps have been done already.
        """
        if self.step:
            raise SettingError(f"a training that has done {self.step} steps cannot begin from other weights")
        if missing := sorted(self.parameters.keys() ^ weights.keys()):
            raise SettingError(
                f"weights to start from must be those of the network: {missing[0]} is not in both"
            )
        for name, weight in self.parameters.items():
            if weight.shape != weights[name].shape:
                shapes = f"{tuple(weights[name].shape)}, not {tuple(weight.shape)}"
                raise SettingError(f"weights to start from: {name} has shape {shapes}")
        for name, weight in self.parameters.items():
            weight.data.copy_(weights[name])
        self.origin = weights_digest(weights)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer state by flat names; they are not copies."""
        flat = {f"weight/{name}": weight.detach() for name, weight in self.parameters.items()}
        for name, weight in self.parameters.items():
            for key, value in self.optimizer.state[weight].items():
                flat[f"{key}/{name}"] = value
        return flat

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these tensors are the weights of what is trained here, and states of their optimizer."""
        weights = {f"weight/{name}": (w.shape, w.dtype) for name, w in self.parameters.items()}
        found = {name: (t.shape, t.dtype) for name, t in tensors.items() if name.startswith("weight/")}
        return found == weights and all(name.partition("/")[2] in self.parameters for name in tensors)

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from what `tensors` returned after `step` steps."""
        self.step = step
        self.optimizer.state.clear()
        for flat, tensor in tensors.items():
            key, _, name = flat.partition("/")
            weight = self.parameters[name]
            if key == "weight":
                weight.data.copy_(tensor)
            else:
                self.optimizer.state[weight][key] = tensor.to(weight.device, copy=True)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """16 hex digits of all weights by name."""
    whole = hashlib.sha256()
    for name, weight in weights.items():
        whole.update(name.encode())
        whole.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]
