"""The token shift of RWKV: every token also sees the one before it.

Peng et al. 2024, arXiv:2404.05892. A channel is mixed from its value now and its value one token earlier by a
share that is a constant, or depends on the data.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_shift(x: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The difference of the token before from each of x [B, T, D], and the last token [B, D], the state.

    `before` [B, D] is the token before the first (zero if None).
    """
    first = torch.zeros_like(x[:, :1]) if before is None else before.to(x.dtype)[:, None]
    # a copy, so that the state does not keep the whole sequence in memory
    return torch.cat((first, x[:, :-1]), dim=1) - x, x[:, -1].clone()
