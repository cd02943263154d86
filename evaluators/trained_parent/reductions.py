"""Smaller forms of a parent's blocks, made of its weights where a leading slice of them would be worse.

Fewer heads of keys and values are the means of neighbouring ones (Ainslie et al. 2023, arXiv:2305.13245,
section 2.1). Fewer hidden channels of a gated perceptron are those that add most to its output,

    importance_f = sum over tokens of h_f^2  |W_down[:, f]|^2

and the output matrix is fitted to them, so that what went is made good by what stays, in closed form:

    W' = W H[:, S] (H[S, S] + damp)^-1,       H = sum over tokens of h h',  S the channels that stay

as SparseGPT does row by row (Frantar and Alistarh 2023, arXiv:2301.00774, section 3).

Shapes: D d_model, G kv heads, K head_dim, F hidden, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.swiglu import SwiGLU

Weights = Mapping[str, Tensor]


def is_reduced(own: Block | None, block: Block | None) -> bool:
    """Whether a block is a smaller form of the parent's that has weights made of its."""
    if isinstance(own, Attention) and isinstance(block, Attention):
        alike = replace(block, num_kv_heads=own.num_kv_heads, window=own.window) == own
        fewer = block.num_kv_heads < own.num_kv_heads and own.num_kv_heads % block.num_kv_heads == 0
        return alike and fewer and own.biases == "none" and not (own.qk_norm and own.qk_norm_over == "heads")
    if isinstance(own, SwiGLU) and isinstance(block, SwiGLU):
        return (
            block.expansion < own.expansion
            and replace(block, expansion=own.expansion) == own
            and not own.biases
        )
    return False


def reduced(block: Block, weights: Weights, moment: Callable[[], Tensor], damp: float) -> dict[str, Tensor]:
    """The matrices of a smaller form by their names, of the parent's `weights` by theirs.

    `moment` gives the second moments [F, F] of what the parent's output matrix multiplies.
    """
    if isinstance(block, Attention):
        return {name: _pooled(weights[name], block.num_kv_heads) for name in ("wk", "wv")}
    assert isinstance(block, SwiGLU)
    return _narrowed(weights, block.hidden(weights["down"].shape[0]), moment(), damp)


def _pooled(weight: Tensor, heads: int) -> Tensor:
    """Heads [G, K, D] as means of neighbours."""
    return weight.unflatten(0, (heads, -1)).mean(1)


def _narrowed(weights: Weights, count: int, moment: Tensor, damp: float) -> dict[str, Tensor]:
    down = weights["down"].double()
    importance = moment.diagonal() * down.square().sum(0)
    kept = importance.topk(count).indices.sort().values
    among = moment[kept][:, kept].clone()
    diagonal = among.diagonal()
    diagonal += damp * diagonal.mean() + torch.finfo(torch.float32).tiny
    fitted = torch.linalg.solve(among, (down @ moment[:, kept]).mT).mT
    return {
        "gated": weights["gated"][kept],
        "up": weights["up"][kept],
        "down": fitted.to(weights["down"].dtype),
    }
