"""One step of a sequence mixer for rows that stand at positions of their own.

A step may have its position as a 0-dim tensor, so that nothing but what is computed depends on its value.
`torch.func.vmap` of such a step over rows and positions is the batched step, and no block knows of it. A step
that never asks for its position (a recurrence, a channel mixer) is one for all rows as it is; who asks, is
tried once.

Shapes: B batch, D d_model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from search_spaces.blocks.base import State

Step: TypeAlias = Callable[[Tensor, State, Any], tuple[Tensor, State]]
"""A step of a batch at one position: x [B, D], its state and the position; the outputs and the new state."""


class _Asked(Exception):
    """Somebody wanted to know the position."""


class _Secret:
    """A position that tells nothing."""

    def _ask(self, *_: Any) -> Any:
        raise _Asked

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _ask
    __floordiv__ = __rfloordiv__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _ask
    __bool__ = __int__ = __index__ = __float__ = __hash__ = __getattr__ = _ask

    @classmethod
    def __torch_function__(cls, *_: Any) -> Any:
        raise _Asked


def asks_position(step: Step, x: Tensor, state: State) -> bool:
    """Whether what a step computes may depend on the position; x and the state are left as they are."""
    try:
        step(x, {name: part.clone() for name, part in state.items()}, _Secret())
    except _Asked:
        return True
    return False


def step_rows(step: Step, x: Tensor, state: State, positions: Tensor) -> tuple[Tensor, State]:
    """Outputs [B, D] of a step for x [B, D], each row at its own of the positions [B], and the new state."""

    def one(x: Tensor, state: State, position: Tensor) -> tuple[Tensor, State]:
        y, kept = step(x[None], {name: part[None] for name, part in state.items()}, position)
        return y[0], {name: part[0] for name, part in kept.items()}

    with warnings.catch_warnings():  # rows are written one by one, which is the fastest way there is
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        y, kept = torch.func.vmap(one)(x, state, positions)
    return y, kept
