"""Feature maps of linear attention: what replaces the exponential of the product of a query and a key.

    y_t = sum_s phi(q_t)phi(k_s) v_s / sum_s phi(q_t)phi(k_s)        phi(q)phi(k) in place of exp(qk)

A running sum of phi(k) v' then takes the place of all keys and values. Ones appended to v make the
denominator a column of the same sum.

Shapes: B batch, T tokens, H heads, N state_dim (of q and k), M features, P head_dim (of v).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations_with_replacement

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-30
SEED = 2009_14794
"""Of the directions that `orthogonal_directions` draws: they are a constant, not chance."""


def with_ones(v: Tensor) -> Tensor:
    """v [..., P] with a column of ones [..., P + 1]."""
    return F.pad(v, (0, 1), value=1.0)


def normalised(y: Tensor) -> Tensor:
    """The sums over v by the sum over ones: [..., P] of [..., P + 1].

    Where all products of a query with keys are zero in float32, the output is zero.
    """
    return y[..., :-1] / y[..., -1:].clamp(min=SMALLEST)


def elu_features(x: Tensor) -> Tensor:
    """elu(x) + 1 (Katharopoulos et al. 2020, arXiv:2006.16236), positive however small exp(x) is."""
    return x.clamp(max=0).exp() + x.relu()


def taylor_features(x: Tensor) -> Tensor:
    """Features [..., 1 + N + N(N+1)/2] of x [..., N] whose products are 1 + xy + (xy)^2 / 2.

    The second-order Taylor map of Based (Arora et al. 2024, arXiv:2402.18668); x_i x_j and x_j x_i are one
    feature.
    """
    row, column = _pairs(x.shape[-1], x.device)
    weight = 1 - (1 - math.sqrt(0.5)) * (row == column).to(x.dtype)
    squares = x.index_select(-1, row) * x.index_select(-1, column) * weight
    return torch.cat((torch.ones_like(x[..., :1]), x, squares), dim=-1)


def _pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of a triangle, with its diagonal."""
    if not torch.compiler.is_exporting():
        row, column = torch.triu_indices(count, count, device=device)
        return row, column
    pairs = list(combinations_with_replacement(range(count), 2))  # not every runtime has the operator
    return torch.tensor([i for i, _ in pairs], device=device), torch.tensor(
        [j for _, j in pairs], device=device
    )


def taylor_size(state_dim: int) -> int:
    """The number of features of `taylor_features`."""
    return 1 + state_dim + state_dim * (state_dim + 1) // 2


@lru_cache(maxsize=256)
def orthogonal_directions(count: int, width: int) -> Tensor:
    """Normal directions [M, N] in float64 on the CPU, in runs of N that are orthogonal to each other.

    Each has the length of a normal vector drawn by itself (Choromanski et al. 2020, arXiv:2009.14794, section
    2.4). The same for all callers: a constant, drawn once from a fixed seed.
    """
    dice = torch.Generator("cpu").manual_seed(SEED)
    with torch.inference_mode(False), torch.device("cpu"), torch.no_grad():
        blocks = []
        for _ in range(-(-count // width)):
            square = torch.randn(width, width, generator=dice, dtype=torch.float64)
            q, r = torch.linalg.qr(square)
            blocks.append(q * r.diagonal().sign())
        length = torch.randn(count, width, generator=dice, dtype=torch.float64).norm(dim=-1, keepdim=True)
        return torch.cat(blocks, dim=1).T[:count].contiguous() * length
