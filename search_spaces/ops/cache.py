"""Cached rows of tokens: rings of the latest ones, and the first ones of a sequence.

The token at position t lies in slot t % S of a ring. Token axes are the last but one, as `StateShape` wants.
A cache of attention is a state with the rings `k` and `v` and, where some tokens are seen by all others,
their rows `k_global` and `v_global`.

Shapes: B batch, T tokens written, S slots, K width of a row; further axes may stand between B and S.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from search_spaces.ops.attention import USUAL, Weighing, attend_to_cache

PIECE = 256
"""Tokens behind a ring are read in pieces of at least so many, so that their cost stays linear."""


def write(ring: Tensor, rows: Tensor, position: int | Tensor) -> Tensor:
    """Write rows [B, ..., T, K] of the tokens from `position` on; of more than S, the last ones."""
    slots, count = ring.shape[-2], rows.shape[-2]
    kept = min(count, slots)
    rows, first = rows[..., count - kept :, :], position + (count - kept)
    if isinstance(first, int) and first % slots + kept <= slots:
        ring[..., first % slots : first % slots + kept, :] = rows
        return ring
    index = (first + torch.arange(kept, device=ring.device)).remainder(slots)
    return ring.index_copy_(ring.ndim - 2, index, rows.to(ring.dtype))


def slot_positions(slots: int, position: int | Tensor, device: torch.device) -> Tensor:
    """The position of the token in each slot [S] before that at `position` is written; negative: none."""
    latest = position - 1
    # never negative: some runtimes have the remainder of C, and not that of Python
    ages = (latest + slots - torch.arange(slots, device=device)).remainder(slots)
    return latest - ages


def write_first(kept: Tensor, rows: Tensor, position: int | Tensor) -> Tensor:
    """Write those rows [B, ..., T, K] of the tokens from `position` on that are among the first S."""
    slots, count = kept.shape[-2], rows.shape[-2]
    if isinstance(position, int):
        here = max(0, min(count, slots - position))
        kept[..., position : position + here, :] = rows[..., :here, :]
        return kept
    index = torch.arange(slots, device=kept.device) - position
    chosen = rows.index_select(rows.ndim - 2, index.clamp(0, count - 1)).to(kept.dtype)
    return torch.where(((index >= 0) & (index < count))[:, None], chosen, kept)


def write_keys_values(
    cache: dict[str, Tensor], k: Tensor, v: Tensor, position: int | Tensor
) -> dict[str, Tensor]:
    """Write k and v [B, G, T, K] of the tokens from `position` on."""
    kept = {name: write(cache[name], rows, position) for name, rows in (("k", k), ("v", v))}
    if "k_global" not in cache:
        return kept
    return kept | {
        f"{name}_global": write_first(cache[f"{name}_global"], rows, position)
        for name, rows in (("k", k), ("v", v))
    }


def attend_with_cache(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: dict[str, Tensor],
    position: int,
    *,
    sees: Callable[[Tensor, Tensor], Tensor],
    ring: bool,
    weighing: Weighing = USUAL,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs [B, H, T, K] of tokens from `position` on over a cache and themselves, and the cache after.

    `sees(query, key)` says which key a query sees, for positions that broadcast. Without `ring` the cache
    holds all tokens.
    """
    piece = max(PIECE, cache["k"].shape[2]) if ring else q.shape[2]
    outputs = []
    for q_here, k_here, v_here in zip(*(part.split(piece, dim=2) for part in (q, k, v)), strict=True):
        piece_of = partial(_attend_piece, position=position, sees=sees, weighing=weighing)
        outputs.append(piece_of(q_here, k_here, v_here, cache))
        cache = write_keys_values(cache, k_here, v_here, position)
        position += q_here.shape[2]
    return torch.cat(outputs, dim=2), cache


def _attend_piece(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: dict[str, Tensor],
    *,
    position: int,
    sees: Callable[[Tensor, Tensor], Tensor],
    weighing: Weighing,
) -> Tensor:
    here = position + torch.arange(q.shape[2], device=q.device)
    key = torch.cat((slot_positions(cache["k"].shape[2], position, q.device), here))
    seen = sees(here[:, None], key) & (key >= 0)
    k, v = torch.cat((cache["k"], k), dim=2), torch.cat((cache["v"], v), dim=2)
    if "k_global" in cache:
        first = cache["k_global"].shape[2]
        # global tokens before `position` are seen as such, and not again in the ring
        written = torch.arange(first, device=q.device) < position
        seen = torch.cat((written.expand(len(here), -1), seen & (key >= min(first, position))), dim=1)
        k, v = torch.cat((cache["k_global"], k), dim=2), torch.cat((cache["v_global"], v), dim=2)
    return attend_to_cache(q, k, v, seen, weighing)
