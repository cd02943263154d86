"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from evaluators.training.optimizers.base import Optimizer, optimizers
from foundation.settings import setting


@optimizers.add
@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Steps of the mean gradient over the root of the mean squared gradient."""

    name: ClassVar[str] = "adamw"

    beta1: float = setting(0.9, help="Decay of the mean of gradients.", least=0, below=1)
    beta2: float = setting(0.95, help="Decay of the mean of squared gradients.", least=0, below=1)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Fused: on a CPU that takes a third of the time of foreach."""
        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), fused=True)

    def squared_gradients(self, state: Mapping[str, Any]) -> Tensor | None:
        """Adam's second moment."""
        moment: Tensor | None = state.get("exp_avg_sq")
        return moment
