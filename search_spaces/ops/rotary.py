"""Rotary positions (Su et al. 2021, arXiv:2104.09864): queries and keys are rotated by their position.

Channel pairs (i, i + K/2) at position t are rotated by the angle t * base^(-2i/K), so that a product of a
query and a key depends on their distance only; a `Scaling` changes the angles. Tables are computed once per
length, not kept in modules.

Shapes: B batch, H heads, T tokens, K head_dim (even).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from search_spaces.ops.tracing import constant

BASE = 10_000.0


class Scaling(Protocol):
    """Other angles than the usual ones (`search_spaces.blocks.rotary_scaling`)."""

    @property
    def magnitude(self) -> float:
        """What is rotated is multiplied by it."""
        ...

    def angles(self, usual: Tensor, base: float) -> Tensor:
        """The angle from one token to the next for every pair [K / 2]."""
        ...

    def __hash__(self) -> int:
        """Tables are kept by it."""
        ...


def rotate(x: Tensor, position: int | Tensor, base: float = BASE, scaling: Scaling | None = None) -> Tensor:
    """Rotate x [..., T, K], whose first token stands at `position` (an int, or a 0-dim tensor)."""
    count, width = x.shape[-2:]
    # a compiled graph takes the tables as constants: it would compute them anew for every element of x
    if isinstance(position, int) and torch.compiler.is_dynamo_compiling():
        cos, sin = _constant(
            _at_least(position + count), width, base, scaling, dtype=x.dtype, device=x.device
        ).unbind()
        cos, sin = cos[position : position + count], sin[position : position + count]
    # tables made while a graph is traced otherwise hold no values, and must not be kept
    elif isinstance(position, int) and not torch.compiler.is_compiling():
        cos, sin = _rows(position, count, width, base, scaling, dtype=x.dtype, device=x.device)
    else:
        positions = position + torch.arange(count, device=x.device)
        cos, sin = _angles(positions, width, base, scaling, x.dtype).unbind()
    return torch.addcmul(x * cos, x.roll(width // 2, dims=-1), sin)


def rotate_share(
    x: Tensor, position: int | Tensor, width: int, base: float = BASE, scaling: Scaling | None = None
) -> Tensor:
    """The same for the first `width` channels of a head; the others have no positions."""
    if width == x.shape[-1]:
        return rotate(x, position, base, scaling)
    turned, still = x[..., :width], x[..., width:]
    return torch.cat((rotate(turned, position, base, scaling), still), dim=-1)


def _at_least(length: int) -> int:
    """Tables come in powers of two, so that a growing context makes few of them."""
    return max(128, 1 << (length - 1).bit_length())


@lru_cache(maxsize=64)
def _table(
    length: int,
    width: int,
    base: float,
    scaling: Scaling | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    # a table made in inference mode could not be used for learning later
    with torch.inference_mode(False):
        return _angles(torch.arange(length, device=device), width, base, scaling, dtype)


@lru_cache(maxsize=64)
def _rows(
    position: int,
    count: int,
    width: int,
    base: float,
    scaling: Scaling | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Those of the tokens from a position on: all layers ask for the same ones, twice."""
    table = _table(_at_least(position + count), width, base, scaling, dtype=dtype, device=device)
    with torch.inference_mode(False):
        cos, sin = table[:, position : position + count].unbind()
    return cos, sin


@constant
def _constant(
    length: int,
    width: int,
    base: float,
    scaling: Scaling | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    return _table(length, width, base, scaling, dtype=dtype, device=device)


def _angles(position: Tensor, width: int, base: float, scaling: Scaling | None, dtype: torch.dtype) -> Tensor:
    """What each channel is multiplied by, and what the other channel of its pair is [2, T, K]."""
    exact = torch.float64 if dtype is torch.float64 else torch.float32
    step = torch.arange(0, width, 2, dtype=exact, device=position.device) / width
    usual = base**-step
    angle = position.to(exact)[:, None] * (usual if scaling is None else scaling.angles(usual, base))
    cos, sin = angle.cos(), angle.sin()
    if scaling is not None and scaling.magnitude != 1:
        cos, sin = cos * scaling.magnitude, sin * scaling.magnitude
    cos, sin = cos.to(dtype), sin.to(dtype)
    return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))
