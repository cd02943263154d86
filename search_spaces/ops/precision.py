"""Autocast kept out of operations that choose the types of their products themselves.

Under autocast PyTorch computes every matrix product in bfloat16 or float16, also those inside an operation
that keeps a state, decays or a gradient in float32. Such an operation gets its large factors in the type of
autocast, and computes the rest as if autocast were off: forward, and backward wherever that is called.
Without autocast nothing changes, not a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Kind = TypeVar("Kind", bound=type[torch.autograd.Function])


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """A context in which operations on the device of `like` take the types of their inputs."""
    if not _lowers(like):
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def chooses_types(factors: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """An operation that computes without autocast, its first `factors` inputs in the type of autocast."""

    def decorate(operation: Callable[P, R]) -> Callable[P, R]:
        @wraps(operation)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            like = args[0]
            assert isinstance(like, Tensor)
            if not _lowers(like):
                return operation(*args, **kwargs)
            low = torch.get_autocast_dtype(like.device.type)
            lowered: Any = (*(_lowered(x, low) for x in args[:factors]), *args[factors:])
            with torch.autocast(like.device.type, enabled=False):
                return operation(*lowered, **kwargs)

        return run

    return decorate


def in_autocast(x: Tensor) -> Tensor:
    """The same in the type of autocast, for what torch does not cast by itself; without autocast as it is."""
    return _lowered(x, torch.get_autocast_dtype(x.device.type)) if _lowers(x) else x


def own_types(kind: Kind) -> Kind:
    """An autograd function whose forward and backward compute without autocast, whoever calls them."""
    for name in ("forward", "backward"):
        setattr(kind, name, staticmethod(_kept_out(getattr(kind, name))))
    return kind


def rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, epsilon: float) -> Tensor:
    """PyTorch's, with x and weight in one type: it is fused for no others, and warns."""
    if weight is not None and weight.dtype is not x.dtype:
        exact = torch.promote_types(weight.dtype, x.dtype)
        x, weight = x.to(exact), weight.to(exact)
    return F.rms_norm(x, shape, weight, epsilon)


def _lowers(x: Tensor) -> bool:
    """Whether autocast is on for the device of x; there is none for the meta device."""
    kind = x.device.type
    return kind != "meta" and torch.is_autocast_enabled(kind)


def _lowered(x: Any, low: torch.dtype) -> Any:
    """A factor as autocast would take it: float64 stays."""
    return x if x.dtype is torch.float64 else x.to(low)


def _kept_out(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(ctx: Any, *inputs: Any) -> Any:
        tensors = (x for x in inputs if isinstance(x, Tensor))
        with without_autocast(next(tensors)):
            return method(ctx, *inputs)

    return run
