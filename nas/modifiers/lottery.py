"""A sparse network is found by training and pruning in rounds, each from the same early weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from evaluators.compression.lottery import Lottery
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.modifiers.base import (
    Changed,
    Modifier,
    Work,
    forward_flops,
    layer_matrices,
    modifiers,
    recipe_setting,
)
from nas.modifiers.prune import Prune
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class LotteryTicket(Modifier):
    """Train, prune and begin again in rounds, until a sparse network is left that learned by itself.

    After each round the smallest weights of all layers go for good, and the others return to what they were
    after the first --rewind steps. The architecture begins with new initial weights, or with --fresh no with
    those of the network. Unlike `prune`, this takes rounds + 1 trainings. Zeros are stored and multiplied
    like other values.
    """

    name = "lottery"

    sparsity: float = setting(0.8, help="Share of the weights that are zero in the end.", above=0, below=1)
    rounds: int = setting(5, help="Rounds of pruning, equal shares of what is left.", least=1, most=1000)
    steps: int = setting(1000, help="Steps of each training.", least=1, most=MANY)
    rewind: int = setting(50, help="The step whose weights every round begins with.", least=0, most=MANY)
    scope: str = setting(
        "network",
        help="Weights that are compared: of all matrices, or of each.",
        choices=("network", "matrix"),
    )
    fresh: bool = setting(True, help="Begin with new initial weights, drawn by the seed.")
    batch: int = setting(16, help="Sequences of a step.", least=1, most=MANY)
    recipe: Recipe = recipe_setting("weights")

    def check(self) -> None:
        """Something must be left to learn after the rewind."""
        if self.rewind >= self.steps:
            raise SettingError(
                f"lottery: rewind must be less than the {self.steps} steps of a training, got {self.rewind}"
            )

    def unsupported(self, spec: Decoder) -> str:
        """See `Modifier.unsupported`: as for `prune`."""
        return Prune().unsupported(spec)

    def trainable(self, spec: Decoder) -> int:
        """See `Modifier.trainable`: all."""
        return spec.cost(Scenario()).params

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: three passes of every step."""
        steps = self.steps + self.rounds * (self.steps - self.rewind)
        return 3 * forward_flops(spec, steps * self.batch, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        if self.fresh:
            model.reset_parameters(work.seed)
        names = layer_matrices(model)
        course = {"steps": self.steps, "seed": work.seed, "batch": self.batch, "recipe": self.recipe}
        lottery = Lottery(
            self.rounds,
            self.sparsity,
            self.rewind,
            self.scope == "network",
            {"task": work.task, **course},
        )
        with work.progress.bar("drawing a ticket", lottery.steps) as bar:

            def on_step(done: int, loss: float) -> None:
                bar.update(done, f"{loss:.3f} {work.task.unit}")

            lottery = replace(lottery, on_step=on_step)
            losses = lottery.draw(model.train(), names, work.folder)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            zeros = sum(int((parameters[name] == 0).sum()) for name in names)
        shown = " ".join(f"{loss:.3f}" for loss in losses)
        total_weights = sum(parameters[name].numel() for name in names)
        notes = {"sparsity": zeros / total_weights, "training loss by round": shown}
        return Changed(model.eval(), notes)
