"""Where what a Python program gives to its study is defined: its classes, objectives and rules.

    source, nowhere = program_source(space, plan, functions)

A part is on record as `FILE.py:NAME`. What is installed, and what is this project's, needs no place; what was
typed at a prompt, in a notebook or inside a function has none.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluators.tasks.base import tasks
from foundation.errors import UnknownName
from foundation.registry import Registry
from foundation.text import listed
from nas.engines.base import engines
from nas.objectives.base import Objective, objectives
from nas.strategies.base import strategies
from nas.study.plan import SCENARIO_MARK, Plan
from nas.study.plan_objectives import asked_objectives
from nas.study.source import Source, of_parts
from nas.study.source_definitions import bound_names
from nas.study.source_files import INSTALLED, MAIN, Place, is_of_project, place_of_module
from nas.study.source_parts import Parts
from search_spaces.language.objections import name_of
from search_spaces.language.own_kinds import kinds_in
from search_spaces.language.space import Space


@dataclass(frozen=True, kw_only=True)
class Found:
    """The parts of a study in the files of one folder, and the names of those that are in no file."""

    folder: Path
    parts: Parts
    nowhere: tuple[str, ...]


def find_parts(space: Space, plan: Plan, functions: Mapping[str, Any]) -> Found | None:
    """Where what a program gave to its study is defined; None where nothing is its own."""
    own = [kind for kind in kinds_in(space.root) if _is_own(kind.__module__)]
    kinds = {kind.__name__: _place_of_kind(kind) for kind in own}
    called = {name: _place_of_thing(getattr(each, "function", each)) for name, each in functions.items()}
    rules = {name_of(rule): _place_of_thing(rule) for rule in space.constraints if _is_own(_home(rule))}
    registered = dict(_registered(plan))
    everything = [*kinds.items(), *called.items(), *rules.items(), *registered.items()]
    if not everything:
        return None
    places = [place for _, place in everything if place is not None]
    main = place_of_module(MAIN)
    folder = _folder([place for place, _ in places], main)
    if folder is None:
        return Found(folder=Path(), parts=Parts(), nowhere=tuple(dict(everything)))

    def inside(given: Mapping[str, tuple[Place, str] | None]) -> dict[str, str]:
        kept = {name: each for name, each in given.items() if each and each[0].folder == folder}
        return {name: f"{place.file}:{attribute}" for name, (place, attribute) in kept.items()}

    parts = Parts(
        kinds=inside(kinds),
        functions=inside(called),
        constraints=tuple(inside(rules).values()),
        registered=tuple(inside(registered).values()),
        script=main.file if main is not None and main.folder == folder else "",
    )
    return Found(
        folder=folder, parts=parts, nowhere=tuple(name for name, place in everything if place is None)
    )


def program_source(space: Space, plan: Plan, functions: Mapping[str, Any]) -> tuple[Source | None, list[str]]:
    """The source of what a program gave to its study, and the names of what no file defines.

    No source where all of it is installed, or this project's, or in no file.

    Raises:
        FileError: a file cannot be read.
        SpaceError: there are more than anybody writes.
    """
    found = find_parts(space, plan, functions)
    if found is None or not found.parts.files:
        return None, list(found.nowhere) if found else []
    source = of_parts(found.parts, found.folder)
    script = found.parts.script
    hidden = set(found.parts.names_in(script)) - bound_names(source.held.get(script, b""))
    if not hidden:
        return source, list(found.nowhere)
    parts, lost = _without(found.parts, {f"{script}:{name}" for name in hidden})
    return of_parts(parts, found.folder) if parts.files else None, [*found.nowhere, *lost]


def in_no_file(names: Iterable[str]) -> str:
    """What a study cannot keep, and what to do."""
    return (
        f"{listed(list(names))}: defined at a prompt, in a notebook, in a function or under `if __name__`, so"
        " only this program can go on with the study or build its networks; put them at the top of a .py file"
        ", and the study keeps a copy"
    )


def _without(parts: Parts, places: Iterable[str]) -> tuple[Parts, list[str]]:
    """The parts without those at these places, and the names of these."""
    gone = tuple(places)

    def kept(given: Mapping[str, str]) -> dict[str, str]:
        return {name: place for name, place in given.items() if not _is_at(place, gone)}

    lost = [
        n for given in (parts.kinds, parts.functions) for n, place in given.items() if _is_at(place, gone)
    ]
    rules = tuple(place for place in parts.constraints if not _is_at(place, gone))
    registered = tuple(place for place in parts.registered if not _is_at(place, gone))
    unnamed = {*parts.constraints, *parts.registered} - {*rules, *registered}
    lost += sorted(place.partition(":")[2] for place in unnamed)
    left = replace(parts, kinds=kept(parts.kinds), functions=kept(parts.functions))
    return replace(left, constraints=rules, registered=registered), lost


def _is_at(place: str, places: tuple[str, ...]) -> bool:
    return any(place == each or place.startswith(f"{each}.") for each in places)


def _folder(places: Iterable[Place], main: Place | None) -> Path | None:
    """The folder that the source is taken from: the program's own, where a part lies there."""
    found = list(dict.fromkeys(place.folder for place in places))
    return main.folder if main is not None and main.folder in found else next(iter(found), None)


def _registered(plan: Plan) -> Iterator[tuple[str, tuple[Place, str] | None]]:
    """By name, the places of what users registered and a plan names."""
    named: list[tuple[Registry[Any], str]] = [(strategies, plan.strategy), (engines, plan.engine)]
    for objective in asked_objectives(plan):
        plain = objective.name.partition(SCENARIO_MARK)[0]
        named.append((tasks, objective.task) if objective.task else (objectives, plain))
    for registry, name in named:
        try:
            thing, module = registry[name], registry.module_of(name)
        except UnknownName:  # refused where the plan is checked
            continue
        if _is_own(module):
            place = place_of_module(module)
            bound = _bound_to(thing, name, module)
            yield name, None if place is None or bound is None else (place, bound)


def _bound_to(thing: Any, name: str, module: str) -> str | None:
    """The name in its module of what was registered; empty where a statement of its own does that.

    None for what was declared in a program, in no statement at the top of its file.
    """
    inside = vars(sys.modules[module]) if module in sys.modules else {}
    if isinstance(thing, Objective) and thing.function is not None:
        wanted = (thing, thing.function)
        found = next((key for key, value in inside.items() if any(value is each for each in wanted)), None)
        return found if found is not None or module == MAIN else ""
    bound = getattr(thing, "__qualname__", name)
    return bound if hasattr(sys.modules.get(module), bound) else ""


def _is_own(module: str) -> bool:
    """Whether a module is neither this project's nor installed."""
    if is_of_project(module):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return not (file and any(Path(file).resolve().is_relative_to(place) for place in INSTALLED))


def _home(thing: Any) -> str:
    """The module that a function, or the class of a callable object, was defined in."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    return getattr(thing, "__module__", None) or type(thing).__module__


def _place_of_kind(kind: type) -> tuple[Place, str] | None:
    place = place_of_module(kind.__module__)
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return (place, kind.__qualname__) if place is not None and found is kind else None


def _place_of_thing(thing: Callable[..., Any]) -> tuple[Place, str] | None:
    """The name at the top of a module that a function, or any callable object, is bound to."""
    for module in dict.fromkeys([_home(thing), MAIN]):
        place = place_of_module(module)
        for name, value in vars(sys.modules[module]).items() if place is not None else ():
            if value is thing and place is not None:
                return place, name
    return None
