"""RG-LRU: Griffin's recurrent block, a diagonal recurrence gated by its input.

    h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t * u_t)        a_t = exp(-8 softplus(L) sigmoid(r_t))
    out = W_o (h * gelu(W_y x))        u = conv4(W_x x)        i_t = sigmoid(V_i u_t)        r_t = V_r u_t

De et al. 2024, arXiv:2402.19427, sections 2.3 and 2.4. V_i and V_r are block-diagonal, with
one block per head. The first token is not scaled, because there is no earlier state. The state
is one value per channel. With `biases` W_x, W_y and W_o have one, as in RecurrentGemma (Botev et al. 2024,
arXiv:2404.07839).

Shapes: B batch, T tokens, D d_model, H heads (blocks of the gates), P head_dim, k taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_flag, check_whole_numbers
from search_spaces.ops.activations import gelu_tanh
from search_spaces.ops.linear import fill, linear_per_head, merge, project
from search_spaces.ops.scan import scan
from search_spaces.ops.shards import biased
from search_spaces.ops.short_conv import short_conv
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

SHARPNESS = 8.0
A_RANGE = (0.9, 0.999)
SMALLEST = 1e-12


@blocks.add
@dataclass(frozen=True, kw_only=True)
class RGLRU(Block):
    """A gated diagonal recurrence over `num_heads` x `head_dim` channels, behind a short convolution."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 2.5e-2
    elementwise: ClassVar[frozenset[str]] = frozenset(
        {"conv", "conv_bias", "input_bias", "decay_bias", "decay", "x_bias", "y_bias"}
    )

    num_heads: int = 4
    head_dim: int = 32
    conv_kernel: int = 4
    biases: bool = False

    @classmethod
    def examples(cls) -> tuple[RGLRU, ...]:
        """Two shapes of gates, without biases and with them."""
        return (
            cls(num_heads=2, head_dim=8),
            cls(num_heads=3, head_dim=16, conv_kernel=3),
            cls(num_heads=2, head_dim=4, biases=True),
        )

    @classmethod
    def open_forms(cls) -> tuple[RGLRU, ...]:
        """Four heads."""
        return (cls(num_heads=4, head_dim=16),)

    def check(self, d_model: int) -> None:
        """All sizes are whole numbers."""
        check_whole_numbers(self, "num_heads", "head_dim", "conv_kernel")
        check_flag(self, "biases")

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return RGLRUMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """One value per channel, and the last inputs of the short convolution."""
        inner = self.num_heads * self.head_dim
        return {
            "hidden": StateShape((self.num_heads, self.head_dim), exact=True),
            "conv": StateShape((self.conv_kernel - 1, inner)),
        }

    def layout(self) -> Layout:
        """Heads and their channels."""
        return Layout(
            dict.fromkeys(("wx", "wy"), "H K D")
            | dict.fromkeys(("conv_bias", "input_bias", "decay_bias", "decay"), "H K")
            | {"conv": "H K .", "input_gate": "H K K", "decay_gate": "H K K", "wo": "D H K"}
            | {"x_bias": "H K", "y_bias": "H K", "out_bias": "D"},
            "DHK",
        )

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Three projections and two block-diagonal gates."""
        inner = self.num_heads * self.head_dim
        matrices = 3 * d_model * inner + 2 * inner * self.head_dim
        per_token = 2 * scenario.batch * matrices
        params = matrices + inner * (self.conv_kernel + 1 + 3) + self.biases * (2 * inner + d_model)
        return Cost(params, scenario.prompt * per_token, per_token)


class RGLRUMixer(Mixer):
    """The module of `RGLRU`.

    Weights that go into a batched product or a vectorised function are made contiguous first, so that a slice
    of a larger weight takes the same path, and gives the same bits, as its copy.
    """

    def __init__(self, spec: RGLRU, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        heads, width, taps = spec.num_heads, spec.head_dim, spec.conv_kernel
        self.wx = nn.Parameter(torch.empty(heads, width, d_model))
        self.wy = nn.Parameter(torch.empty(heads, width, d_model))
        self.conv = nn.Parameter(torch.empty(heads, width, taps))
        self.conv_bias = nn.Parameter(torch.empty(heads, width))
        self.input_gate = nn.Parameter(torch.empty(heads, width, width))
        self.input_bias = nn.Parameter(torch.empty(heads, width))
        self.decay_gate = nn.Parameter(torch.empty(heads, width, width))
        self.decay_bias = nn.Parameter(torch.empty(heads, width))
        self.decay = nn.Parameter(torch.empty(heads, width))
        self.wo = nn.Parameter(torch.empty(d_model, heads, width))
        self.x_bias = nn.Parameter(torch.empty(heads, width)) if spec.biases else None
        self.y_bias = nn.Parameter(torch.empty(heads, width)) if spec.biases else None
        self.out_bias = nn.Parameter(torch.empty(d_model)) if spec.biases else None

    def reset_parameters(self, dice: torch.Generator) -> None:
        """As in the paper: a between 0.9 and 0.999 where the gate is fully open."""
        for weight in (self.wx, self.wy, self.conv, self.input_gate, self.decay_gate):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        for bias in (
            self.conv_bias,
            self.input_bias,
            self.decay_bias,
            self.x_bias,
            self.y_bias,
            self.out_bias,
        ):
            if bias is not None:
                bias.zero_()
        a = self.decay.uniform_(*A_RANGE, generator=dice)
        a.copy_((-a.log() / SHARPNESS).expm1().log())  # softplus(L) = -log(a) / 8

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        u, last = self._convolve(x, None if state is None else state["conv"])
        a, b = self._recurrence(u, first=position == 0)
        before = None if state is None else self._exact(state["hidden"]).flatten(1)
        h = scan(a.flatten(2), b.flatten(2), before).unflatten(-1, self.decay.shape)
        kept = None if state is None else {"hidden": h[:, -1].clone(), "conv": last}
        return Mixed(self._merge(h.to(x.dtype), x), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        u, last = self._convolve(x[:, None], state["conv"])
        a, b = self._recurrence(u, first=position == 0)
        h = torch.addcmul(b[:, 0], a[:, 0], self._exact(state["hidden"]))
        return self._merge(h.to(x.dtype), x), {"hidden": h, "conv": last}

    def _convolve(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """u [B, T, H, P] and the last inputs of the convolution."""
        u = project(x, self.wx) if self.x_bias is None else project(x, self.wx) + self.x_bias
        u, last = short_conv(u.flatten(-2), self.conv.flatten(0, 1), self.conv_bias.flatten(), before)
        return u.unflatten(-1, self.decay.shape), last

    def _recurrence(self, u: Tensor, first: bool | Tensor) -> tuple[Tensor, Tensor]:
        """a and b [B, T, H, P] of the scan; `first` says that u begins the sequence."""
        i = self._gate(u, self.input_gate, self.input_bias)
        r = self._gate(u, self.decay_gate, self.decay_bias)
        log_a = -SHARPNESS * F.softplus(self._exact(self.decay.contiguous())) * self._exact(r)
        # where a is one, the slope of the root would be infinite
        scale = (-torch.expm1(2 * log_a)).clamp(min=SMALLEST).sqrt()
        if isinstance(first, Tensor) or first:
            begins = (torch.arange(u.shape[1], device=u.device) == 0)[:, None, None]
            begins = begins & first if isinstance(first, Tensor) else begins
            scale = scale.masked_fill(begins, 1.0)
        return log_a.exp(), scale * self._exact(i * u)

    @staticmethod
    def _gate(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A sigmoid gate of each head's own channels."""
        heads = u.flatten(0, 1).transpose(0, 1)
        mixed = linear_per_head(heads, weight).transpose(0, 1).unflatten(0, u.shape[:2])
        return torch.sigmoid(mixed + bias)

    def _merge(self, h: Tensor, x: Tensor) -> Tensor:
        gate = project(x, self.wy) if self.y_bias is None else project(x, self.wy) + self.y_bias
        return biased(merge(h * gelu_tanh(gate), self.wo), self.out_bias)

    @staticmethod
    def _exact(x: Tensor) -> Tensor:
        return x if x.dtype is torch.float64 else x.float()
