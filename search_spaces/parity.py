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
    """The largest difference over the largest value: of the outputs, and of the gradients of the inputs.

    `weight_gradient` is the largest of the weights' gradients, None where the reference has parameters of its
    own, through which no gradient comes back.
    """

    output: float
    gradient: float
    weight_gradient: float | None = None

    @property
    def worst(self) -> float:
        """The larger one of outputs and gradients of the inputs."""
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
        UnknownName: this kind of block has no reference.
        ModuleNotFoundError: the package that holds the reference is not installed.
    """
    large_weights = _weights(large or spec, width or d_model, seed, dtype)
    with torch.device("meta"):
        module = spec.build(d_model)
    slices = {
        name: large_weights[name][tuple(slice(size) for size in parameter.shape)].requires_grad_()
        for name, parameter in module.named_parameters()
    }
    copies = {name: part.detach().contiguous().requires_grad_() for name, part in slices.items()}
    reference = references[type(spec).__name__].build(spec, copies, d_model)
    x = torch.randn(batch, count, d_model, generator=_dice(seed + 1), dtype=dtype).requires_grad_()
    ours, theirs = functional_call(module, slices, (x,), tie_weights=False).y, reference(x)
    mix = torch.randn(theirs.shape, generator=_dice(seed + 2), dtype=dtype)
    gradients = [_gradients((y * mix).sum(), x, w) for y, w in ((ours, slices), (theirs, copies))]
    of_inputs, *of_weights = (
        _distance(gradient, gradients[1][name])
        for name, gradient in gradients[0].items()
        if name in gradients[1]
    )
    return Deviation(_distance(ours, theirs), of_inputs, max(of_weights, default=None))


def _gradients(loss: Tensor, x: Tensor, weights: Weights) -> dict[str, Tensor]:
    """The gradients of the inputs, and of every weight that the loss depends on."""
    names = ["x", *weights]
    gradients = torch.autograd.grad(loss, [x, *weights.values()], allow_unused=True)
    return {name: grad for name, grad in zip(names, gradients, strict=True) if grad is not None}


def _weights(spec: Block, d_model: int, seed: int, dtype: torch.dtype) -> Weights:
    """Weights of a block, its norms and biases moved away from where they start."""
    module, dice = spec.build(d_model), _dice(seed)
    with torch.no_grad():
        module.reset_parameters(dice)
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    return {name: parameter.detach().to(dtype) for name, parameter in module.named_parameters()}


def _distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest value."""
    if ours.shape != theirs.shape:
        raise ValueError(f"the reference gives {tuple(theirs.shape)}, the block {tuple(ours.shape)}")
    largest = theirs.detach().abs().max().clamp_min(torch.finfo(theirs.dtype).tiny)
    return float((ours - theirs).detach().abs().max() / largest)


def _dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
