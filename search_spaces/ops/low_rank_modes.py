"""A linear system whose matrix is diagonal minus a rank-one term, discretised by the bilinear rule.

    a = diag(pole) - p p^*        A = (1 - dt/2 a)^-1 (1 + dt/2 a)        B = (1 - dt/2 a)^-1 dt b

One step costs O(N), by the Woodbury identity; long sequences are cut into blocks of about sqrt(T) tokens, and
jump over a block with the dense power A^L. All numbers are complex.

Shapes: B batch, T tokens, D channels, N modes, C blocks, L block length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRankModes:
    """pole, p, b [N]; dt [D, 1] real."""

    pole: Tensor
    p: Tensor
    b: Tensor
    dt: Tensor

    def advanced(self, modes: Tensor) -> Tensor:
        """A times modes [..., D, N]."""
        half = self.dt / 2
        return self._solved(modes + half * (self.pole * modes - self.p * _dot(self.p, modes)))

    def fed(self) -> Tensor:
        """B [D, N]."""
        return self._solved(self.dt * self.b)

    def jump(self, length: int) -> Tensor:
        """The dense power A^length [D, N, N] for a power of two."""
        eye = torch.eye(len(self.p), dtype=self.p.dtype, device=self.p.device)
        return power_of(self.advanced(eye[:, None].expand(-1, len(self.dt), -1)), length)

    def _solved(self, modes: Tensor) -> Tensor:
        """(1 - dt/2 a)^-1 modes."""
        half = self.dt / 2
        inverse = 1 / (1 - half * self.pole)
        spread = inverse * self.p
        direct = inverse * modes
        return direct - half * spread * _dot(self.p, direct) / (1 + half * _dot(self.p, spread))


class System(Protocol):
    """A system of complex numbers, or the same in reals (`low_rank_pairs`), with M numbers for its modes."""

    @property
    def dt(self) -> Tensor:
        """Lengths of steps [D, 1]."""

    def advanced(self, modes: Tensor) -> Tensor:
        """A times modes [..., D, M]."""

    def fed(self) -> Tensor:
        """B [D, M]."""

    def jump(self, length: int) -> Tensor:
        """The dense power A^length [D, M, M] for a power of two."""


def power_of(columns: Tensor, length: int) -> Tensor:
    """The power [D, M, M] of a matrix whose columns are [M, D, M], for a power of two."""
    power = columns.permute(1, 2, 0)
    for _ in range(length.bit_length() - 1):
        power = power @ power
    return power


def block_length(count: int) -> int:
    """The power of two from the square root on."""
    return 1 << max(0, math.ceil(math.log2(max(1, count)) / 2))


def low_rank_kernel(system: System, c: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The kernel [D, T] = Re(c A^l B), and what it was made of: near, far, jump.

    near [D, N, L] are A^j B, far [D, C, N] are c A^{iL}, jump is A^L [D, N, N].
    """
    length = block_length(count)
    near = _orbit(system, system.fed(), length)
    jump = system.jump(length)
    rows = [c[:, None]]
    for _ in range(-(-count // length) - 1):
        rows.append(rows[-1] @ jump)
    far = torch.cat(rows, dim=1)
    return (far @ near).real.flatten(1)[:, :count], near, far, jump


def low_rank_state(system: System, u: Tensor, near: Tensor, jump: Tensor, start: Tensor | None) -> Tensor:
    """The modes [B, D, N] after u [B, T, D], from `start` [B, D, N]."""
    count, length = u.shape[1], near.shape[-1]
    first = count % length
    values = u.permute(2, 0, 1).to(near.dtype)
    if first:
        modes = (values[..., :first] @ near[..., :first].flip(-1).mT).transpose(0, 1)
    else:  # not as a product of nothing: ExecuTorch leaves that as the memory was
        modes = values.new_zeros(values.shape[1], values.shape[0], near.shape[1])
    if start is not None:
        for _ in range(first):
            start = system.advanced(start)
        modes = modes + start
    if count == first:
        return modes
    added = values[..., first:].unflatten(-1, (-1, length)).flatten(1, 2) @ near.flip(-1).mT
    modes = modes.transpose(0, 1)
    for more in added.unflatten(1, (u.shape[0], -1)).unbind(2):
        modes = modes @ jump.mT + more
    return modes.transpose(0, 1)


def low_rank_response(system: System, far: Tensor, start: Tensor, count: int) -> Tensor:
    """The outputs of `count` tokens that come from the modes before them [B, T, D]: Re(c A^{t+1} start)."""
    length = block_length(count)
    near = _orbit(system, system.advanced(start), length)
    heard = (far @ near.permute(1, 2, 0, 3).flatten(2)).real
    return heard.unflatten(-1, (start.shape[0], -1)).permute(2, 1, 3, 0).flatten(1, 2)[:, :count]


def low_rank_products(count: int, channels: int, modes: int) -> tuple[int, int]:
    """Products of complex numbers in `low_rank_kernel` (once) and `low_rank_state` (for a batch of one)."""
    length = block_length(count)
    blocks = -(-count // length)
    jump = modes**3 * (length.bit_length() - 1)
    kernel = jump + (blocks - 1) * modes**2 + blocks * length * modes
    state = count * modes + (count // length) * modes**2
    return channels * kernel, channels * state


def _orbit(system: System, modes: Tensor, length: int) -> Tensor:
    """modes, A modes, A^2 modes ... [..., D, N, L]."""
    orbit = [modes]
    for _ in range(length - 1):
        orbit.append(system.advanced(orbit[-1]))
    return torch.stack(orbit, dim=-1)


def _dot(p: Tensor, modes: Tensor) -> Tensor:
    """p^* modes [..., 1]."""
    return (p.conj() * modes).sum(-1, keepdim=True)
