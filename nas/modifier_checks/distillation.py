"""Distillation: the loss, and the form of DistilBERT."""

from __future__ import annotations

import torch.nn.functional as F

from evaluators.compression.distillation import soft_loss
from nas.modifier_checks.adaptation import llama
from nas.modifier_checks.base import Measured, SystemCheck, checks, random
from nas.modifiers.distill import Distill
from search_spaces.scenario import Scenario


@checks.add
class Distillation(SystemCheck):
    """T^2 KL from probabilities; every second layer is kept."""

    name, reference, tolerance = "distillation", "F.kl_div of softmax at T, times T^2", 1e-6

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        said, told = 3 * random(20, 50), 3 * random(20, 50, seed=1)
        theirs = 4.0 * F.kl_div((said / 2).log_softmax(-1), (told / 2).softmax(-1), reduction="sum") / 20
        spec = llama().spec
        whole, one = (model.cost(Scenario()).params for model in (spec, Distill(layers=1).changed(spec)))
        embeddings = 2 * spec.vocab * spec.d_model + spec.d_model
        return Measured(
            float((soft_loss(said, told, 2.0) - theirs).abs() / theirs),
            one,
            embeddings + (whole - embeddings) // 2,
        )
