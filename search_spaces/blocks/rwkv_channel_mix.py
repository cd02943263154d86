"""The channel mixing of RWKV-6: a squared ReLU with an output gate, on tokens mixed with the one before.

    y_t = sigmoid(W_r a^r_t) * W_v max(0, W_k a^k_t)^2        a^i_t = x_t + m_i * (x_{t-1} - x_t)

Peng et al. 2024, arXiv:2404.05892. Because it looks one token back it has a state, unlike other channel
mixers: the last token.

Shapes: B batch, T tokens, D d_model, F hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_hidden
from search_spaces.ops.linear import fill
from search_spaces.ops.rwkv import token_shift
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario


@blocks.add
@dataclass(frozen=True, kw_only=True)
class RWKVChannelMix(Block):
    """A gated squared ReLU of `expansion` times d_model hidden channels, behind a token shift."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "channels"
    learning_rate: ClassVar[float] = 1.7e-2
    elementwise: ClassVar[frozenset[str]] = frozenset({"mix"})

    expansion: float = 3.5

    @classmethod
    def examples(cls) -> tuple[RWKVChannelMix, ...]:
        """Whole and broken expansions."""
        return (cls(expansion=2), cls(expansion=3.5))

    @classmethod
    def open_forms(cls) -> tuple[RWKVChannelMix, ...]:
        """Three times as wide as the model."""
        return (cls(expansion=3),)

    def hidden(self, d_model: int) -> int:
        """The hidden width."""
        return round(self.expansion * d_model)

    def check(self, d_model: int) -> None:
        """There must be at least one hidden channel."""
        check_hidden(self, d_model)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return RWKVChannelMixMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The last token."""
        return {"shift": StateShape((d_model,))}

    def layout(self) -> Layout:
        """The hidden channels."""
        return Layout({"mix": ". D", "wk": "F D", "wr": "D D", "wv": "D F"}, "DF")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Three matrices."""
        matrices = d_model * (2 * self.hidden(d_model) + d_model)
        per_token = 2 * scenario.batch * matrices
        return Cost(matrices + 2 * d_model, scenario.prompt * per_token, per_token)


class RWKVChannelMixMixer(Mixer):
    """The module of `RWKVChannelMix`."""

    def __init__(self, spec: RWKVChannelMix, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        hidden = spec.hidden(d_model)
        self.mix = nn.Parameter(torch.empty(2, d_model))
        self.wk = nn.Parameter(torch.empty(hidden, d_model))
        self.wr = nn.Parameter(torch.empty(d_model, d_model))
        self.wv = nn.Parameter(torch.empty(d_model, hidden))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance; shares of the token before uniform in [0, 1]."""
        self.mix.uniform_(generator=dice)
        for weight in (self.wk, self.wr, self.wv):
            fill(weight, weight.shape[-1], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        change, last = token_shift(x, None if state is None else state["shift"])
        key, gate = (torch.addcmul(x, change, share) for share in self.mix)
        hidden = F.relu(F.linear(key, self.wk)).square()
        y = torch.sigmoid(F.linear(gate, self.wr)) * F.linear(hidden, self.wv)
        return Mixed(y, None if state is None else {"shift": last})

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        mixed = self.forward(x[:, None], state)
        return mixed.y[:, 0], mixed.state or {}

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """The state is the token itself."""
        return {"shift": x.to(state["shift"].dtype)}
