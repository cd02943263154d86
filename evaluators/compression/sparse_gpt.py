"""SparseGPT: weights go column by column, and each error is made good by the columns that follow.

    importance_j = w_j^2 / U_jj^2;   w_k -= w_j / U_jj U_jk  for k > j where w_j goes,   H^-1 = U'U

Frantar & Alistarh 2023, arXiv:2301.00774, sections 3.2 to 3.4, with H = sum of x x' + damp I as in GPTQ.
Which weights go is chosen for a block of columns at a time, when the errors of all before have arrived: the
least important share of the block in all rows, or all but N of M neighbours in each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evaluators.compression.calibration import Part
from evaluators.compression.gptq import DAMP, inverse_root
from evaluators.compression.pruning import kept_of_neighbours, kept_of_row

BLOCK = 128
"""Columns whose mask is chosen together (section 3.3)."""


@torch.no_grad()
def sparse_gpt(
    weight: Tensor,
    moments: dict[Part, Tensor],
    sparsity: float,
    pattern: tuple[int, int] | None = None,
    damp: float = DAMP,
) -> Tensor:
    """A parameter with a share of its weights zero and the others adapted, given the moments of its parts."""
    pruned = weight.detach().contiguous().clone()
    for part, moment in moments.items():
        matrix = part.of(pruned)
        upper, _ = inverse_root(moment.to(weight.device), damp)
        matrix.copy_(_swept(matrix.double(), upper, sparsity, pattern))
    return pruned


def _swept(weight: Tensor, upper: Tensor, sparsity: float, pattern: tuple[int, int] | None) -> Tensor:
    """The matrix [N, K], block after block."""
    size = BLOCK if pattern is None else max(1, BLOCK // pattern[1]) * pattern[1]
    for low in range(0, weight.shape[1], size):
        high = min(low + size, weight.shape[1])
        block, root = weight[:, low:high].clone(), upper[low:high, low:high]
        errors = torch.zeros_like(block)
        kept = _kept(block, root, sparsity) if pattern is None else torch.ones_like(block, dtype=torch.bool)
        for j in range(high - low):
            if pattern is not None and j % pattern[1] == 0:
                near = slice(j, j + pattern[1])
                importance = block[:, near].square() / root.diagonal()[near].square()
                kept[:, near] = kept_of_neighbours(importance, pattern)
            errors[:, j] = torch.where(kept[:, j], 0.0, block[:, j] / root[j, j])
            block[:, j:] -= errors[:, j, None] * root[j, j:]
            block[:, j] = torch.where(kept[:, j], block[:, j], 0.0)
        weight[:, low:high] = block
        weight[:, high:] -= errors @ upper[low:high, high:]
    return weight


def _kept(block: Tensor, root: Tensor, sparsity: float) -> Tensor:
    """All but the least important share of a block of columns, over all rows."""
    importance = block.square() / root.diagonal().square()
    return kept_of_row(importance.view(1, -1), sparsity).view(block.shape)
