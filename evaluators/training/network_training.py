"""Training one network: the text it reads, the rounding of its weights, and what its layers report.

In the forward pass weights are rounded to their layers' bits; gradients pass straight through to the full
ones. The default schedule has no horizon, so any training can be continued; learning rates are the blocks'
own, since no one rate is fair to all kinds.

    training = NetworkTraining(build(spec, seed=0), task, steps=100, seed=0)
    fit(training)
    losses = window_losses(rounded_model(training.model), task, segment=state_segment(spec))
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from evaluators.tasks.base import Task
from evaluators.training.cuda_graph import RepeatedPass
from evaluators.training.execution import Execution
from evaluators.training.losses import LateLosses
from evaluators.training.pace import Pace
from evaluators.training.recipe import DEFAULT, Recipe
from evaluators.training.regions import Regions
from evaluators.training.trainable import Trainable, Trajectory
from search_spaces.devices import on_cuda, peak_of
from search_spaces.language.serialization import to_json
from search_spaces.network.layer import Parts
from search_spaces.network.model import Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.rounding import round_all
from search_spaces.scenario import Scenario

COMPILE_SHARE = 0.02
"""Seconds of compiling for each step of a training, unless its `execution` says otherwise.

It would not pay in a short one, which is a CUDA graph all the same.
"""

SHORT = 16
"""Steps of a training that is too short to be recorded as a CUDA graph."""


class NetworkTraining(Trainable):
    """The training of one model, which keeps the full, unrounded weights.

    Without an `execution` it is what suits the device of the model, and the number of steps.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        *,
        steps: int,
        seed: int,
        batch: int = 16,
        recipe: Recipe = DEFAULT,
        execution: Execution | None = None,
    ) -> None:
        self.model, self.task, self.seed, self.batch = model, task, seed, batch
        device = str(model.embedding.device)
        if execution is None:
            seconds = COMPILE_SHARE * steps
            usual = Execution.for_device(device)
            execution = replace(usual, compile_seconds=min(usual.compile_seconds, seconds))
        self.execution = execution
        super().__init__(
            dict(model.named_parameters()),
            model.learning_rates(recipe.rates_by_kind),
            model.roles(),
            recipe,
            schedule=recipe.schedule,
            rate=recipe.rate,
            tokens=batch * task.length,
            steps=steps,
        )
        self._bits = weight_bits(model)
        self._exits = any(layer.exit is not None for layer in model.decoder_layers)
        self.regions = Regions(execution.compile, execution.compile_seconds)
        recorded = self.execution.graphs and on_cuda(device) and steps > SHORT
        self._repeated = RepeatedPass(self.parameters.values(), recorded=recorded)

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others, with its end where its last steps depend on it."""
        return Trajectory(
            to_json(self.model.spec),
            self.rates,
            self.task.digest,
            self.seed,
            self.batch,
            self.recipe.of_networks(),
            self.steps if self.shared_steps < self.steps else None,
            self.origin,
        )

    @property
    def shared_steps(self) -> int:
        """Those of the schedule; none where the rate depends on the horizon."""
        bound = self.schedule.has_horizon and self.recipe.horizon_law != "none"
        return 0 if bound else self.schedule.shared(self.steps)

    @property
    def pace(self) -> Pace:
        """Tokens of a batch; FLOPs of the network by its analytic cost."""
        device, length = str(self.model.embedding.device), self.task.length
        forward = self.model.spec.cost(Scenario(batch=self.batch, prompt=length)).prefill_flops
        return Pace(self.batch * length, 3.0 * forward, peak_of(device, self.recipe.precision))

    def gradients(self) -> LateLosses:
        """Of the next batch: cross-entropy and what the layers add to it."""
        device = self.model.embedding.device
        batch = self.task.train_batch_on(device, self.step, self.seed, self.batch)
        values = self._repeated(self._pass, *batch)
        return LateLosses(values, ("the training loss",), self.task.nats)

    def _pass(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Gradients for tokens and targets [B, T]; the text loss and all that is minimised, in nats [2]."""
        auxiliary: list[Tensor] = []
        weights = self._leaves()

        def network(parts: Parts) -> Tensor:
            settings = {"parts": parts}
            logits: Tensor = functional_call(
                self.model, weights, (tokens, auxiliary), settings, tie_weights=False
            )
            return logits

        with self.low_precision(tokens.device):
            loss = self.regions.text_loss(network, targets, logits=self._exits)
        whole = sum(auxiliary, start=loss)
        whole.backward()
        for name, parameter in self.parameters.items():
            parameter.grad = weights[name].grad
        return torch.stack((loss, whole)).detach()

    @torch.no_grad()
    def _leaves(self) -> dict[str, Tensor]:
        """The weights rounded to their bits: their gradients are those of the weights, straight through."""
        weights = {name: weight.detach() for name, weight in self.parameters.items()}
        return {name: w.requires_grad_() for name, w in round_all(weights, self._bits).items()}


@torch.no_grad()
def rounded_model(model: Model) -> Model:
    """A copy that computes with the weights as they are exported."""
    with torch.device("meta"):
        copy = Model(model.spec)
    copy.to_empty(device=model.embedding.device)
    rounded = round_all(dict(model.named_parameters()), weight_bits(model))
    for name, weight in copy.named_parameters():  # each once, also of layers that share them
        weight.copy_(rounded[name])
    return copy


def layer_figures(training: NetworkTraining) -> dict[str, float]:
    """What the layers of a trained network report, by path and name; empty where they report nothing.

    The load of experts, the share of tokens that are dropped and that pass a router, as the next step of the
    training would see them, and the share that leaves at an exit, on as many validation windows. They depend
    on the weights alone, so a training that was stopped on its way reports the same.
    """
    model, task = training.model, training.task
    device = model.embedding.device
    weights = round_all(training.parameters, weight_bits(model))
    metrics: dict[str, Tensor] = {}
    with torch.no_grad():
        tokens = task.validation()[0][: training.batch].to(device)
        functional_call(model, weights, (tokens,), {"metrics": metrics}, tie_weights=False)
    if metrics:  # with gradients, since layers look at the whole batch only while they learn
        tokens = task.train_batch(training.step, training.seed, training.batch)[0].to(device)
        functional_call(model, weights, (tokens,), {"metrics": metrics}, tie_weights=False)
    return {name: float(value) for name, value in metrics.items()}
