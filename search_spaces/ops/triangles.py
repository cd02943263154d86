"""Triangles of chunks built from small tiles to large ones, of operators that every runtime has.

Programs for other runtimes have no triangular solve, and no writing into a part of a tensor. Two neighbouring
tiles and the square between them make a tile twice as wide:

    [[early, 0], [below, late]]

Shapes: n tiles, w width of a tile, L = n w a power of two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def assembled(tiles: Tensor, below: Tensor) -> Tensor:
    """Tiles [..., n, w, w] and what is below each second one [..., n/2, w, w] as tiles [..., n/2, 2w, 2w]."""
    early, late = tiles.unflatten(-3, (-1, 2)).unbind(-3)
    above = torch.cat((early, torch.zeros_like(below)), dim=-1)
    return torch.cat((above, torch.cat((below, late), dim=-1)), dim=-2)


def unit_triangular_inverse(below: Tensor) -> Tensor:
    """The inverse of I + `below` [..., L, L], of which only what is below the diagonal is read.

    By the inverses of its halves, from single numbers on (Golub and Van Loan 2013, "Matrix computations",
    section 3.1.4): as stable as substitution, which powers of `below` would not be.
    """
    count = below.shape[-1]
    size = 1 << (count - 1).bit_length()
    # few axes, because kernels of phones have at most six
    flat = F.pad(below, (0, size - count, 0, size - count)).flatten(0, -3).flatten(-2)
    tiles, width = torch.ones_like(flat[..., :size, None, None]), 1
    while width < size:
        place = torch.arange(0, size, 2 * width)[:, None, None]
        row, column = torch.arange(width)[:, None] + width, torch.arange(width)
        index = ((place + row) * size + place + column).flatten().to(below.device)
        squares = flat.index_select(-1, index).unflatten(-1, (-1, width, width))
        early, late = tiles.unflatten(-3, (-1, 2)).unbind(-3)
        tiles, width = assembled(tiles, -(late @ squares @ early)), 2 * width
    return tiles[:, 0, :count, :count].reshape(below.shape)
