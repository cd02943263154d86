"""Training a supernet: one set of weights for all architectures of a space, by the sandwich rule.

Each subnet of a step (`evaluators.supernet.sandwich`) reads a batch of its own: the step costs the same, and
the shared weights see more text. Or, with in-place distillation, all read one batch: the largest subnet
learns from the text, the others from the text and, more and more, from what the largest one predicts (Yu et
al. 2020, arXiv:2003.11142). Training may go in phases that open more and more of the space
(`evaluators.supernet.shrinking`), with what is important sorted to the front before each
(`evaluators.supernet.importance`). Weights are rounded to the bits of the layers, gradients pass straight
through. `evaluators.supernet.recipe` holds all that can be chosen.

Of several processes each reads some of the networks, or some rows of their batches
(`evaluators.supernet.sharing`), and gradients are added up.

The random choices of a step come from (seed, step), and its phase from the step, so a training that was
stopped continues to the same losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.supernet.importance import Sorted, sort_by_importance
from evaluators.supernet.sandwich import Sandwich
from evaluators.supernet.sharing import Sharing
from evaluators.supernet.shrinking import Phase, narrowed, phase_at, starts
from evaluators.tasks.base import IGNORED, Task
from evaluators.training.beforehand import Job, compile_beforehand, networks_of, widths_of
from evaluators.training.execution import INDUCTOR, Execution
from evaluators.training.losses import LateLosses
from evaluators.training.pace import Pace
from evaluators.training.process_group import SINGLE_PROCESS, ProcessGroup
from evaluators.training.recipe import DEFAULT, Recipe
from evaluators.training.recorded import Recorder
from evaluators.training.regions import Regions, token_loss
from evaluators.training.trainable import Trainable, Trajectory
from foundation.errors import SpaceError
from search_spaces.devices import on_cuda, peak_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.network.layer import Parts
from search_spaces.scenario import Scenario
from search_spaces.supernet import Subnet, Supernet, Weights

ON_CPU = Execution()
COUNTED = 8
"""Steps of a phase whose work is counted."""

BEFOREHAND = 0.7
"""The share of the seconds for compiling in which several processes compile."""


def spec_of(space_json: str) -> str:
    """What the trajectory of a supernet calls its space."""
    return json.dumps({"space": space_json})


class SupernetTraining(Trainable):
    """The training of a supernet, of `steps` in all.

    `batch` are the windows that a network reads in a step, those of all processes together. `sorted` is
    what was sorted before the present phase.

    Raises:
        SpaceError: the space forbids all architectures of a phase.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        *,
        steps: int,
        seed: int,
        batch: int,
        recipe: Recipe = DEFAULT,
        execution: Execution = ON_CPU,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.space, self.task, self.seed, self.batch = space, task, seed, batch
        self.execution, self.process_group, self.settings = execution, process_group, recipe.supernet
        self.supernet = Supernet(space, seed=seed, device=execution.device)
        super().__init__(
            self.supernet.weights,
            self.supernet.learning_rates(recipe.rates_by_kind),
            self.supernet.roles,
            recipe,
            schedule=self.settings.schedule,
            rate=self.settings.rate,
            tokens=batch * task.length,
            steps=steps,
        )
        self.sharing = Sharing.of(process_group, 1 if self.settings.distill else self.settings.networks)
        self.sorted: list[Sorted] = []
        self._flops: dict[int, float] = {}
        self._begun = False
        self._parts = [narrowed(space, phase.varies) for phase in self.settings.phases]
        self._sandwiches = [self._sandwich(part) for part in self._parts]
        recorder = Recorder() if execution.graphs and on_cuda(str(execution.device)) else None
        self.regions = Regions(
            execution.compile, execution.compile_seconds, recorder=recorder, widths=widths_of(space)
        )

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others; its end decides phases and learning rates."""
        return Trajectory(
            spec_of(to_json(self.space.root)),
            self.rates,
            self.task.digest,
            self.seed,
            self.batch,
            self.recipe.of_supernets(),
            self.steps,
            self.origin,
        )

    @property
    def phase(self) -> Phase:
        """The phase of the next step."""
        return self.settings.phases[self._phase]

    @property
    def progress(self) -> dict[str, Any]:
        """How far the training is, for readers of a checkpoint."""
        return {"phase": self.phase.name, "steps": self.steps}

    @property
    def pace(self) -> Pace:
        """Tokens that all networks of a step read, and FLOPs that they need by their analytic costs."""
        peak = peak_of(str(self.execution.device), self.recipe.precision)
        tokens = self.settings.networks * self.batch * self.task.length
        return Pace(tokens, self._step_flops, peak and peak * self.process_group.count)

    def _step_flops(self) -> float:
        """The mean work of steps of this phase, counted over a few of them once."""
        phase = min(self._phase, len(self._sandwiches) - 1)
        if phase not in self._flops:
            scenario = Scenario(batch=self.batch, prompt=self.task.length)
            steps = [self._sandwiches[phase].of(step) for step in range(COUNTED)]
            forward = sum(spec.cost(scenario).prefill_flops for specs in steps for spec in specs)
            self._flops[phase] = 3.0 * forward / COUNTED
        return self._flops[phase]

    def zero_gradients(self) -> None:
        """Forget all gradients; what no subnet touches afterwards stays without one."""
        self.supernet.zero_grad()

    def gradients(self) -> LateLosses:
        """The sum over the subnets of the step.

        Shown are the losses of its first two subnets: the largest and, of three or more, the smallest.
        """
        self._enter_phase()
        self._compile_beforehand()
        specs = self._sandwiches[self._phase].of(self.step)
        mine = self._mine(specs)
        subnets = {number: self.supernet.subnet(specs[number]) for number in mine}
        sixteen = self.supernet.at_sixteen()
        nothing = torch.zeros(2, device=self.execution.device)
        of_network = dict.fromkeys(range(len(specs)), nothing)
        for numbers in [mine] if self.settings.distill else [[number] for number in mine]:
            readers = [subnets[number] for number in numbers]
            for tokens, targets, share in self._pieces(numbers[0]):
                read = self._read(readers, sixteen, tokens, targets, share)
                for number, loss in zip(numbers, read, strict=True):
                    of_network[number] = of_network[number] + share * loss
        losses = torch.stack(list(of_network.values()), 1)
        self._add_up(losses)
        hard, whole = losses
        shown = torch.stack((hard[0], hard[min(1, len(hard) - 1)]))
        names = tuple(f"subnet {i}: the supernet's loss" for i in range(len(whole)))
        return LateLosses(torch.cat((shown, whole)), names, self.task.nats)

    def _mine(self, specs: Sequence[Decoder]) -> list[int]:
        """The numbers of the networks of a step that this process reads."""
        if self.sharing.teams == 1:
            return list(range(len(specs)))
        scenario = Scenario(batch=self.batch, prompt=self.task.length)
        return self.sharing.mine([spec.cost(scenario).prefill_flops for spec in specs])

    def _add_up(self, losses: Tensor) -> None:
        """The sum of all processes' gradients and losses, in place.

        What some team's networks touched gets a gradient everywhere, of zeros where it was not touched here.
        """
        if self.sharing.teams > 1:
            weights = self.supernet.weights
            touched = self.process_group.any_of([weight.grad is not None for weight in weights.values()])
            self.supernet.want_gradients(
                key for key, is_touched in zip(weights, touched, strict=True) if is_touched
            )
        gradients = [weight.grad for weight in self.supernet.parameters() if weight.grad is not None]
        self.process_group.add_up([*gradients, losses])

    @property
    def _phase(self) -> int:
        return phase_at(self.settings.phases, self.steps, self.step)

    def _sandwich(self, part: Space) -> Sandwich:
        """The subnets of a phase; favoured genotypes are of the whole space, and wait until it opens."""
        settings = self.settings
        favoured = settings.genotypes if part is self.space else ()
        sandwich = Sandwich(part, self.seed, settings.networks, favoured, settings.favour)
        try:
            sandwich.of(0)
        except SpaceError as error:
            if part is self.space:
                raise
            raise SpaceError(f"{error}; leave this phase out, or train without phases") from None
        return sandwich

    def _enter_phase(self) -> None:
        """At the first step of a phase, sort what it will cut and the phases before did not."""
        phase, begins = self._phase, starts(self.settings.phases, self.steps)
        if not self.settings.sorts or self.step == 0 or self.step != begins[phase]:
            return
        trained = max(i for i in range(phase) if begins[i] < self.step)
        with torch.no_grad():
            self.sorted = sort_by_importance(
                self.supernet,
                self._parts[trained].root,
                self._parts[phase].root,
                moments=self._moments,
                effects=self._effect if self.settings.sort == "effect" else None,
            )

    def _compile_beforehand(self) -> None:
        """At the first step here: the regions of the space, by several processes.

        They may take the larger part of the seconds; the rest is for reading what they compiled. Of the
        processes of a group the first sees to it, while the others wait, who would spend theirs on the same.
        """
        if self._begun or self.regions.backend != INDUCTOR:
            return
        self._begun = True
        if self.process_group.rank == 0:
            self._compile_regions()
        self.process_group.wait(self.execution.device)

    def _compile_regions(self) -> None:
        how = self.execution
        vocab = self._sandwiches[-1].of(0)[0].vocab
        rows = -(-self.batch // self.sharing.readers.count // how.accumulate)
        precision, seconds = self.recipe.precision, BEFOREHAND * how.compile_seconds
        specs = networks_of(self.space, vocab)
        about = (specs, rows, self.task.length, how.device, precision, how.compile, seconds)
        job = Job(*about, self.regions.widths)
        self.regions.spent += compile_beforehand(job)

    def _moments(self, key: str) -> list[Tensor]:
        """The optimizer's tensors that have the shape of the parameter of this key."""
        weight = self.supernet.weights[key]
        state = self.optimizer.state.get(weight, {})
        return [value for value in state.values() if torch.is_tensor(value) and value.shape == weight.shape]

    def _effect(self, key: str) -> Tensor | None:
        """The weights squared times the mean of their squared gradients, as the optimizer keeps it."""
        weight = self.supernet.weights[key]
        squares = self.recipe.optimizer.squared_gradients(self.optimizer.state.get(weight, {}))
        return None if squares is None else weight.detach().square() * squares

    def _pieces(self, number: int) -> Iterator[tuple[Tensor, Tensor, float | Tensor]]:
        """This process's rows of a batch, in pieces, with their share of all tokens that are judged.

        `number` counts the batches of a step.
        """
        device, batches = self.execution.device, 1 if self.settings.distill else self.settings.networks
        whole = self.task.train_batch_on(device, self.step * batches + number, self.seed, self.batch)
        rows = [self.sharing.readers.rows(part).chunk(self.execution.accumulate) for part in whole]
        alone = self.execution.accumulate == 1 and self.sharing.readers.count == 1
        for tokens, targets in zip(*rows, strict=True):
            yield tokens, targets, 1.0 if alone else _judged(targets) / _judged(whole[1])

    def _read(
        self, subnets: list[Subnet], sixteen: Weights, tokens: Tensor, targets: Tensor, share: float | Tensor
    ) -> list[Tensor]:
        """Add the gradients of all subnets; the text loss of each and all that it minimises, in nats [2]."""
        teacher, losses = None, []
        soft = self.settings.distill * self.step / self.steps
        for subnet in subnets:
            leaves, auxiliary = subnet.leaves(sixteen, whole=self.regions.asks_whole), list[Tensor]()
            network = partial(self._called, subnet, tokens, subnet.rounded(leaves, sixteen), auxiliary)
            if not soft:
                hard = loss = self._text_loss(subnet, network, targets)
            else:
                logits = self._logits(network, tokens.device)
                hard = loss = token_loss(logits, targets)
                if teacher is None:
                    teacher = logits.detach().log_softmax(-1)
                else:
                    loss = (1 - soft) * hard + soft * _divergence(logits, teacher, targets)
            whole = sum(auxiliary, start=loss)
            (share * whole).backward()
            self.supernet.accumulate(subnet, leaves)
            losses.append(torch.stack((hard.detach(), whole.detach())))
        return losses

    def _text_loss(self, subnet: Subnet, network: Callable[[Parts], Tensor], targets: Tensor) -> Tensor:
        exits = any(layer.exit is not None for layer in subnet.spec.layers)
        with self.low_precision(targets.device):
            return self.regions.text_loss(network, targets, logits=exits)

    def _logits(self, network: Callable[[Parts], Tensor], device: torch.device) -> Tensor:
        """Logits in float32, computed in the recipe's precision."""
        with self.low_precision(device):
            return network(self.regions).float()

    def _called(
        self, subnet: Subnet, tokens: Tensor, weights: Weights, auxiliary: list[Tensor], parts: Parts
    ) -> Tensor:
        """A subnet of these parts, recomputed where asked."""
        recompute = self.execution.checkpoint_activations
        return subnet(tokens, weights, recompute=recompute, losses=auxiliary, parts=parts)


def _judged(targets: Tensor) -> Tensor:
    """How many targets are judged; on the device, which nobody waits for."""
    return (targets != IGNORED).sum()


def _divergence(logits: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of the teacher's predictions from these, where it is judged.

    `teacher` are logarithms of probabilities.
    """
    each = F.kl_div(logits.log_softmax(-1), teacher, reduction="none", log_target=True)
    judged = targets != IGNORED
    return (each.sum(-1) * judged).sum() / judged.sum()
