"""mLSTM: linear attention with an exponential input gate, a forget gate and a normaliser.

    S_t = f_t S_{t-1} + i_t k_t v_t'        n_t = f_t n_{t-1} + i_t k_t
    y_t = W_o (group_norm(S_t' q_t / max(|n_t . q_t|, 1)) * sigmoid(W_z x_t))
    i_t = exp(cap(W_i x_t + b_i)),  f_t = sigmoid or exp of cap(W_f x_t + b_f),  cap(a) = 15 tanh(a / 15)

Beck et al. 2024, arXiv:2405.04517; without convolution and with capped gates as in Beck et al. 2025,
arXiv:2503.13427. Queries are scaled by N^-1/2. `state_dim` is the width of queries and keys of one head,
`head_dim` that of its values; the memory is state_dim x head_dim per head, for any length.

Shapes: B batch, T tokens, D d_model, H heads, N state_dim, P head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_whole_numbers, check_word
from search_spaces.blocks.layouts import HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import products
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.mlstm import Cell, mlstm, mlstm_step
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

CAP = 15.0
FORGET_GATES = ("sigmoid", "exponential")
FORGET_BIAS = (3.0, 6.0)


@blocks.add
@dataclass(frozen=True, kw_only=True)
class MLSTM(Block):
    """A normalised matrix memory per head, with scalar gates."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"
    learning_rate: ClassVar[float] = 7.5e-3
    elementwise: ClassVar[frozenset[str]] = frozenset({"gate_bias", "norm"})

    num_heads: int = 4
    head_dim: int = 32
    state_dim: int = 16
    forget_gate: str = "sigmoid"

    @classmethod
    def examples(cls) -> tuple[MLSTM, ...]:
        """Keys narrower and wider than values, both forget gates."""
        return (
            cls(num_heads=2, head_dim=16, state_dim=8),
            cls(num_heads=3, head_dim=8, state_dim=12, forget_gate="exponential"),
        )

    @classmethod
    def open_forms(cls) -> tuple[MLSTM, ...]:
        """Two sizes of the state."""
        return (cls(num_heads=4, head_dim=16, state_dim=one_of(16, 32)),)

    def check(self, d_model: int) -> None:
        """One value alone cannot be normalised."""
        check_whole_numbers(self, "num_heads", "state_dim")
        check_whole_numbers(self, "head_dim", at_least=2)
        check_word(self, "forget_gate", FORGET_GATES)

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return MLSTMMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """A matrix, a vector and the logarithm of their common scale per head."""
        return {
            "memory": StateShape((self.num_heads, self.state_dim, self.head_dim), exact=True),
            "normaliser": StateShape((self.num_heads, self.state_dim), exact=True),
            "peak": StateShape((self.num_heads,), exact=True),
        }

    def layout(self) -> Layout:
        """Heads, and the channels of keys and values."""
        gates = {"wz": "H V D", "gates": ". H D", "gate_bias": ". H", "norm": "H V"}
        return Layout(HEADS | gates, "DHNV")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, the products within chunks, and those with the memory."""
        keys, values = self.num_heads * self.state_dim, self.num_heads * self.head_dim
        matrices = d_model * (2 * keys + 3 * values + 2 * self.num_heads)
        mixing = products(scenario.prompt, self.num_heads, self.state_dim, self.head_dim, shared=False)
        return Cost(
            matrices + 2 * self.num_heads + values,
            2 * scenario.batch * (scenario.prompt * matrices + mixing),
            2 * scenario.batch * (matrices + keys * self.head_dim),
        )


class MLSTMMixer(Mixer):
    """The module of `MLSTM`."""

    def __init__(self, spec: MLSTM, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        self.sigmoid = spec.forget_gate == "sigmoid"
        heads, keys, values = spec.num_heads, spec.state_dim, spec.head_dim
        self.wq = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wk = nn.Parameter(torch.empty(heads, keys, d_model))
        self.wv = nn.Parameter(torch.empty(heads, values, d_model))
        self.wz = nn.Parameter(torch.empty(heads, values, d_model))
        self.gates = nn.Parameter(torch.empty(2, heads, d_model))
        self.gate_bias = nn.Parameter(torch.empty(2, heads))
        self.norm = nn.Parameter(torch.empty(heads, values))
        self.wo = nn.Parameter(torch.empty(d_model, heads, values))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """As in the paper's code, gates start as constants: f from 0.95 to 0.998, or 1 if exponential."""
        for weight in (self.wq, self.wk, self.wv, self.wz):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)
        self.gates.zero_()
        self.gate_bias.zero_()
        if self.sigmoid:
            heads = self.gate_bias.shape[1]
            self.gate_bias[1].copy_(torch.linspace(*FORGET_BIAS, heads, device=self.gate_bias.device))
        self.norm.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        y, cell = mlstm(*self._project(x), cell=None if state is None else Cell(**state))
        return Mixed(self._merge(y, x), None if state is None else cell._asdict())

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        y, cell = mlstm_step(*self._project(x), cell=Cell(**state))
        return self._merge(y, x), cell._asdict()

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q and k [..., H, N], v [..., H, P], and the logarithms of the gates [..., H]."""
        exact = torch.promote_types(x.dtype, torch.float32)
        gates = project(x, self.gates).to(exact) + self.gate_bias.to(exact)
        w, g = (CAP * torch.tanh(gates / CAP)).unbind(-2)
        q = project(x, self.wq) * self.wq.shape[1] ** -0.5
        return q, project(x, self.wk), project(x, self.wv), w, F.logsigmoid(g) if self.sigmoid else g

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        normed = F.layer_norm(y, y.shape[-1:], eps=1e-6) * self.norm
        return merge(normed * torch.sigmoid(project(x, self.wz)), self.wo)
