"""Distillation: a student learns what a teacher says, beside or instead of the text itself.

    loss = hard CE(text) + soft T^2 KL(p_T(teacher) || p_T(student))
           + cosine (1 - cos(h, h')) + hidden |W h - h'|^2

p_T are probabilities at the temperature T (Hinton et al. 2015, arXiv:1503.02531, section 2). h and h' are
residual streams behind layers of student and teacher: their cosine needs equal widths (DistilBERT, Sanh et
al. 2019, arXiv:1910.01108, section 2), a linear map W that is learned with them does not (TinyBERT, Jiao et
al. 2019, arXiv:1909.10351, equation 8); |.|^2 is the mean over channels.

Shapes: B batch, T tokens, V vocab, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.compression.pruning import kept_as_they_are
from evaluators.tasks.base import IGNORED, Task
from evaluators.training.losses import LateLosses, Losses
from evaluators.training.recipe import Recipe
from evaluators.training.trainable import Trainable, Trajectory, weights_digest
from search_spaces.language.serialization import to_json
from search_spaces.network.model import Model
from search_spaces.network.scaling import Role
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.rounding import round_all

MAP = "map."
"""How the names of linear maps begin: `map.0` is that of the first layer."""

MAP_RATE = 1e-3


@dataclass(frozen=True)
class Mixture:
    """What is minimised: the weight of each term, and the temperature."""

    temperature: float = 2.0
    soft: float = 1.0
    hard: float = 1.0
    cosine: float = 0.0
    hidden: float = 0.0

    @property
    def reads_hidden(self) -> bool:
        """Whether residual streams are compared."""
        return self.cosine > 0 or self.hidden > 0


class Distillation(Trainable):
    """The training of a student by a teacher; weights of a student that are zero stay so if `keep_zeros`."""

    def __init__(
        self,
        student: Model,
        teacher: Model,
        task: Task,
        mixture: Mixture,
        *,
        steps: int,
        seed: int,
        batch: int,
        recipe: Recipe,
        keep_zeros: bool = True,
    ) -> None:
        self.model, self.teacher, self.task, self.mixture = student, teacher.eval(), task, mixture
        self.seed, self.batch = seed, batch
        maps = _maps(student, teacher) if mixture.hidden else {}
        weights = dict(student.named_parameters())
        super().__init__(
            weights | maps,
            student.learning_rates(recipe.rates_by_kind) | dict.fromkeys(maps, MAP_RATE),
            student.roles() | {name: Role("matrix", one.shape[-1]) for name, one in maps.items()},
            recipe,
            schedule=recipe.schedule,
            rate=recipe.rate,
            tokens=batch * task.length,
            steps=steps,
        )
        self.origin = weights_digest(weights | {f"teacher.{n}": w for n, w in teacher.named_parameters()})
        self._weights, self._bits = weights, weight_bits(student)
        self._kept = kept_as_they_are(weights) if keep_zeros else {}

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others: also what is minimised, and which zeros stay."""
        how = {"distillation": asdict(self.mixture), "zeros": sorted(self._kept)}
        recipe = {**self.recipe.of_networks(), **how}
        spec, task = to_json(self.model.spec), self.task.digest
        return Trajectory(spec, self.rates, task, self.seed, self.batch, recipe, self.steps, self.origin)

    def gradients(self) -> LateLosses:
        """Of the next batch."""
        device = self.model.embedding.device
        tokens, targets = self.task.train_batch_on(device, self.step, self.seed, self.batch)
        with torch.no_grad():
            weights = round_all({name: w.detach() for name, w in self._weights.items()}, self._bits)
        leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
        with self.low_precision(tokens.device):
            text, whole = self._losses(leaves, tokens, targets)
        whole.backward()
        for name, leaf in leaves.items():
            self.parameters[name].grad = leaf.grad
        values = torch.stack((text, whole)).detach()
        return LateLosses(values, ("the loss of distillation",), self.task.nats)

    def advance(self) -> Losses | LateLosses:
        """One step, after which pruned weights are zero again."""
        losses = super().advance()
        with torch.no_grad():
            for name, kept in self._kept.items():
                self.parameters[name].mul_(kept)
        return losses

    def _losses(
        self, weights: Mapping[str, Tensor], tokens: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of the text, and all that is minimised, for tokens and targets [B, T]."""
        auxiliary: list[Tensor] = []
        with torch.no_grad(), streams(self.teacher) as taught:
            told = self.teacher(tokens)
        with streams(self.model) as seen:
            said = functional_call(self.model, dict(weights), (tokens, auxiliary), tie_weights=False)
        judged = targets != IGNORED
        text = F.cross_entropy(said[judged].float(), targets[judged])
        mixture = self.mixture
        whole = mixture.hard * text + sum(auxiliary, start=torch.zeros_like(text))
        if mixture.soft:
            whole = whole + mixture.soft * soft_loss(said[judged], told[judged], mixture.temperature)
        if mixture.reads_hidden:
            whole = whole + self._hidden_loss(seen, taught, judged)
        return text, whole

    def _hidden_loss(self, seen: list[Tensor], taught: list[Tensor], judged: Tensor) -> Tensor:
        """The mean over the student's layers of what their streams [B, T, D] differ from the teacher's."""
        total = torch.zeros((), device=judged.device)
        for index, (own, other) in enumerate(paired(seen, taught)):
            h, goal = own[judged].float(), other[judged].float()
            if self.mixture.cosine:
                total = total + self.mixture.cosine * (1 - F.cosine_similarity(h, goal, dim=-1)).mean()
            if self.mixture.hidden:
                mapped = F.linear(h, self.parameters[f"{MAP}{index}"])
                total = total + self.mixture.hidden * F.mse_loss(mapped, goal)
        return total / len(seen)


def soft_loss(said: Tensor, told: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits [..., V] at a temperature, the mean over tokens."""
    student = (said.float() / temperature).log_softmax(-1)
    teacher = (told.float() / temperature).log_softmax(-1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def paired(seen: list[Tensor], taught: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each layer of the student with the layer of the teacher at the end of its share of the depth."""
    for index, own in enumerate(seen, 1):
        yield own, taught[-(-index * len(taught) // len(seen)) - 1]


@contextmanager
def streams(model: Model) -> Iterator[list[Tensor]]:
    """While it is entered, the residual streams [B, T, D] behind the layers, in the order of the layers."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, inputs, outputs: found.append(outputs[0]))
        for layer in dict.fromkeys(model.decoder_layers)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _maps(student: Model, teacher: Model) -> dict[str, nn.Parameter]:
    """A linear map [D', D] for each layer of the student: at first it leaves channels as they are."""
    shape = (teacher.spec.d_model, student.spec.d_model)
    device: Any = student.embedding.device
    return {
        f"{MAP}{index}": nn.Parameter(torch.eye(*shape, device=device))
        for index in range(len(student.spec.layers))
    }
