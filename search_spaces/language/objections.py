"""Why an architecture is not allowed: what its own checks and a user's constraints say, or raise.

Values that a check cannot compute with (`ValueError`, a division by zero) cannot stand together, so the
candidate is skipped. Anything else that is raised is a mistake in the user's code: it ends the search at
once, with its line.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.error_text import told
from foundation.errors import IllegalArchitecture, NasError, SpaceError

IMPOSSIBLE = (ArithmeticError, AssertionError, ValueError)
"""What checks and constructors raise of values that they cannot compute with."""


@dataclass(frozen=True)
class Unbuilt:
    """What stands in place of an architecture whose constructor refused its values."""

    reason: str


def objection_to(spec: Any, constraints: Sequence[Callable[[Any], bool]]) -> str | None:
    """Why an architecture is not allowed, or None.

    Raises:
        SpaceError: a check or a constraint is at fault, not the architecture.
    """
    if isinstance(spec, Unbuilt):
        return spec.reason
    try:
        if hasattr(spec, "check"):
            spec.check()
        for constraint in constraints:
            if not allows(constraint, spec):
                return f"violates the constraint {name_of(constraint)}"
    except IllegalArchitecture as error:
        return str(error)
    except NasError:
        raise
    except IMPOSSIBLE as error:
        return in_words(error)
    except Exception as error:  # code of a user's own: it may raise anything
        raise SpaceError(f"the space's own code failed: {in_words(error)}") from error
    return None


def allows(constraint: Callable[[Any], bool], spec: Any) -> bool:
    """Whether a constraint allows an architecture that can be built.

    Raises:
        SpaceError: the constraint is at fault.
    """
    try:
        allowed = constraint(spec)
    except IMPOSSIBLE as error:
        raise SpaceError(f"the constraint {name_of(constraint)} failed: {in_words(error)}") from error
    if allowed is None or isinstance(allowed, (str, bytes)):  # "no" would be a yes
        raise SpaceError(f"the constraint {name_of(constraint)} returned {allowed!r}: return True or False")
    return bool(allowed)


def in_words(error: BaseException) -> str:
    """An exception on one line, with the function and the line that it comes from."""
    said = told(error)
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return said
    frame, line = frames[-1]
    return f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{line}): {said}"


def name_of(constraint: Callable[..., Any]) -> str:
    """How a constraint is called in messages: its name, or where a lambda was written."""
    name = getattr(constraint, "__name__", type(constraint).__name__)
    code = getattr(constraint, "__code__", None)
    if name == "<lambda>" and code is not None:
        return f"lambda at {Path(code.co_filename).name}:{code.co_firstlineno}"
    return str(name)
