"""The losses of a piece of a batch, as much of them as one process minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.tasks.base import IGNORED


def scaled_losses(output: tuple[Tensor, Tensor], targets: Tensor, scale: tuple[float, float]) -> Tensor:
    """Cross-entropy in nats, summed, and auxiliary loss, each times its scale [2].

    Shapes: logits [B, T, V], auxiliary [1], targets [B, T].
    """
    logits, auxiliary = output
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = F.cross_entropy(exact.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return torch.stack((nats * scale[0], auxiliary.to(exact.dtype).sum() * scale[1]))
