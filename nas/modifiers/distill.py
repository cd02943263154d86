"""A network learns from a teacher: what it was before it was pruned, or any other of the same tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from evaluators.compression.distillation import Distillation, Mixture
from evaluators.compression.structure import with_layers
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.modifiers.base import Changed, Modifier, Work, forward_flops, modifiers, recipe_setting
from nas.modifiers.fitting import fit_shown
from nas.training.start import start_of
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Distill(Modifier):
    """Train a network to say what a teacher says: its logits, and if wanted its hidden states.

    The teacher is the network that the list of modifiers began with, or `teacher`. With `layers`, the student
    first loses layers and keeps these many, spread over the depth, with their weights: with
    soft=5, hard=2, cosine=1 that is DistilBERT. Weights that are zero stay zero.
    """

    name = "distill"
    example = "--layers 2"

    teacher: str | None = setting(
        None,
        help="The folder of another teacher, of the same tokens.",
        metavar="FOLDER",
        shown="the network that was begun with",
    )
    layers: int | None = setting(None, help="Layers that the student keeps.", least=1, most=MANY, shown="all")
    steps: int = setting(1000, help="Steps of training.", least=1, most=MANY)
    batch: int = setting(16, help="Sequences of a step.", least=1, most=MANY)
    temperature: float = setting(
        2.0, help="Temperature at which probabilities are compared.", above=0, most=1000
    )
    soft: float = setting(1.0, help="Weight of the teacher's probabilities.", least=0, most=MANY)
    hard: float = setting(1.0, help="Weight of the text.", least=0, most=MANY)
    cosine: float = setting(
        0.0, help="Weight of the cosine of hidden states, of equal widths.", least=0, most=MANY
    )
    hidden: float = setting(
        0.0, help="Weight of the distance of hidden states behind a linear map.", least=0, most=MANY
    )
    recipe: Recipe = recipe_setting("weights")

    def check(self) -> None:
        """Something must be learned."""
        if not (self.soft or self.hard or self.cosine or self.hidden):
            raise SettingError("distill: soft, hard, cosine and hidden are all 0: nothing would be learned")

    def unsupported(self, spec: Decoder) -> str:
        """It cannot keep more layers than there are."""
        if self.layers is not None and self.layers > len(spec.layers):
            return f"layers is {self.layers}, and the network has {len(spec.layers)}"
        return ""

    def changed(self, spec: Decoder) -> Decoder:
        """See `Modifier.changed`: with fewer layers, if so."""
        if self.layers is None:
            return spec
        return replace(spec, layers=tuple(spec.layers[index] for index in self._kept(spec)))

    def trainable(self, spec: Decoder) -> int:
        """See `Modifier.trainable`: all."""
        return self.changed(spec).cost(Scenario()).params

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: three passes of the student, and one of a teacher as large as the network."""
        windows = self.steps * self.batch
        return 3 * forward_flops(self.changed(spec), windows, scenario) + forward_flops(
            spec, windows, scenario
        )

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        student = self._student(model)
        teacher = self._teacher(work).to(student.embedding.device)
        self._check_pair(student, teacher)
        training = Distillation(
            student,
            teacher,
            work.task,
            Mixture(self.temperature, self.soft, self.hard, self.cosine, self.hidden),
            steps=self.steps,
            seed=work.seed,
            batch=self.batch,
            recipe=self.recipe,
        )
        curve = fit_shown(training, work, "distilling", self.steps)
        return Changed(training.model, {"training loss": curve.loss[-1][1]} if curve.loss else {})

    @property
    def folders(self) -> tuple[str, ...]:
        """See `Modifier.folders`: that of another teacher."""
        return () if self.teacher is None else (self.teacher,)

    def _teacher(self, work: Work) -> Model:
        """The teacher.

        Raises:
            SettingError: it cannot be read, or knows other tokens.
        """
        if self.teacher is None:
            return work.teacher
        start = start_of(self.teacher)
        if start.tokenizer != work.task.tokenizer_json():
            raise SettingError(f"distill: the tokens of {self.teacher} are others than those of the text")
        return start.model

    def _check_pair(self, student: Model, teacher: Model) -> None:
        """Raise `SettingError` where a teacher has nothing to say, or cannot be compared."""
        own, other = student.spec, teacher.spec
        if own.vocab != other.vocab:
            raise SettingError(f"distill: the teacher has {other.vocab:,} tokens, the student {own.vocab:,}")
        if self.cosine and own.d_model != other.d_model:
            raise SettingError(
                f"distill: cosine needs equal widths, got {other.d_model} and {own.d_model}: take hidden"
            )
        weights = dict(teacher.named_parameters())
        if own == other and all(torch.equal(w, weights[name]) for name, w in student.named_parameters()):
            raise SettingError(
                "distill: teacher and student are the same network: name a teacher, fewer layers, or prune"
                " or quantize before"
            )

    def _student(self, model: Model) -> Model:
        """The network that learns, with the layers that it keeps."""
        return model if self.layers is None else with_layers(model, self._kept(model.spec))

    def _kept(self, spec: Decoder) -> list[int]:
        """The layers that stay, from the first on."""
        count = self.layers or len(spec.layers)
        return [index * len(spec.layers) // count for index in range(count)]
