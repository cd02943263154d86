"""How far a block is from its reference: outputs and gradients, at its size, on slices of larger weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from search_spaces.blocks.base import Block
from search_spaces.references import Weights, references

TOLERANCE = 1e-5
"""The largest deviation, as a share of the largest value, that float32 may explain."""


@dataclass(frozen=True)
class Deviation:
    """The largest difference over the largest value, of the outputs and of the gradients of the inputs."""

    output: float
    gradient: float

    @property
    def worst(self) -> float:
        """The larger of the two."""
        return max(self.output, self.gradient)


def deviation(
    spec: Block,
    d_model: int,
    *,
    large: Block | None = None,
    width: int | None = None,
    batch: int = 2,
    count: int = 70,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Deviation:
    """Compare `spec` at `d_model` with its reference on `batch` sequences of `count` tokens.

    With `large` and `width`, its weights are leading slices of those of a larger block, as in a supernet.

    Raises:
        UnknownName: no reference of this kind is known.
        ModuleNotFoundError: the package that holds the reference is not installed.
    """
    weights = _weights(large or spec, width or d_model, seed, dtype)
    with torch.device("meta"):
        module = spec.build(d_model)
    slices = {
        name: weights[name][tuple(slice(size) for size in parameter.shape)]
        for name, parameter in module.named_parameters()
    }
    copies = {name: part.contiguous() for name, part in slices.items()}
    reference = references[type(spec).__name__].build(spec, copies, d_model)
    x = torch.randn(batch, count, d_model, generator=_dice(seed + 1), dtype=dtype).requires_grad_()
    found, wanted = functional_call(module, slices, (x,), tie_weights=False).y, reference(x)
    mix = torch.randn(wanted.shape, generator=_dice(seed + 2), dtype=dtype)
    slopes = [torch.autograd.grad((y * mix).sum(), x)[0] for y in (found, wanted)]
    return Deviation(_distance(found, wanted), _distance(*slopes))


def _weights(spec: Block, d_model: int, seed: int, dtype: torch.dtype) -> Weights:
    """Weights of a block, its norms and biases moved away from where they start."""
    module, dice = spec.build(d_model), _dice(seed)
    with torch.no_grad():
        module.reset_parameters(dice)
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    return {name: parameter.detach().to(dtype) for name, parameter in module.named_parameters()}


def _distance(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        raise ValueError(f"the reference gives {tuple(wanted.shape)}, the block {tuple(found.shape)}")
    return float((found - wanted).detach().abs().max() / wanted.detach().abs().max())


def _dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
