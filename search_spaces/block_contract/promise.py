"""A promise of a block, and the block that is held to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from foundation.errors import SpaceError
from foundation.registry import Registry
from search_spaces.blocks.base import Block, Mixer, State

TOLERANCE = 1e-9
"""The largest difference, in float64, between two ways to compute the same."""

LENGTHS = (1, 2, 7, 63, 64, 65)
"""Tokens of a sequence: one, odd numbers, and both sides of the borders that chunks have."""


class BrokenPromise(SpaceError):
    """A block does not do what every block promises; the text says which part of it is wrong."""


@dataclass(frozen=True)
class Subject:
    """A closed block at one width, and what its promises need of it."""

    spec: Block
    d_model: int

    @property
    def remembers(self) -> bool:
        """Whether decode carries a state between tokens."""
        return bool(self.spec.state(self.d_model))

    def built(self, dtype: torch.dtype = torch.float64) -> Mixer:
        """The module, every parameter moved away from its start, so that biases and norms count."""
        module = self.spec.build(self.d_model)
        dice = torch.Generator().manual_seed(0)
        with torch.no_grad():
            module.reset_parameters(dice)
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
        return module.to(dtype)

    def inputs(self, batch: int, count: int, dtype: torch.dtype = torch.float64, seed: int = 2) -> Tensor:
        """Random tokens [batch, count, d_model]."""
        dice = torch.Generator().manual_seed(seed)
        return torch.randn(batch, count, self.d_model, generator=dice, dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Promise:
    """One promise: its name and its check. A `quick` one takes milliseconds and runs before a search, too."""

    name: str
    check: Callable[[Subject], None]
    quick: bool

    def __str__(self) -> str:
        return self.name


promises: Registry[Promise] = Registry("promise", folder="search_spaces.block_contract")


def promise(*, quick: bool = False) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a check under its name, with spaces for underscores."""

    def registered(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
        promises.add(Promise(check.__name__.replace("_", " "), check, quick))
        return check

    return registered


def near(actual: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise `BrokenPromise` with `what` is wrong where two tensors are not equal within a tolerance."""
    if actual.shape != expected.shape:
        raise BrokenPromise(f"{what}: the shapes are {list(actual.shape)} and {list(expected.shape)}")
    if actual.dtype != expected.dtype:
        raise BrokenPromise(f"{what}: the types are {actual.dtype} and {expected.dtype}")
    wrong = ~torch.isclose(actual, expected, rtol=tolerance, atol=tolerance)
    if wrong.any():
        place = tuple(int(index) for index in wrong.nonzero()[0])
        raise BrokenPromise(
            f"{what}: {float(actual[place]):.6g} and {float(expected[place]):.6g} at {list(place)},"
            f" {int(wrong.sum())} of {wrong.numel()} values differ"
        )


def stepped(
    module: Mixer, x: Tensor, state: State, first: int, *, tensor_position: bool
) -> tuple[Tensor, State]:
    """Outputs [B, T, D] of x read token by token from position `first`, and the state after it."""
    outputs = []
    for t in range(x.shape[1]):
        position = torch.tensor(first + t) if tensor_position else first + t
        y, state = module.step(x[:, t], state, position)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def copied(state: State) -> State:
    """A state that may be consumed while the other is kept."""
    return {name: part.clone() for name, part in state.items()}
