"""What functions tell a compiler that traces them, without loading it, which takes a command a second."""

from __future__ import annotations

from typing import Any, TypeVar

Function = TypeVar("Function")


def constant(function: Function) -> Function:
    """Mark a function whose result a compiled graph holds as a constant, computed once while it is traced.

    It is `torch.compiler.assume_constant_result`, which does nothing else, and loads the compiler first.
    """
    marked: Any = function
    marked._dynamo_marked_constant = True
    return function
