"""Neural architecture search for language models on a given machine.

    import nas
    from search_spaces import Space, one_of, repeat

    study = nas.search(space, name="first", objectives=["bits_per_byte", "decode_ms"], trials=200)
    for trial in study.front():
        print(study.spec(trial), study.numbers(trial)["decode_ms"])

What is public is listed in `__all__`; everything is loaded when it is first used, so that the command line
answers at once.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.executors.workers import Workers as Workers
    from nas.imports import import_model as import_model
    from nas.modification import modify as modify
    from nas.objectives.declared import objective as objective
    from nas.parents import space_around as space_around
    from nas.store import Store as Store
    from nas.study.export import export as export
    from nas.study.model_code import load as load
    from nas.study.open_study import OpenStudy, open_study
    from nas.study.plan import Plan as Plan
    from nas.study.search import search as search
    from nas.study.trial import Trial as Trial
    from nas.study.trial import Value as Value

    open = open_study
    Study = OpenStudy

# Threads that spin while they wait make training ten times slower where another process wants the core. The
# setting is read when torch is loaded, so it must stand here, before anything else is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# MKL adds in an order that depends on where rows lie in memory, unless it is asked not to: a slice of a large
# matrix would then differ from its copy in the last bit, and a search that was killed from one that was not.
os.environ.setdefault("MKL_CBWR", "AUTO")

_HOMES = {
    "search": "nas.study.search:search",
    "objective": "nas.objectives.declared:objective",
    "open": "nas.study.open_study:open_study",
    "Workers": "nas.executors.workers:Workers",
    "Plan": "nas.study.plan:Plan",
    "Study": "nas.study.open_study:OpenStudy",
    "Trial": "nas.study.trial:Trial",
    "Value": "nas.study.trial:Value",
    "Store": "nas.store:Store",
    "export": "nas.study.export:export",
    "import_model": "nas.imports:import_model",
    "modify": "nas.modification:modify",
    "space_around": "nas.parents:space_around",
    "load": "nas.study.model_code:load",
}

__all__ = sorted(_HOMES)  # computed, so that the table above is the only list


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, there = _HOMES[name].partition(":")
    thing = getattr(import_module(module), there)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
