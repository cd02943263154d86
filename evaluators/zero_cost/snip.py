"""SNIP: how much the loss would change if weights were removed, one by one.

    sum over weights w of |w dL/dw|

Lee et al. 2019, arXiv:1810.02340, section 4.1, summed over a network as by Abdelfattah et al. 2021,
arXiv:2101.08134, section 3.1.
"""

from __future__ import annotations

import torch

from evaluators.zero_cost.base import Probe, zero_costs


@zero_costs.add
def snip(probe: Probe) -> float:
    """Sum of |weight x gradient| of the loss on one batch."""
    removed = [(probe.gradients[name] * weight.detach()).abs() for name, weight in probe.body.items()]
    return float(torch.stack([each.double().sum() for each in removed]).sum())
