"""Proxy training: one recipe for every candidate, without a horizon, so that any training can be continued.

AdamW (betas 0.9 and 0.95, decay 0.1 on matrices), gradients clipped at norm 1, a warm-up of 20 steps, then
the peak rate times min(1, sqrt(100 / step)). The peak is the block's own: no one rate is fair to all kinds.
In the forward pass weights are rounded to their layers' bits; gradients go straight through to the full ones.

    training = Training(build(spec, seed=0), task, seed=0)
    training.advance(100)
    losses = window_losses(rounded_model(training.model), task, segment=state_segment(spec))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.tasks.base import IGNORED, Task
from evaluators.training.resumable import Resumable, Trajectory
from foundation.errors import EvaluationFailed
from search_spaces.language.serialization import to_json
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import WeightFormat, is_matrix
from search_spaces.quantization.rounding import round_all
from search_spaces.supernet import Weights

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
CLIP = 1.0
WARM_UP = 20
FULL_RATE = 100
RECIPE = (*BETAS, WEIGHT_DECAY, CLIP, WARM_UP, FULL_RATE)
SEGMENT = 32
"""Tokens between two roundings of the decode state, when a model with a quantized state is scored."""

SCORED_AT_ONCE = 32


class Call(Protocol):
    """A model, or a subnet of a supernet."""

    def __call__(self, tokens: Tensor, *, segment: int | None = None) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""


class Training(Resumable):
    """A model, its optimizer, and the number of steps done. `model` keeps the full, unrounded weights."""

    def __init__(self, model: Model, task: Task, *, seed: int, batch: int = 16) -> None:
        self.model, self.task, self.seed, self.batch = model, task, seed, batch
        self.parameters = dict(model.named_parameters())
        self.optimizer = adamw(self.parameters, model.learning_rates())
        self._bits = weight_bits(model)

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others."""
        model = self.model
        return Trajectory(
            to_json(model.spec), model.learning_rates(), self.task.digest, self.seed, self.batch, RECIPE
        )

    def advance(self, steps: int, on_step: Callable[[int, float], None] | None = None) -> None:
        """Train until `steps` steps have been done in all.

        `on_step` hears the number of each step, from 1, and its loss in the task's unit.

        Raises:
            EvaluationFailed: the loss is not finite.
        """
        while self.step < steps:
            loss = self._learn()
            if on_step is not None:
                on_step(self.step, loss)

    def _learn(self) -> float:
        """One step; returns its loss."""
        device = self.model.embedding.device
        batch = self.task.train_batch(self.step, self.seed, self.batch)
        tokens, targets = (part.to(device) for part in batch)
        set_rates(self.optimizer, self.step + 1)
        self.optimizer.zero_grad()
        losses: list[Tensor] = []
        weights = rounded(self.parameters, self._bits)
        logits = functional_call(self.model, weights, (tokens, losses), tie_weights=False)
        loss = token_loss(logits, targets)
        whole = sum(losses, start=loss)
        if not math.isfinite(whole.item()):
            raise EvaluationFailed(f"the training loss is {whole.item()} at step {self.step + 1}")
        whole.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), CLIP)
        self.optimizer.step()
        self.step += 1
        return loss.item() / self.task.nats


def adamw(parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float]) -> torch.optim.AdamW:
    """The optimizer of the recipe; `rates` are the peak rates by name, which `set_rates` scales."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in parameters.items():
        decay = WEIGHT_DECAY if is_matrix(tuple(weight.shape)) else 0.0
        groups.setdefault((rates[name], decay), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": weights, "peak": peak, "lr": peak, "weight_decay": decay}
            for (peak, decay), weights in groups.items()
        ],
        betas=BETAS,
        fused=True,  # on a CPU a third of the time of foreach
    )


def set_rates(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Scale the peak rates for `step`, counted from 1."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate_factor(step)


def rate_factor(step: int) -> float:
    """The share of the peak rate at `step`, counted from 1; knows nothing of where the training ends."""
    return min(1.0, step / WARM_UP, math.sqrt(FULL_RATE / step))


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of logits [B, T, V] over the targets [B, T] that are judged."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def rounded(weights: Mapping[str, Tensor], bits: Mapping[str, WeightFormat | None]) -> Weights:
    """Weights at the bits of their layers, gradients passing straight through; see `weight_bits`."""
    return round_all(weights, bits)


@torch.no_grad()
def rounded_model(model: Model) -> Model:
    """A copy that computes with the weights as they are exported."""
    with torch.device("meta"):
        copy = Model(model.spec)
    copy.to_empty(device=model.embedding.device)
    copy.load_state_dict(rounded(dict(model.named_parameters()), weight_bits(model)))
    return copy


def figures(training: Training) -> dict[str, float]:
    """What the layers of a trained network report, by path and name; empty where they report nothing.

    The load of experts, the share of tokens that are dropped and that pass a router, as the next step of the
    training would see them, and the share that leaves at an exit, on as many validation windows. They depend
    on the weights alone, so a training that was stopped on its way reports the same.
    """
    model, task = training.model, training.task
    device = model.embedding.device
    weights = rounded(training.parameters, weight_bits(model))
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        tokens = task.validation()[0][: training.batch].to(device)
        functional_call(model, weights, (tokens,), {"metrics": found}, tie_weights=False)
    if found:
        tokens = task.train_batch(training.step, training.seed, training.batch)[0].to(device)
        functional_call(model, weights, (tokens,), {"metrics": found}, tie_weights=False)
    return {name: float(value) for name, value in found.items()}


def state_segment(spec: Decoder) -> int | None:
    """The `segment` to score at: pieces where some layer keeps its decode state below 16 bits."""
    return SEGMENT if any(layer.bits.state < 16 for layer in spec.layers) else None


@torch.no_grad()
def window_losses(
    call: Call, task: Task, *, segment: int | None = None, device: str | torch.device = "cpu"
) -> Tensor:
    """What the task makes of each validation window [W] (its mean loss, as a rule), on the CPU."""
    tokens, targets = task.validation()
    found = []
    pairs = zip(tokens.split(SCORED_AT_ONCE), targets.split(SCORED_AT_ONCE), strict=True)
    for some_tokens, some_targets in pairs:
        logits = call(some_tokens.to(device), segment=segment)
        found.append(task.judge(logits, some_targets.to(device)).cpu())
    return torch.cat(found)
