"""The norm of the gradient at the start.

Abdelfattah et al. 2021, arXiv:2101.08134, section 3.1; here it is the Euclidean norm of all gradients.
"""

from __future__ import annotations

import torch

from evaluators.zero_cost.base import Probe, zero_costs


@zero_costs.add
def gradient_norm(probe: Probe) -> float:
    """Euclidean norm of the loss's gradient on one batch."""
    norms = [gradient.double().norm() for gradient in probe.gradients.values()]
    return float(torch.stack(norms).norm())
