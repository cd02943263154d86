"""S4D: a diagonal state space per channel, fixed in time, so that it is a long convolution.

    h_t = A h_{t-1} + B x_t      y_t = 2 Re(C h_t) + skip x_t      A = exp(dt a), B = (A - 1) / a
    out = GLU(W_o gelu(y))

Gu et al. 2022, arXiv:2206.11893: complex modes a_n = -exp(log_fade_n) + i turn_n, half of conjugate pairs,
discretised by zero-order hold; `init="lin"` starts them at -1/2 + i pi n (S4D-Lin), `"inv"` at the inverse
frequencies of S4D-Inv. Training and prefill convolve with the kernel 2 Re(C A^l B) by the FFT; decode is the
recurrence. The mixing does not depend on the input.

Shapes: B batch, T tokens, D d_model (also the channels), N state_dim (complex modes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers, check_word
from search_spaces.language.choices import one_of
from search_spaces.ops.linear import fill
from search_spaces.ops.long_conv import long_conv
from search_spaces.ops.modes import mode_kernel, mode_products, mode_state
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

INITS = ("lin", "inv")
STEP_RANGE = (1e-3, 1.0)
"""Of steps at the start. The papers' range ends at 0.1, for signals of thousands of samples: hardly a mode
fades within a few bytes, and text is learned more slowly (docs/decisions/0010)."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class S4D(Block):
    """A time-invariant diagonal state space with `state_dim` complex modes per channel."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 1.7e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"log_fade", "turn", "c_real", "c_imag"})

    state_dim: int = 16
    init: str = "lin"

    @classmethod
    def examples(cls) -> tuple[S4D, ...]:
        """Both ways to start."""
        return (cls(state_dim=4), cls(state_dim=9, init="inv"))

    @classmethod
    def open_forms(cls) -> tuple[S4D, ...]:
        """Two sizes of the state."""
        return (cls(state_dim=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """The number of modes is a whole number, the start a known one."""
        check_whole_numbers(self, "state_dim")
        check_word(self, "init", INITS)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return S4DMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """Real and imaginary parts of all modes."""
        return {"modes": StateShape((2, d_model, self.state_dim), exact=True)}

    def layout(self) -> Layout:
        """Channels and modes."""
        modes = dict.fromkeys(("log_fade", "turn", "c_real", "c_imag"), "D N")
        return Layout(modes | {"log_step": "D", "skip": "D", "wo": ". D D"}, "DN")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """The output projection, and the sums over modes: the kernel once, the state for each sequence."""
        matrices = 2 * d_model * d_model
        kernel, state = mode_products(scenario.prompt, d_model, self.state_dim)
        return Cost(
            matrices + d_model * (4 * self.state_dim + 2),
            2 * (scenario.batch * (scenario.prompt * matrices + state) + kernel),
            2 * scenario.batch * matrices,
        )


class S4DMixer(Mixer):
    """The module of `S4D`."""

    def __init__(self, spec: S4D, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.init = spec.init
        self.log_step = nn.Parameter(torch.empty(d_model))
        self.log_fade = nn.Parameter(torch.empty(d_model, spec.state_dim))
        self.turn = nn.Parameter(torch.empty(d_model, spec.state_dim))
        self.c_real = nn.Parameter(torch.empty(d_model, spec.state_dim))
        self.c_imag = nn.Parameter(torch.empty(d_model, spec.state_dim))
        self.skip = nn.Parameter(torch.empty(d_model))
        self.wo = nn.Parameter(torch.empty(2, d_model, d_model))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """The published start but for `STEP_RANGE`; outputs of normal values of the usual variance."""
        modes = torch.arange(self.turn.shape[1], device=self.turn.device)
        count = len(modes)
        inverse = 2 * count / math.pi * (2 * count / (2 * modes + 1) - 1)
        self.turn.copy_((math.pi * modes if self.init == "lin" else inverse).expand_as(self.turn))
        self.log_fade.fill_(math.log(0.5))
        low, high = map(math.log, STEP_RANGE)
        self.log_step.uniform_(low, high, generator=dice)
        for part in (self.c_real, self.c_imag):
            part.normal_(std=0.5**0.5, generator=dice)
        self.skip.normal_(generator=dice)
        fill(self.wo, self.wo.shape[-1], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        count = x.shape[1]
        log_fade, turn, b_real, b_imag = self._discrete()
        c_real, c_imag = 2 * self.c_real.to(turn.dtype), 2 * self.c_imag.to(turn.dtype)
        gain_real, gain_imag = c_real * b_real - c_imag * b_imag, c_real * b_imag + c_imag * b_real
        y = long_conv(x, mode_kernel(gain_real, gain_imag, log_fade, turn, count))
        if state is None:
            return Mixed(self._merge(x, y))
        real, imag = mode_state(x.to(turn.dtype), log_fade, turn)
        modes = torch.stack((real * b_real - imag * b_imag, real * b_imag + imag * b_real), dim=1)
        if position:
            y = y + self._response(state["modes"], c_real, c_imag, count).to(y.dtype)
            modes = modes + torch.stack(_times(_turned(log_fade, turn, count), state["modes"]), dim=1)
        return Mixed(self._merge(x, y), {"modes": modes})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        log_fade, turn, b_real, b_imag = self._discrete()
        real, imag = _times(_turned(log_fade, turn, 1), state["modes"])
        u = x.to(turn.dtype)[..., None]
        real, imag = real + b_real * u, imag + b_imag * u
        y = 2 * (real * self.c_real.to(turn.dtype) - imag * self.c_imag.to(turn.dtype)).sum(-1)
        return self._merge(x, y.to(x.dtype)), {"modes": torch.stack((real, imag), dim=1)}

    def _discrete(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logarithm and angle of A, and B as real and imaginary parts, all [D, N], in float32 at least."""
        exact = torch.promote_types(self.turn.dtype, torch.float32)
        step = self.log_step.to(exact).exp()[:, None]
        fade, turn = self.log_fade.to(exact).exp(), self.turn.to(exact)
        log_fade, angle = -step * fade, step * turn
        size = log_fade.exp()
        # (A - 1) / a with a = -fade + i turn
        real, imag = size * angle.cos() - 1, size * angle.sin()
        scale = fade.square() + turn.square()
        return log_fade, angle, (imag * turn - real * fade) / scale, (-imag * fade - real * turn) / scale

    def _response(self, modes: Tensor, c_real: Tensor, c_imag: Tensor, count: int) -> Tensor:
        """The outputs of `count` tokens that come from the state before them [B, T, D]."""
        log_fade, turn, _, _ = self._discrete()
        real, imag = _times(_turned(log_fade, turn, 1), modes)
        real, imag = real * c_real - imag * c_imag, real * c_imag + imag * c_real
        batch = modes.shape[0]
        fades, turns = (part.repeat(batch, 1) for part in (log_fade, turn))
        heard = mode_kernel(real.flatten(0, 1), imag.flatten(0, 1), fades, turns, count)
        return heard.unflatten(0, (batch, -1)).mT

    def _merge(self, x: Tensor, y: Tensor) -> Tensor:
        mixed = F.gelu(y + self.skip * x)
        return F.glu(F.linear(mixed, self.wo.flatten(0, 1)), dim=-1)


def _turned(log_fade: Tensor, turn: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A to the power `count`."""
    size = (count * log_fade).exp()
    return size * (count * turn).cos(), size * (count * turn).sin()


def _times(factor: tuple[Tensor, Tensor], modes: Tensor) -> tuple[Tensor, Tensor]:
    """Complex products of a factor [D, N] with modes [B, 2, D, N]."""
    real, imag = modes.unbind(1)
    return factor[0] * real - factor[1] * imag, factor[0] * imag + factor[1] * real
