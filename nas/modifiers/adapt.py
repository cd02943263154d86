"""A network learns another text by small factors of its matrices: LoRA, DoRA, QLoRA."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evaluators.compression.low_rank import PLACES, Form, LowRank, Shape, matrices
from evaluators.compression.normal_float import round_to_normal_float
from evaluators.training.fit import fit
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.modifiers.base import Changed, Modifier, Work, forward_flops, modifiers
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

BASES = ("as_it_is", "nf4")


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Adapt(Modifier):
    """Learn the text (--data) by low-rank factors of matrices, which are then merged into these.

    Matrices are those of any mixer, by what they do: they read the residual stream (input), write to it
    (output), neither (inner), or are experts; those smaller than the rank stay as they are. --decompose is
    DoRA: direction and norm of a row are learned apart. --base nf4 is QLoRA: what the factors are added to is
    rounded to 4 bits before, and the merged network is stored at the bits of its layers.
    """

    name = "adapt"

    rank: int = setting(8, help="Rank of the factors.", least=1, most=4096)
    alpha: float = setting(16.0, help="What the factors count, times the rank.", above=0, most=MANY)
    targets: tuple[str, ...] = setting(
        ("input", "output"), help=f"Matrices: {', '.join(PLACES)}.", metavar="PLACE,..."
    )
    decompose: bool = setting(False, help="Learn norms apart from directions (DoRA).")
    base: str = setting("as_it_is", help="The weights that factors are added to (nf4: QLoRA).", choices=BASES)
    steps: int = setting(1000, help="Steps of training.", least=1, most=MANY)
    batch: int = setting(16, help="Sequences of a step.", least=1, most=MANY)
    recipe: Recipe = setting(
        Recipe(),
        help="How factors are learned: a ready-made recipe (`nas recipes`), and single settings of it.",
        metavar="NAME|NAME=VALUE",
        repeated=True,
        shown="default",
    )

    def check(self) -> None:
        """Targets must be known, and some."""
        wrong = [place for place in self.targets if place not in PLACES]
        if wrong or not self.targets:
            found = repr(wrong[0]) if wrong else "none"
            raise SettingError(f"adapt: targets are some of {', '.join(PLACES)}, got {found}")

    def unsupported(self, spec: Decoder) -> str:
        """There must be such matrices, not all of them smaller than the rank."""
        with torch.device("meta"):
            all_of_them = matrices(Model(spec), self.targets)
        if not all_of_them:
            return f"the network has no matrices that are {' or '.join(self.targets)}"
        name, largest = max(all_of_them.items(), key=lambda item: min(item[1].rows, item[1].inputs))
        if self.rank > min(largest.rows, largest.inputs):
            return f"rank {self.rank} is larger than every matrix, such as {name} of {largest}"
        return ""

    def trainable(self, spec: Decoder) -> int:
        """See `Modifier.trainable`: the factors."""
        return sum(shape.factors(self._form) for shape in self._matrices(spec).values())

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: three passes."""
        return 3 * forward_flops(spec, self.steps * self.batch, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        adapted = matrices(model, self.targets, self.rank)
        if self.base == "nf4":
            _round(model, adapted)
        training = LowRank(
            model,
            work.task,
            self._form,
            adapted,
            steps=self.steps,
            seed=work.seed,
            batch=self.batch,
            recipe=self.recipe,
        )
        with work.progress.bar("adapting", self.steps) as bar:
            fit(
                training,
                folder=work.folder,
                on_step=lambda step, loss: bar.update(step, f"{loss:.3f} {work.task.unit}"),
            )
        trained = sum(weight.numel() for weight in training.parameters.values())
        return Changed(training.merge(), {"trained parameters": trained, "matrices": len(adapted)})

    @property
    def _form(self) -> Form:
        return Form(self.rank, self.alpha, self.decompose)

    def _matrices(self, spec: Decoder) -> dict[str, Shape]:
        with torch.device("meta"):
            return matrices(Model(spec), self.targets, self.rank)


@torch.no_grad()
def _round(model: Model, adapted: dict[str, Shape]) -> None:
    """Round the matrices that are adapted to NF4, in place."""
    for name, weight in model.named_parameters():
        if name in adapted:
            weight.copy_(round_to_normal_float(weight))
