"""Performer: softmax attention by random features, at a cost linear in tokens.

    exp(q k / sqrt(K)) = E phi(q)phi(k)        phi_i(x) = exp(w_i x / K^1/4 - |x|^2 / (2 sqrt(K))) / sqrt(M)
    y_t = W_o concat_h sum_s d_h^(t-s) phi(q_th)phi(k_sh) v_sh / sum_s d_h^(t-s) phi(q_th)phi(k_sh)

FAVOR+ (Choromanski et al. 2020, arXiv:2009.14794): positive features of orthogonal normal directions w_i,
with rotary positions. With more features, at no further parameters, the output nears that of attention with
the same weights.

The paper's form has `decay="none"`: d_h = 1. Random features blur which token is the last one, and the block
learns slowly; constant decays (`ops.decay_attention.DECAYS`) restore that without parameters. What is
estimated is then attention with a bias linear in the distance (Press et al. 2021, arXiv:2108.12409); see
docs/decisions/0010.

The directions. They are a constant: drawn once from a fixed seed for (num_features, head_dim), the same for
all heads and layers. A parameter could not be sliced: a leading slice of orthogonal directions is not
orthogonal, and what approximates exp(q k) at one width does not at another. Training does not redraw them.

The largest exponent is subtracted, or large keys would overflow. For a query any factor cancels. For keys it
must be the same for all, so a running maximum m_t over keys and features is carried with the sums, which fade
by d_h exp(m_{t-1} - m_t) as it grows: nothing is taken from the future, and decode is prefill. The maximum
itself fades (a little slower than what it stands for), or a large key would suppress all later ones.

Shapes: B batch, T tokens, D d_model, H heads, K head_dim, M num_features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_even_numbers, check_whole_numbers, check_word
from search_spaces.blocks.layouts import HEADS
from search_spaces.language.choices import one_of
from search_spaces.ops.decay_attention import (
    DECAYS,
    constant_decays,
    decay_attention,
    decay_attention_step,
    products,
)
from search_spaces.ops.features import normalised, orthogonal_directions, with_ones
from search_spaces.ops.linear import fill, merge, project
from search_spaces.ops.rotary import rotate
from search_spaces.ops.running_maximum import running_maximum
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

SLOWER = 1 - 2.0**-10
"""How much slower the largest exponent fades than the sums: rounding must not make a decay into growth."""


MOST_FEATURES, MOST_CHANNELS = 2**13, 2**10
"""Of a head: its directions are orthogonalized when it is built."""


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Performer(Block):
    """`num_heads` heads of `head_dim` channels, whose softmax is approximated by `num_features` features."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    num_heads: int = 4
    head_dim: int = 32
    num_features: int = 64
    decay: str = "wide"

    @classmethod
    def examples(cls) -> tuple[Performer, ...]:
        """Fewer and more features than channels, that fade and do not."""
        many = cls(num_heads=2, head_dim=8, num_features=13)
        return (
            many,
            replace(many, decay="none"),
            cls(num_heads=3, head_dim=6, num_features=4, decay="narrow"),
        )

    @classmethod
    def open_forms(cls) -> tuple[Performer, ...]:
        """With and without decays."""
        return (cls(num_heads=4, head_dim=16, num_features=one_of(32, 64), decay=one_of("wide", "none")),)

    def check(self, d_model: int) -> None:
        """Rotary positions need pairs of channels, the decay is one of `DECAYS`, and directions are few."""
        check_word(self, "decay", DECAYS)
        check_whole_numbers(self, "num_heads", "head_dim", "num_features")
        check_even_numbers(self, "head_dim")
        for name, most in (("num_features", MOST_FEATURES), ("head_dim", MOST_CHANNELS)):
            if getattr(self, name) > most:
                raise IllegalArchitecture(
                    f"Performer: {name} must be at most {most:,}, because the directions are drawn"
                    f" when it is built, got {getattr(self, name):,}"
                )

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return PerformerMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The running sums of phi(k) v' and of phi(k), as one, and the largest exponent so far."""
        return {
            "memory": StateShape((self.num_heads, self.num_features, self.head_dim + 1), exact=True),
            "largest": StateShape((self.num_heads, 1), exact=True),
        }

    def layout(self) -> Layout:
        """Rotary positions give the channels of keys an order, constant decays the heads."""
        layout = Layout(HEADS | {"wq": "H K D", "wk": "H K D"}, "DHV")
        return layout if self.decay == "none" else layout.with_order("H")

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Projections, features, and the chunks of the running sums."""
        params = 4 * d_model * self.num_heads * self.head_dim
        values = self.head_dim + 1
        mapped = 2 * self.num_heads * self.num_features * self.head_dim
        summed = products(scenario.prompt, self.num_heads, self.num_features, values, shared=False)
        prefill = scenario.prompt * (params + mapped) + summed
        decode = params + mapped + self.num_heads * self.num_features * values
        return Cost(params, 2 * scenario.batch * prefill, 2 * scenario.batch * decode)


class PerformerMixer(Mixer):
    """The module of `Performer`."""

    def __init__(self, spec: Performer, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        heads, width = spec.num_heads, spec.head_dim
        self.decay = spec.decay
        self.directions = orthogonal_directions(spec.num_features, width)
        self.placed = self.directions.float()
        self.wq = nn.Parameter(torch.empty(heads, width, d_model))
        self.wk = nn.Parameter(torch.empty(heads, width, d_model))
        self.wv = nn.Parameter(torch.empty(heads, width, d_model))
        self.wo = nn.Parameter(torch.empty(d_model, heads, width))

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Normal values of the usual variance."""
        for weight in (self.wq, self.wk, self.wv):
            fill(weight, weight.shape[-1], dice)
        fill(self.wo, self.wo.shape[1] * self.wo.shape[2], dice)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        q, k, v = self._project(x, position)
        g = constant_decays(self.decay, k.shape[2], k)
        faded = SLOWER * g * torch.arange(1, k.shape[1] + 1, device=k.device, dtype=k.dtype)[:, None]
        largest = running_maximum(k.detach().amax(-1) - faded, 1) + faded
        if state is not None and position > 0:
            before = state["largest"].to(k.dtype).mT
            largest = torch.maximum(largest, before + faded)
        else:
            before = largest[:, :1]
        g = g + torch.cat((before, largest[:, :-1]), dim=1) - largest
        k = (k - largest[..., None]).exp().to(x.dtype)
        memory = None if state is None else state["memory"]
        y, last = decay_attention(q, k, v, g, memory, final=state is not None)
        kept = None if last is None else {"memory": last, "largest": largest[:, -1, :, None].clone()}
        return Mixed(merge(normalised(y), self.wo), kept)

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        q, k, v = (part[:, 0] for part in self._project(x[:, None], position))
        own = k.detach().amax(-1, keepdim=True)
        before = state["largest"].to(k.dtype)
        if isinstance(position, Tensor):
            before = torch.where(position == 0, own, before)
        elif position == 0:
            before = own
        g = constant_decays(self.decay, k.shape[1], k)[:, None]
        largest = torch.maximum(own, before + SLOWER * g)
        k = (k - largest).exp().to(x.dtype)
        y, memory = decay_attention_step(q, k, v, (g + before - largest)[..., 0], state["memory"])
        return merge(normalised(y), self.wo), {"memory": memory, "largest": largest}

    def _project(self, x: Tensor, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of queries and exponents of those of keys [B, T, H, M], and values with ones.

        A query's features lack factors that cancel.
        """
        q, k = (
            rotate(project(x, weight).transpose(1, 2), position).transpose(1, 2)
            for weight in (self.wq, self.wk)
        )
        directions = self._directions(x)
        q, k = (part.to(directions.dtype) * part.shape[-1] ** -0.25 for part in (q, k))
        # one product: ExecuTorch 1.5 finds no order for two that share a matrix
        to_q, to_k = F.linear(torch.stack((q, k)), directions)
        to_q = (to_q - to_q.detach().amax(-1, keepdim=True)).exp().to(x.dtype)
        return to_q, to_k - k.square().sum(-1, keepdim=True) / 2, with_ones(project(x, self.wv))

    def _directions(self, x: Tensor) -> Tensor:
        """Where x is, in float32 at least."""
        exact = torch.promote_types(x.dtype, torch.float32)
        if self.placed.device != x.device or self.placed.dtype != exact:
            # a tensor made in inference mode could not be used for learning later
            with torch.inference_mode(False):
                self.placed = self.directions.to(x.device, exact)
        return self.placed
