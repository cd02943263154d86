"""The system of `low_rank_modes` in real numbers, for runtimes that have no complex ones.

The N complex modes are 2 N reals, real parts first. A step is the same in O(N), with

    A = 2 (1 - dt/2 a)^-1 - 1        (1 - dt/2 a)^-1 = diag(inverse) - fed (inverse p)^T, conjugates of p

and what `low_rank_modes` computes of a system it computes of this one, Re(c m) being (Re c, -Im c) . m.

Shapes: B batch, D channels, N modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.ops.low_rank_modes import power_of


@dataclass(frozen=True)
class LowRankPairs:
    """pole, p, b [2, N]: real and imaginary parts; dt [D, 1]."""

    pole: Tensor
    p: Tensor
    b: Tensor
    dt: Tensor

    def advanced(self, modes: Tensor) -> Tensor:
        """A times modes [..., D, 2N]."""
        return 2 * self._solved(modes) - modes

    def fed(self) -> Tensor:
        """B [D, 2N]."""
        return self._solved(self.dt * self.b.flatten())

    def jump(self, length: int) -> Tensor:
        """The dense power A^length [D, 2N, 2N] for a power of two."""
        eye = torch.eye(self.p.numel(), dtype=self.p.dtype, device=self.p.device)
        return power_of(self.advanced(eye[:, None].expand(-1, len(self.dt), -1)), length)

    def _solved(self, modes: Tensor) -> Tensor:
        """(1 - dt/2 a)^-1 modes."""
        half = self.dt / 2
        real, imag = 1 - half * self.pole[0], -half * self.pole[1]
        size = real.square() + imag.square()
        inverse = torch.cat((real / size, -imag / size), dim=-1)
        p = self.p.flatten()
        conjugate = torch.cat((self.p[0], -self.p[1]))
        spread = product(inverse, p)
        direct = product(inverse, modes)
        above, below = _total(product(conjugate, direct)), _total(product(conjugate, spread))
        real, imag = (1 + half * below[..., :1]), half * below[..., 1:]
        divisor = torch.cat((real, -imag), dim=-1) / (real.square() + imag.square())
        return direct - half * product(spread, _spread(product(above, divisor), self.p.shape[1]))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of complex numbers [..., 2N], real parts first."""
    (a_real, a_imag), (b_real, b_imag) = a.chunk(2, dim=-1), b.chunk(2, dim=-1)
    return torch.cat((a_real * b_real - a_imag * b_imag, a_real * b_imag + a_imag * b_real), dim=-1)


def _total(modes: Tensor) -> Tensor:
    """The complex sum [..., 2] over modes [..., 2N]."""
    return modes.unflatten(-1, (2, -1)).sum(-1)


def _spread(number: Tensor, count: int) -> Tensor:
    """A complex number [..., 2] for each of so many modes [..., 2N]."""
    return number[..., None].expand(*number.shape, count).flatten(-2)
