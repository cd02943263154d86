"""Every block under autocast: forward and backward, for all lengths, against float32.

The tolerance is how far rounding must carry anyway: the change of each output and gradient, in float32, when
every weight and every input is moved by an epsilon of the low type (norms of small values magnify that), and
an epsilon of the largest gradient there is (some gradients are zero, and what remains of them is rounding).
A block rounds about ten times on the way forward and back, so it may be off by a few times as much. A product
in a wrong type, or a state that is rounded at every token, is off by far more, or ends in an error.
"""

from __future__ import annotations

import copy
import warnings
from importlib import import_module
from pkgutil import iter_modules
from random import Random

import pytest
import torch
from torch import Tensor

from search_spaces import ops, quantization
from search_spaces.blocks.base import Block, Mixer, blocks
from tests.blocks.filled import dice, filled

D_MODEL = 20
TYPES = (torch.bfloat16, torch.float16)
EXAMPLES = [spec for kind in blocks.values() for spec in kind.examples()]
SEQUENCE = [spec for spec in EXAMPLES if spec.mixes == "sequence"]
TIMES = 6
"""How many times as far as one rounding of everything a result may be off."""


def lengths(spec: Block) -> list[int]:
    """One token, the borders of a chunk, and some others, odd ones among them, up to 200."""
    drawn = Random(str(spec))
    return [1, drawn.choice((2, 63, 64, 65, 127, 128, 129)), 2 * drawn.randrange(1, 100) + 1]


def outcome(
    module: Mixer, x: Tensor, low: torch.dtype | None = None, *, backward_inside: bool = False
) -> dict[str, Tensor]:
    """The output for x, and the gradients of a linear function of it, by name."""
    x = x.clone().requires_grad_()
    slope = torch.randn(x.shape, generator=dice(3))
    module.zero_grad()
    with torch.autocast("cpu", low, enabled=low is not None):
        mixed = module(x)
        loss = (mixed.y.float() * slope).sum() + (0.0 if mixed.loss is None else mixed.loss)
        if backward_inside:
            loss.backward()
    if not backward_inside:
        loss.backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"y": mixed.y.detach().float(), "x": x.grad, **gradients}


def moved(module: Mixer, x: Tensor, epsilon: float, seed: int) -> dict[str, Tensor]:
    """The outcome in float32 where every weight and every input is moved by an epsilon."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in (*other.parameters(), x := x.clone()):
            tensor.mul_(1 + epsilon * torch.randn(tensor.shape, generator=dice(seed)))
    return outcome(other, x)


def check_close(module: Mixer, count: int, low: torch.dtype, *, backward_inside: bool = False) -> None:
    x, epsilon = torch.randn(2, count, D_MODEL, generator=dice(2)), torch.finfo(low).eps
    exact = outcome(module, x)
    others = [moved(module, x, epsilon, seed) for seed in (4, 5)]
    largest = max(float(tensor.norm()) for name, tensor in exact.items() if name != "y")
    found = outcome(module, x, low, backward_inside=backward_inside)
    assert found.keys() == exact.keys()
    for name, tensor in exact.items():
        rounding = max(float((other[name] - tensor).norm()) for other in others)
        most = TIMES * max(rounding, epsilon * (float(tensor.norm()) if name == "y" else largest))
        assert float((found[name].float() - tensor).norm()) <= most, name


@pytest.mark.parametrize("low", TYPES, ids=str)
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_a_block_learns_under_autocast_as_in_float32(spec: Block, low: torch.dtype) -> None:
    module = filled(spec, D_MODEL, noise=0.1).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a slow path of PyTorch says so
        for count in lengths(spec):
            check_close(module, count, low)


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_a_gradient_does_not_depend_on_where_backward_is_called(spec: Block) -> None:
    module, count = filled(spec, D_MODEL, noise=0.1).train(), lengths(spec)[-1]
    check_close(module, count, torch.bfloat16, backward_inside=True)


@pytest.mark.parametrize("low", TYPES, ids=str)
@pytest.mark.parametrize("spec", SEQUENCE, ids=str)
@torch.no_grad()
def test_decoding_under_autocast_keeps_running_sums_exact(spec: Block, low: torch.dtype) -> None:
    module = filled(spec, D_MODEL, noise=0.1).eval()
    x = torch.randn(2, 9, D_MODEL, generator=dice(2))
    exact = module(x).y
    with torch.autocast("cpu", low):
        state = module(x[:, :5], module.init_state(2, 9), 0).state or {}
        for t in range(5, 9):
            y, state = module.step(x[:, t], state, t)
    for name, shape in spec.state(D_MODEL).items():
        assert not shape.exact or state[name].dtype is torch.float32
    error = float((y.float() - exact[:, -1]).norm() / exact[:, -1].norm())
    assert error <= TIMES * torch.finfo(low).eps


def test_every_hand_written_gradient_chooses_its_types() -> None:
    for folder in (ops, quantization):
        for module in iter_modules(folder.__path__):
            if not module.ispkg:
                import_module(f"{folder.__name__}.{module.name}")
    ours = [k for k in torch.autograd.Function.__subclasses__() if k.__module__.startswith("search_spaces.")]
    assert len(ours) >= 8
    for kind in ours:
        assert hasattr(kind.forward, "__wrapped__"), f"{kind.__name__} needs @own_types"
        assert hasattr(kind.backward, "__wrapped__"), f"{kind.__name__} needs @own_types"
