"""All weights learn on: of a network of a supernet, an imported one, or one that was pruned."""

from __future__ import annotations

from dataclasses import dataclass

from evaluators.compression.lottery import MaskedTraining
from evaluators.compression.pruning import kept_as_they_are
from evaluators.training.recipe import Recipe
from evaluators.training.trainable import weights_digest
from foundation.settings import MANY, setting
from nas.modifiers.base import Changed, Modifier, Work, forward_flops, modifiers, recipe_setting
from nas.modifiers.fitting import fit_shown
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Finetune(Modifier):
    """Train all weights on by the text (--data); those that are zero stay zero.

    A study that reads networks from a supernet can end in it: `nas search SPACE --finalists 0 --then
    finetune,steps=150` gives each network of its front a short training of its own (as of once-for-all
    networks, Cai et al. 2020, arXiv:1908.09791). For long trainings, in many processes, there is `nas train`.
    """

    name = "finetune"

    steps: int = setting(300, help="Steps of training.", least=1, most=MANY)
    batch: int = setting(16, help="Sequences of a step.", least=1, most=MANY)
    recipe: Recipe = recipe_setting("weights", "finetune")

    def trainable(self, spec: Decoder) -> int:
        """See `Modifier.trainable`: all."""
        return spec.cost(Scenario()).params

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: three passes of every step."""
        return 3 * forward_flops(spec, self.steps * self.batch, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        weights = dict(model.named_parameters())
        training = MaskedTraining(
            model.train(),
            kept_as_they_are(weights),
            work.task,
            steps=self.steps,
            seed=work.seed,
            batch=self.batch,
            recipe=self.recipe,
        )
        training.origin = weights_digest(weights)
        curve = fit_shown(training, work, "fine-tuning", self.steps)
        return Changed(model.eval(), {"training loss": curve.loss[-1][1]} if curve.loss else {})
