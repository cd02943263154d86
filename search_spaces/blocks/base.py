"""The contract of a block: what may vary, its analytic cost, and the module it builds.

A block is a frozen dataclass of plain values (any of them may be left open with `one_of`). It builds a
`Mixer`, an ordinary `nn.Module` of fixed size without any code for search, supernets or bits.

What every block promises, and the contract tests check for each registered one:

* `forward` over a whole sequence equals `step` token by token, and may continue from a state;
* no token sees its future;
* `cost` counts what `build` allocates and what `forward` computes;
* `state` lists exactly what `init_state` allocates;
* every axis of a parameter is one dimension that may be searched (no fused or flattened axes), so that a
  leading slice of a larger parameter is a valid parameter of a smaller block;
* parameters are allocated empty by `build` and filled by `reset_parameters(dice)`; buffers are not used,
  because a module may live on the meta device and borrow its parameters.

Shapes: B batch, T tokens read, S tokens looked back at, D d_model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from foundation.registry import Registry
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario

blocks: Registry[type[Block]] = Registry("block", folder="search_spaces.blocks")

State = dict[str, Tensor]
"""What decode carries between tokens, by name; see `StateShape` for the layout of each tensor."""


@dataclass(frozen=True)
class StateShape:
    """The layout of one state tensor, for a batch of one.

    A fixed state has shape [B, *shape]. A state that keeps one entry `per_token` has shape
    [B, *shape[:-1], S, shape[-1]] with S = min(capacity, limit), and the token at position t is written to
    slot t % S. The last axis is a row: quantized states keep one scale per row. An `exact` state is a running
    sum, kept in float32 at least: bfloat16 would round slow decays and small additions away. A `derived` one
    follows from the weights, and is no memory of what was read.
    """

    shape: tuple[int, ...]
    per_token: bool = False
    limit: int | None = None
    exact: bool = False
    derived: bool = False

    def slots(self, capacity: int) -> int:
        """Entries kept along the token axis."""
        return capacity if self.limit is None else min(capacity, self.limit)

    def allocated(self, batch: int, capacity: int) -> tuple[int, ...]:
        """The shape of the tensor that `init_state` makes."""
        if not self.per_token:
            return (batch, *self.shape)
        return (batch, *self.shape[:-1], self.slots(capacity), self.shape[-1])


@dataclass(frozen=True)
class Cost:
    """The analytic cost of a block, for the batch of the scenario.

    `params` are scalars; FLOPs count 2 per multiply-add of matrix-like products (elementwise work is left
    out, as fvcore does): `prefill_flops` for reading the whole prompt, `decode_flops` for one new token at
    `scenario.decode_position`.
    """

    params: int = 0
    prefill_flops: int = 0
    decode_flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.params + other.params,
            self.prefill_flops + other.prefill_flops,
            self.decode_flops + other.decode_flops,
        )


class Mixed(NamedTuple):
    """What `Mixer.forward` returns: outputs [B, T, D], the new state, and an auxiliary loss if any.

    `metrics` are figures to report, by name, as detached scalars (e.g. the share of dropped tokens).
    """

    y: Tensor
    state: State | None = None
    loss: Tensor | None = None
    metrics: Mapping[str, Tensor] | None = None


class Mixer(nn.Module):
    """The module of a block. Sequence mixers override all three; channel mixers only `forward`."""

    def __init__(self, state: Mapping[str, StateShape] | None = None) -> None:
        super().__init__()
        self.state_shapes: dict[str, StateShape] = dict(state or {})

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """Mix x [B, T, D], whose first token stands at `position`.

        With `state=None` the sequence starts here and no state comes back. With a state, tokens before
        `position` are taken from it, it is consumed, and the state after the last token is returned.
        """
        raise NotImplementedError

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """Mix one token x [B, D] at `position` (an int, or a 0-dim tensor on the device).

        With a tensor it is mapped over rows at positions of their own (`network.rows`).
        """
        mixed = self.forward(x[:, None])
        return mixed.y[:, 0], state

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """The state after one token x [B, D] whose output is not needed; override where that is cheaper."""
        return self.step(x, state, position)[1]

    @property
    def learning(self) -> bool:
        """Whether this call trains. Rules that depend on the whole batch (capacities) apply only then."""
        return self.training and torch.is_grad_enabled()

    def init_state(self, batch: int, capacity: int) -> State:
        """An empty state with room for `capacity` tokens, on the device and in the dtype of the weights."""
        like = next(self.parameters())
        exact = torch.promote_types(like.dtype, torch.float32)
        return {
            name: like.new_zeros(shape.allocated(batch, capacity), dtype=exact if shape.exact else like.dtype)
            for name, shape in self.state_shapes.items()
        }

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Fill every parameter in place; `dice` is the only source of randomness."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Block(ABC):
    """A sequence mixer or a channel mixer as plain values.

    `learning_rate` is the peak Adam rate at which this kind of block learns best at the base size (see
    `search_spaces.network.scaling`, which carries it to others); one rate for all kinds would be a bias for
    some of them. `elementwise` names the parameters with more than one axis that are no matrices: taps,
    gains, biases, decays (see `search_spaces.network.parameter_roles`).
    """

    mixes: ClassVar[Literal["sequence", "channels"]]
    learning_rate: ClassVar[float] = 7e-3
    elementwise: ClassVar[frozenset[str]] = frozenset()

    def check(self, d_model: int) -> None:
        """Raise `IllegalArchitecture` if these values are not possible together, or not at this width."""

    def works_by_entry(self, name: str) -> bool:
        """Whether a parameter is no matrix, whatever its axes."""
        return name in self.elementwise

    def stays_exact(self, name: str) -> bool:
        """Whether a parameter has 32 bits, whatever the bits of its layer: by default what is no matrix.

        A decay or a norm of few bits is another one, and they are few values.
        """
        return self.works_by_entry(name)

    @abstractmethod
    def build(self, d_model: int) -> Mixer:
        """The module, its parameters allocated but not yet filled."""

    @abstractmethod
    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """Analytic parameters and FLOPs."""

    def state(self, d_model: int) -> dict[str, StateShape]:
        """What decode must carry; empty for a block without memory."""
        return {}

    @classmethod
    def open_forms(cls) -> tuple[Block, ...]:
        """What the large space `hybrid_lm` offers of this block, values left open; empty: it is left out.

        Sizes suit a d_model of 64 to 128. No two forms may close to the same block.
        """
        return ()

    def layout(self) -> Layout | None:
        """The axes of the parameters, and which of them may be sorted; None: this block is never sorted."""
        return None

    @classmethod
    def examples(cls) -> tuple[Block, ...]:
        """Small closed specs that cover the block's variants, for the contract tests."""
        return (cls(),)
