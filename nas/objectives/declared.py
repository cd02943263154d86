"""Functions of the architecture that a user declares as objectives, with what a study must know of them.

    @nas.objective(unit="layers", cheap=True, most=4)
    def attention_layers(spec):
        \"\"\"layers that look back at all earlier tokens\"\"\"
        return sum(isinstance(layer.sequence_mixer, Attention) for layer in spec.layers)

    recall = nas.objective(Recall(steps=200), name="recall", maximise=True)

The first is computed of every candidate before anything is trained, so it may be bounded; the second is asked
on a worker. Both are then known by their names, in programs and on the command line.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable
from typing import Any, overload

from foundation.errors import SettingError
from foundation.settings import check_flag
from foundation.text import harmless, one_line
from nas.objectives.base import Objective, objectives
from nas.objectives.functions import Computed, ObjectiveFunction, OwnObjective, Told

NAME = re.compile(r"[^\W\d]\w*")


@overload
def objective(
    function: ObjectiveFunction,
    *,
    name: str = "",
    unit: str = "",
    about: str = "",
    cheap: bool = False,
    maximise: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Objective: ...


@overload
def objective(
    function: None = None,
    *,
    name: str = "",
    unit: str = "",
    about: str = "",
    cheap: bool = False,
    maximise: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Callable[[ObjectiveFunction], Objective]: ...


def objective(
    function: ObjectiveFunction | None = None,
    *,
    name: str = "",
    unit: str = "",
    about: str = "",
    cheap: bool = False,
    maximise: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Objective | Callable[[ObjectiveFunction], Objective]:
    """Declare a function of the architecture as an objective: as a decorator, or around any callable.

    It takes a closed architecture and returns a number or a `nas.Value`. The objective has the `name` of the
    function where none is given (a lambda has none), and is `about` the first line of its docstring. What is
    `cheap` is computed at once of every candidate, in the process that searches, so constraints may be on it;
    else a worker is asked. `least` and `most` bound the candidates of every study that asks for it. Values
    that are no finite numbers, and what the function raises, fail their candidate alone.

    The objective may be called like the function.

    Raises:
        SettingError: it has no name or that of another, it is no function, or what bounds it cannot.
    """
    module = sys._getframe(1).f_globals.get("__name__", "")

    def declare(function: ObjectiveFunction) -> Objective:
        chosen = name or name_of(function)
        _check_name(chosen)
        _check_bounds(chosen, least, most, cheap=cheap)
        for flag, given in (("cheap", cheap), ("maximise", maximise)):
            check_flag(flag, given)
        for what, text in (("unit", unit), ("about", about)):
            if not isinstance(text, str) or one_line(text) != text or harmless(text) != text:
                raise SettingError(f"{chosen}: {what} must be a line of text, got {text!r}")
        made = Objective(
            name=chosen,
            unit=unit,
            about=about or first_line(function),
            cheap=Told(chosen, Computed(OwnObjective(chosen, function)), module) if cheap else None,
            maximise=maximise,
            function=function,
            on_request=True,
            least=least,
            most=most,
        )
        return objectives.declare(made, module)

    return declare if function is None else declare(function)


def name_of(function: Any) -> str:
    """What a function is called: a `functools.partial` like its function, an object by its `name` or class.

    Raises:
        SettingError: it is no function, or has no name.
    """
    if isinstance(function, type) or not callable(function):
        shown = getattr(function, "__name__", None) or repr(function)[:80]
        raise SettingError(f"an objective is a name or a function of the architecture, got {shown}")
    while isinstance(function, functools.partial):
        function = function.func
    own = getattr(function, "name", None) if not hasattr(function, "__name__") else None
    name = own if isinstance(own, str) else getattr(function, "__name__", type(function).__name__)
    _check_name(name)
    return name


def first_line(function: Any) -> str:
    """The first line of a function's docstring, or of the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    text = getattr(function, "__doc__", None) or ""
    return harmless(text.strip().partition("\n")[0].rstrip(".")) or "the user's own"


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        what = "a lambda" if name == "<lambda>" else repr(name)
        raise SettingError(
            f"an objective needs a name to be recorded by, and {what} is none: write a function with def, or"
            ' nas.objective(function, name="weight")'
        )


def _check_bounds(name: str, least: float | None, most: float | None, *, cheap: bool) -> None:
    for which, bound in (("least", least), ("most", most)):
        if bound is None:
            continue
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
            raise SettingError(f"{name}: {which} must be a finite number, got {bound!r}")
        if not cheap:
            raise SettingError(f"{name}: {which} bounds what is known before scoring: say cheap=True too")
    if least is not None and most is not None and least > most:
        raise SettingError(f"{name}: nothing is at least {least} and at most {most}")
