"""A ring of the latest entries: the entry of the token at position t is in slot t % S.

Shapes: B batch, S slots, T tokens, C channels (or any further axes).
"""

from __future__ import annotations

import torch
from torch import Tensor


def ring_read(ring: Tensor, position: int) -> Tensor:
    """The entries before `position` that are still held, oldest first [B, min(S, position), C]."""
    slots = ring.shape[1]
    held = min(slots, position)
    if held == position:
        return ring[:, :held]
    index = torch.arange(position - held, position, device=ring.device).remainder(slots)
    return ring.index_select(1, index)


def ring_write(ring: Tensor, entries: Tensor, position: int | Tensor) -> Tensor:
    """Write entries [B, T, C] of the tokens from `position` on; of more than S, the last ones."""
    slots, count = ring.shape[1], entries.shape[1]
    kept = min(count, slots)
    index = (position + (count - kept) + torch.arange(kept, device=ring.device)).remainder(slots)
    return ring.index_copy_(1, index, entries[:, -kept:].to(ring.dtype))


def ring_ages(slots: int, position: int | Tensor, device: torch.device) -> Tensor:
    """How many tokens ago each slot was written [S], seen from `position`; more than `position`: never."""
    # never negative: some runtimes have the remainder of C, and not that of Python
    return (position + slots - torch.arange(slots, device=device)).remainder(slots)
