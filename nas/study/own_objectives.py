"""Objectives of a user's own: functions of an architecture, by the names that the study records.

A study that is continued must find each of its objectives again, so every function has a name of its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from foundation.errors import SettingError
from nas.objectives.base import objectives
from nas.objectives.functions import Computed, ObjectiveFunction, OwnObjective, Told

NAME = re.compile(r"[^\W\d]\w*")


def named_objectives(given: Sequence[str | ObjectiveFunction]) -> tuple[list[str], dict[str, OwnObjective]]:
    """The names of all objectives, and those that are functions.

    A function is named after itself, a `functools.partial` after its function, a callable object by its
    `name` or after its class. One that was added to the registry is meant by its name.

    Raises:
        SettingError: one has no name that could be recorded, or two have the same.
    """
    if isinstance(given, str) or callable(given):
        raise SettingError(f"objectives is a sequence: write objectives=[{_shown(given)}]")
    if isinstance(given, (Set, Mapping)) or not isinstance(given, Iterable):
        raise SettingError(f"objectives is a sequence, in an order that lasts, got {_shown(given)}")
    names: list[str] = []
    functions: dict[str, OwnObjective] = {}
    for objective in given:
        if isinstance(objective, str):
            names.append(objective)
            continue
        name = _name_of(objective)
        if _is_registered(name, objective):
            names.append(name)
            continue
        if name in functions:
            raise SettingError(f"two objectives are named {name}: give one its own name, with def")
        functions[name] = OwnObjective(name, objective)
        names.append(name)
    return names, functions


def strategy_name(strategy: Any) -> Any:
    """The name of a strategy, which is how one is given.

    Raises:
        SettingError: it is a class or an object.
    """
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if isinstance(strategy, str):
        return strategy
    if kind.__module__ == "builtins":
        raise SettingError(f"strategy is a name (`nas strategies` lists them), got {_shown(strategy)}")
    name = getattr(kind, "name", "")
    named = name if isinstance(name, str) and name else kind.__name__.lower()
    raise SettingError(
        f"a strategy is given by its name, and its settings as settings: put @strategies.add on"
        f" {kind.__name__}, and pass strategy={named!r}"
    )


def _is_registered(name: str, objective: ObjectiveFunction) -> bool:
    computed = objectives[name].cheap if name in objectives else None
    if not isinstance(computed, Told) or not isinstance(computed.cheap, Computed):
        return False
    return computed.cheap.own.function is objective


def _name_of(objective: Any) -> str:
    if isinstance(objective, type) or not callable(objective):
        raise SettingError(
            f"an objective is a name or a function of the architecture, got {_shown(objective)}"
        )
    function = objective
    while isinstance(function, functools.partial):
        function = function.func
    own = getattr(function, "name", None) if not hasattr(function, "__name__") else None
    name = own if isinstance(own, str) else getattr(function, "__name__", type(function).__name__)
    if not NAME.fullmatch(name):
        what = "a lambda" if name == "<lambda>" else f"{name!r}"
        raise SettingError(
            f"an objective needs a name to be recorded by, and {what} is none: write a function with def,"
            " e.g. def weight(spec): return ..."
        )
    return name


def _shown(thing: Any) -> str:
    return getattr(thing, "__name__", None) or repr(thing)[:80]
