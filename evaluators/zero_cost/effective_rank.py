"""Effective rank: over how many directions the tokens of a batch are spread, where the head reads them.

    exp(-sum of p_i log p_i)        p_i = s_i / sum of s        s: singular values of all tokens [B T, D]

Roy & Vetterli 2007, "The effective rank", EUSIPCO, section 2.
"""

from __future__ import annotations

import torch

from evaluators.zero_cost.base import Probe, zero_costs


@zero_costs.add
def effective_rank(probe: Probe) -> float:
    """Effective rank of the last residual stream at the start."""
    _, last = probe.features
    values = torch.linalg.svdvals(last.flatten(0, 1).double())
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
