"""Top-k routed experts: tokens sorted by expert, one product per expert on its own tokens.

    y = sum over the chosen experts e of  gate_e * down_e (silu(gated_e x) * up_e x)

On a GPU the products of all experts are one grouped kernel, where it takes the dtype and the strides; on a
CPU a loop over the experts that were chosen is as fast and takes everything. No token is dropped.

Shapes: N tokens, E experts, k chosen experts per token, D d_model, F hidden.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPED_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def route(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Gates and indices [N, k] of the chosen experts; gates are the softmax over the chosen logits."""
    chosen, index = logits.topk(top_k, dim=-1)
    return chosen.softmax(-1), index


def expert_mixture(
    x: Tensor, gates: Tensor, index: Tensor, gated: Tensor, up: Tensor, down: Tensor
) -> Tensor:
    """Outputs [N, D] of tokens x [N, D]; gated and up are [E, F, D], down is [E, D, F]."""
    top_k, experts = index.shape[-1], up.shape[0]
    order = index.flatten().argsort(stable=True)
    token = order // top_k
    ends = index.flatten().bincount(minlength=experts).cumsum(0)
    y = _products(x[token], ends, gated, up, down) * gates.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, token, y)


def expert_mixture_plainly(
    x: Tensor, gates: Tensor, index: Tensor, gated: Tensor, up: Tensor, down: Tensor
) -> Tensor:
    """The same with every expert on every token."""
    everything = torch.stack(
        [
            F.linear(F.silu(F.linear(x, g)) * F.linear(x, u), d)
            for g, u, d in zip(gated, up, down, strict=True)
        ],
        dim=1,
    )
    weight = torch.zeros(x.shape[0], up.shape[0], dtype=x.dtype, device=x.device).scatter(1, index, gates)
    return (everything * weight[..., None]).sum(1)


def load_balance(logits: Tensor, index: Tensor) -> Tensor:
    """E times the sum over experts of (share of tokens) * (mean probability): 1 when balanced.

    The auxiliary loss of Switch Transformers (Fedus et al. 2021, arXiv:2101.03961, section 2.2), with all k
    choices counted.
    """
    experts = logits.shape[-1]
    share = index.flatten().bincount(minlength=experts).to(logits.dtype) / index.numel()
    return experts * (share * logits.softmax(-1).mean(0)).sum()


def _products(x: Tensor, ends: Tensor, gated: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Each expert on its own rows of x, which lie in the order of the experts up to `ends` [E]."""
    if x.is_cuda and x.dtype in GROUPED_DTYPES and all(map(_aligned, (x, gated, up, down))):
        offsets = ends.to(torch.int32)
        hidden = F.silu(F.grouped_mm(x, gated.mT, offs=offsets)) * F.grouped_mm(x, up.mT, offs=offsets)
        return F.grouped_mm(hidden, down.mT, offs=offsets)
    bounds = [0, *ends.tolist()]
    parts = [
        F.linear(F.silu(F.linear(x[a:b], gated[e])) * F.linear(x[a:b], up[e]), down[e])
        for e, (a, b) in enumerate(pairwise(bounds))
        if b > a
    ]
    return torch.cat(parts)


def _aligned(matrices: Tensor) -> bool:
    """Whether rows start at multiples of 16 bytes, as the grouped kernel wants."""
    wide = 16 // matrices.itemsize
    return all(step % wide == 0 for step in matrices.stride()[:-1]) and matrices.shape[-1] % wide == 0
