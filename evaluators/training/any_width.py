"""Which axes of a sublayer's weights follow the width, where nothing else about it does.

A sublayer that is compiled with these axes open serves all widths of a space at once
(`evaluators.training.regions`). That is right only where its module has no number that depends on the width,
such as a factor made when it was built: such a number would be compiled in. So modules of all widths are
compared, attribute by attribute. What a decode state looks like may differ: no state is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, TypeAlias

from torch import Tensor, nn

Axes: TypeAlias = tuple[tuple[int, ...], ...]
"""Of every parameter, in order: the axes that follow the width."""

OF_STATES = ("state_shapes", "codec")


def open_axes(made: Callable[[int], nn.Module], widths: Sequence[int]) -> Axes | None:
    """The open axes of modules that are made for each of these widths; None where each needs its own code."""
    modules = [made(width) for width in widths]
    if len(modules) < 2 or not all(_alike(modules[0], other) for other in modules[1:]):
        return None
    shapes = zip(*([weight.shape for weight in module.parameters()] for module in modules), strict=True)
    return tuple(
        tuple(axis for axis, sizes in enumerate(zip(*forms, strict=True)) if len(set(sizes)) > 1)
        for forms in shapes
    )


def _alike(a: Any, b: Any) -> bool:
    """Whether two attributes are the same but for the sizes of parameters."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return isinstance(a, nn.Parameter) and a.ndim == b.ndim and a.dtype == b.dtype
    if isinstance(a, FunctionType):
        parts = (a.__code__, a.__defaults__, a.__kwdefaults__, _held(a))
        return _alike(parts, (b.__code__, b.__defaults__, b.__kwdefaults__, _held(b)))
    if isinstance(a, partial):
        return _alike((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if isinstance(a, dict):
        names = [name for name in a if name not in OF_STATES]
        same = names == [name for name in b if name not in OF_STATES]
        return same and all(_alike(a[name], b[name]) for name in names)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    compared: Any = type(a).__eq__
    if hasattr(a, "__dict__") and compared is object.__eq__:
        return _alike(vars(a), vars(b))
    return bool(a == b)


def _held(function: FunctionType) -> list[Any]:
    """What a function has taken from around it."""
    return [cell.cell_contents for cell in function.__closure__ or ()]
