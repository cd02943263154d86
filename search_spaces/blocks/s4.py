"""S4: a state space per channel whose matrix is diagonal minus rank one, started at HiPPO-LegS.

    h_t = A h_{t-1} + B x_t      y_t = Re(C h_t) + skip x_t      A, B from a = diag(pole) - p p^*, bilinear
    out = GLU(W_o gelu(y))

Gu et al. 2021, arXiv:2111.00396. The matrix is shared by all channels, each has its own step and C. Training
and prefill convolve with the kernel Re(C A^l B) by the FFT; the kernel is computed exactly for its length by
steps within, and dense jumps between, blocks of about sqrt(T) lags, instead of by the Cauchy kernel of the
paper, whose parameters mean a fixed length. Decode is the O(N) recurrence.

Shapes: B batch, T tokens, D d_model (also the channels), N state_dim (complex modes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers
from search_spaces.ops.linear import fill
from search_spaces.ops.long_conv import long_conv
from search_spaces.ops.low_rank_modes import (
    LowRankModes,
    System,
    low_rank_kernel,
    low_rank_products,
    low_rank_response,
    low_rank_state,
)
from search_spaces.ops.low_rank_pairs import LowRankPairs
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

STEP_RANGE = (1e-3, 1.0)
"""Of steps at the start. The papers' range ends at 0.1, for signals of thousands of samples: hardly a mode
fades within a few bytes, and text is learned more slowly (docs/decisions/0010)."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class S4(Block):
    """A time-invariant state space with `state_dim` complex modes, diagonal minus rank one."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 1.7e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"p", "b", "c_real", "c_imag"})

    state_dim: int = 16

    @classmethod
    def examples(cls) -> tuple[S4, ...]:
        """Few modes, and an odd number of them."""
        return (cls(state_dim=4), cls(state_dim=7))

    @classmethod
    def open_forms(cls) -> tuple[S4, ...]:
        """A small state."""
        return (cls(state_dim=16),)

    def check(self, d_model: int) -> None:
        """The number of modes is a whole number."""
        check_whole_numbers(self, "state_dim")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return S4Mixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Real and imaginary parts of all modes."""
        return {"modes": StateShape((2, d_model, self.state_dim), exact=True)}

    def layout(self) -> Layout:
        """Channels, and the modes that all of them share."""
        return Layout(
            dict.fromkeys(("log_fade", "turn"), "N")
            | dict.fromkeys(("p", "b"), ". N")
            | dict.fromkeys(("c_real", "c_imag"), "D N")
            | {"log_step": "D", "skip": "D", "wo": ". D D"},
            "DN",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """The output projection, and the sums over modes: the kernel once, the state for each sequence.

        A product of two complex numbers counts as one multiply-add, as PyTorch's counter has it.
        """
        matrices = 2 * d_model * d_model
        kernel, state = low_rank_products(scenario.prompt, d_model, self.state_dim)
        return Cost(
            matrices + 2 * d_model * (self.state_dim + 1) + 6 * self.state_dim,
            2 * (scenario.batch * (scenario.prompt * matrices + state) + kernel),
            2 * scenario.batch * matrices,
        )


class S4Mixer(Mixer):
    """The module of `S4`."""

    def __init__(self, spec: S4, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.log_step = nn.Parameter(torch.empty(d_model))
        self.log_fade = nn.Parameter(torch.empty(spec.state_dim))
        self.turn = nn.Parameter(torch.empty(spec.state_dim))
        self.p = nn.Parameter(torch.empty(2, spec.state_dim))
        self.b = nn.Parameter(torch.empty(2, spec.state_dim))
        self.c_real = nn.Parameter(torch.empty(d_model, spec.state_dim))
        self.c_imag = nn.Parameter(torch.empty(d_model, spec.state_dim))
        self.skip = nn.Parameter(torch.empty(d_model))
        self.wo = nn.Parameter(torch.empty(2, d_model, d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """HiPPO-LegS; outputs of normal values of the usual variance."""
        pole, p, b = hippo(self.turn.shape[0])
        self.log_fade.copy_((-pole.real).log())
        self.turn.copy_(pole.imag)
        self.p.copy_(torch.stack((p.real, p.imag)))
        self.b.copy_(torch.stack((b.real, b.imag)))
        low, high = map(math.log, STEP_RANGE)
        self.log_step.uniform_(low, high, generator=dice)
        for part in (self.c_real, self.c_imag):
            part.normal_(std=0.5**0.5, generator=dice)
        self.skip.normal_(generator=dice)
        fill(self.wo, self.wo.shape[-1], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        system, c = self._system()
        kernel, near, far, jump = low_rank_kernel(system, c, x.shape[1])
        y = long_conv(x, kernel)
        if state is None:
            return Mixed(self._merge(x, y))
        start = None
        if position:
            start = _joined(state["modes"])
            y = y + low_rank_response(system, far, start, x.shape[1]).to(y.dtype)
        modes = low_rank_state(system, x, near, jump, start)
        return Mixed(self._merge(x, y), {"modes": _parted(modes)})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        system, c = self._system()
        modes = system.advanced(_joined(state["modes"]))
        modes = modes + system.fed() * x.to(system.dt.dtype)[..., None]
        y = (c * modes).sum(-1).real.to(x.dtype)
        return self._merge(x, y), {"modes": _parted(modes)}

    def _system(self) -> tuple[System, Tensor]:
        """The system, and C for its modes [D, N], in float32 at least; in programs, both in real numbers."""
        exact = torch.promote_types(self.turn.dtype, torch.float32)
        pole = -self.log_fade.to(exact).exp(), self.turn.to(exact)
        p, b, step = self.p.to(exact), self.b.to(exact), self.log_step.to(exact).exp()[:, None]
        c = self.c_real.to(exact), self.c_imag.to(exact)
        if torch.compiler.is_exporting():
            return LowRankPairs(torch.stack(pole), p, b, step), torch.cat((c[0], -c[1]), dim=-1)
        return LowRankModes(torch.complex(*pole), torch.complex(*p), torch.complex(*b), step), torch.complex(
            *c
        )

    def _merge(self, x: Tensor, y: Tensor) -> Tensor:
        mixed = F.gelu(y + self.skip * x)
        return F.glu(F.linear(mixed, self.wo.flatten(0, 1)), dim=-1)


def _joined(stored: Tensor) -> Tensor:
    """Modes [B, D, N] as the system has them, of their parts [B, 2, D, N]."""
    real, imag = stored.unbind(1)
    return torch.cat((real, imag), dim=-1) if torch.compiler.is_exporting() else torch.complex(real, imag)


def _parted(modes: Tensor) -> Tensor:
    """The parts [B, 2, D, N] of modes as the system has them."""
    parts = (modes.real, modes.imag) if modes.is_complex() else modes.chunk(2, dim=-1)
    return torch.stack(parts, dim=1)


@lru_cache(maxsize=32)
def hippo(modes: int) -> tuple[Tensor, Tensor, Tensor]:
    """HiPPO-LegS as diag(pole) - p p^* in the basis where it is so, with its input b; complex128 [N] each.

    Conjugate modes are neighbours, slow ones first, so that a leading slice is a valid system.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        n = torch.arange(modes, dtype=torch.float64)
        root = (2 * n + 1).sqrt()
        matrix = -torch.tril(root[:, None] * root, -1) - torch.diag(n + 1)
        low_rank, b = (n + 0.5).sqrt(), root
        skew = matrix + low_rank[:, None] * low_rank + 0.5 * torch.eye(modes, dtype=torch.float64)
        turn, basis = torch.linalg.eigh(-1j * skew.to(torch.complex128))
        order = sorted(range(modes), key=lambda i: (round(float(turn[i].abs()), 6), float(turn[i])))
        turn, basis = turn[order], basis[:, order]
        pole = torch.complex(torch.full_like(turn, -0.5), turn)
        return pole, basis.mH @ low_rank.to(basis.dtype), basis.mH @ b.to(basis.dtype)
