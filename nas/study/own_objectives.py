"""Objectives of a user's own: functions of an architecture, by the names that the study records.

A study that is continued must find each of its objectives again, so every function has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from foundation.errors import SettingError
from nas.objectives.base import Objective, objectives
from nas.objectives.declared import name_of
from nas.objectives.functions import ObjectiveFunction, OwnObjective, Told


def named_objectives(
    given: Sequence[str | Objective | ObjectiveFunction],
) -> tuple[list[str], dict[str, OwnObjective]]:
    """The names of all objectives, and those that are functions.

    A function is named as by `nas.objectives.declared.name_of`. One that was declared, or added to the
    registry, is meant by its name.

    Raises:
        SettingError: one has no name that could be recorded, or two have the same.
    """
    if isinstance(given, (str, Objective)) or callable(given):
        raise SettingError(f"objectives is a sequence: write objectives=[{_shown(given)}]")
    if isinstance(given, (Set, Mapping)) or not isinstance(given, Iterable):
        raise SettingError(f"objectives is a sequence, in an order that lasts, got {_shown(given)}")
    names: list[str] = []
    functions: dict[str, OwnObjective] = {}
    for objective in given:
        name = objective if isinstance(objective, str) else _name_of(objective)
        if not isinstance(objective, str) and not _is_registered(name, objective):
            if isinstance(objective, Objective) and name not in objectives:
                raise SettingError(
                    f"the objective {name} is not known by its name: register it with objectives.add"
                )
            if name in functions or isinstance(objective, Objective):
                raise SettingError(f"two objectives are named {name}: give one a name of its own")
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


def _is_registered(name: str, objective: Objective | ObjectiveFunction) -> bool:
    if name not in objectives:
        return False
    known = objectives[name]
    added = known.cheap.cheap if isinstance(known.cheap, Told) else None  # of an Objective that was added
    same = isinstance(objective, Objective) and added is not None and added is objective.cheap
    return known is objective or known.function is objective or same


def _name_of(objective: Any) -> str:
    return objective.name if isinstance(objective, Objective) else name_of(objective)


def _shown(thing: Any) -> str:
    named = thing.name if isinstance(thing, Objective) else getattr(thing, "__name__", None)
    return named or repr(thing)[:80]
