"""NASWOT: how differently a network treats the sequences of a batch, before it has learned anything.

    K_ij = number of units that are on for both or off for both sequences i and j        log |det K|

Mellor et al. 2021, arXiv:2006.04647, section 3. There a unit is a ReLU, and is on where it is positive.
Blocks of a language model have few ReLUs, so here a unit is a channel of what a sublayer adds to the
residual stream, at each token.
"""

from __future__ import annotations

import torch

from evaluators.zero_cost.base import Probe, zero_costs


@zero_costs.add
def naswot(probe: Probe) -> float:
    """Log-determinant of how alike the signs of the sublayers' outputs are for two sequences."""
    added, _ = probe.features
    codes = torch.cat([(part > 0).flatten(1) for part in added], dim=1).double()
    alike = codes @ codes.T + (1 - codes) @ (1 - codes).T
    return float(torch.linalg.slogdet(alike).logabsdet)
