"""Parameters: filled from the dice alone, trained by finite gradients, sliced by a supernet."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call

from search_spaces.block_contract.promise import BrokenPromise, Subject, promise


@promise(quick=True)
def parameters_are_filled_from_the_dice_alone(subject: Subject) -> None:
    """`reset_parameters(dice)` fills every parameter, alike for the same seed; nothing else is random."""
    state_before = torch.get_rng_state()
    first, again, next_seed = (_filled(subject, seed) for seed in (0, 0, 1))
    if not torch.equal(state_before, torch.get_rng_state()):
        raise BrokenPromise("reset_parameters draws from the global generator: pass generator=dice")
    for name, values in first.items():
        if not values.isfinite().all():
            raise BrokenPromise(f"reset_parameters does not fill {name!r}")
        if not torch.equal(values, again[name]):
            raise BrokenPromise(f"reset_parameters fills {name!r} differently from equal dice")
    alike = all(torch.equal(values, next_seed[name]) for name, values in first.items())
    if alike and any(_is_drawn(values) for values in first.values()):
        raise BrokenPromise("reset_parameters fills everything alike from different dice")


@promise(quick=True)
def every_parameter_gets_a_finite_gradient(subject: Subject) -> None:
    """None is unused, none is cut off, none overflows."""
    module = subject.built(torch.float32)
    mixed = module(subject.inputs(2, 33, torch.float32))
    loss = mixed.y.square().mean() + (0 if mixed.loss is None else mixed.loss)
    if not loss.requires_grad:
        raise BrokenPromise("outputs depend on no parameter that learns: one of them is detached")
    loss.backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            raise BrokenPromise(f"the parameter {name!r} has no gradient: it is unused, or detached")
        if not parameter.grad.isfinite().all():
            raise BrokenPromise(f"the gradient of {name!r} is not finite")


@promise()
def gradients_are_right(subject: Subject) -> None:
    """Gradients are those of finite differences, in float64, for inputs and parameters."""
    module = subject.built()
    names = [name for name, _ in module.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        y: Tensor = functional_call(module, dict(zip(names, values, strict=True)), (x,)).y
        return y

    x = subject.inputs(1, 3).requires_grad_()
    try:
        torch.autograd.gradcheck(outputs, (x, *values), fast_mode=True)
    except GradcheckError as error:
        raise BrokenPromise(
            f"gradients differ from finite differences: {str(error).splitlines()[0]}"
        ) from None


@promise(quick=True)
def what_was_read_without_gradients_can_be_learned_from_later(subject: Subject) -> None:
    """Nothing is cached between calls that training may not use."""
    module, x = subject.built(torch.float32), subject.inputs(1, 11, torch.float32)
    with torch.inference_mode():
        module(x)
    module(x).y.sum().backward()


@promise(quick=True)
@torch.no_grad()
def a_leading_slice_computes_what_its_copy_computes(subject: Subject) -> None:
    """A supernet gives slices of larger tensors as parameters: no fused or flattened axes, no `view`."""
    with torch.device("meta"):
        module = subject.spec.build(subject.d_model)
    dice = torch.Generator().manual_seed(3)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        views, copies = {}, {}
        for name, parameter in module.named_parameters():
            large = torch.randn([size + 3 for size in parameter.shape], generator=dice).to(dtype) * 0.3
            views[name] = large[tuple(slice(size) for size in parameter.shape)]
            copies[name] = views[name].clone(memory_format=torch.contiguous_format)
        x = subject.inputs(2, 19, dtype)
        sliced = functional_call(module, views, (x,), tie_weights=False).y
        copied = functional_call(module, copies, (x,), tie_weights=False).y
        if not torch.equal(sliced, copied):
            raise BrokenPromise(
                f"in {dtype}, slices of larger parameters give other outputs than their copies"
            )
        if not sliced.isfinite().all():
            raise BrokenPromise(f"in {dtype}, outputs are not finite for parameters of a supernet")


def _is_drawn(values: Tensor) -> bool:
    """Whether values look drawn: constants (gains, decays) do not, a matrix of rows that differ does."""
    return values.ndim > 1 and bool((values != values[:1]).any())


def _filled(subject: Subject, seed: int) -> dict[str, Tensor]:
    module = subject.spec.build(subject.d_model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))
        module.reset_parameters(torch.Generator().manual_seed(seed))
    return {name: parameter.detach() for name, parameter in module.named_parameters()}
