"""Where mixers begin that replace attention: with its projections, in the roles that theory gives them.

    linear attention, gated linear attention     q, k, v, o as they are
    delta rules                                  q, k, v, o; heads that share keys have their mean
    Mamba-2                                      C = q, B = k, x = v, o

Attention without its softmax is a state-space model: y_t = q_t' sum_s k_s v_s (Dao and Gu 2024,
arXiv:2405.21060; so begin Bick et al. 2024, MOHAWK, arXiv:2408.10189). What a mixer has besides (gates,
decays, convolutions) begins as it always does, and sizes that differ share their first heads and channels.

Shapes: D d_model, H heads, G kv heads, K head_dim, N state_dim.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.supernet.weights import leading


def projections_of(attention: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of other mixers by their names, of the parameters of attention by theirs."""
    q, o = attention["wq"], attention["wo"]
    k, v = (attention[name].repeat_interleave(len(q) // len(attention[name]), dim=0) for name in ("wk", "wv"))
    return {
        "wq": q,
        "wk": k,
        "wv": v,
        "wo": o,
        "wqk": torch.stack((q, k)),
        "wx": v,
        "wbc": torch.stack((k.mean(0), q.mean(0))),
        "wbc_groups": torch.stack((k, q)),
    }


@torch.no_grad()
def begin_with(weight: Tensor, name: str, projections: Mapping[str, Tensor]) -> None:
    """Fill a parameter of this name, where it has a role that a projection of attention has."""
    given = projections.get(name)
    if given is None or given.ndim != weight.ndim:
        return
    if given.ndim == 4 and given.shape[1] != weight.shape[1] and given.shape[1] % weight.shape[1] == 0:
        given = given.unflatten(1, (weight.shape[1], -1)).mean(2)  # [2, H, K, D]: heads that share keys
    both = leading(map(min, weight.shape, given.shape))
    weight[both] = given[both]
