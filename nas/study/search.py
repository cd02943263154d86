"""`nas.search`: from a space to a front.

    study = nas.search(space, name="first", objectives=["bits_per_byte", "decode_ms"], trials=200)

What a study does, and in which order, are its steps: see `nas.steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.executors.workers import Workers
from nas.folders import DEFAULT_STORE
from nas.objectives.base import ObjectiveFunction
from nas.progress import Progress, default_progress
from nas.steps.base import Context, run_steps
from nas.study.creation import create_study
from nas.study.plan import Plan
from nas.study.study import Study
from search_spaces.language.space import Space, as_space


def search(
    space: Space | Any,
    *,
    name: str,
    objectives: Sequence[str | ObjectiveFunction] = Plan.objectives,
    store: str | Path = DEFAULT_STORE,
    workers: int | Workers = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> Study:
    """Search `space`; a study of this name over the same space is continued.

    `objectives` are names (see `nas objectives`) or functions of the architecture that return a number to be
    minimised. `settings` are fields of `nas.Plan`: constraints, trials, strategy, evaluator, steps, ...

    Raises:
        StoreError: the name is taken by a study of another space.
        SettingError: a setting makes no sense, or differs from those the study was started with.
        SpaceError: nothing in the space satisfies the constraints.
        DataError: the corpus cannot be used.
    """
    functions = {o.__name__: o for o in objectives if callable(o)}
    names = [o.__name__ if callable(o) else o for o in objectives]
    plan = Plan.from_plain({"objectives": names, **settings})
    pool = workers if isinstance(workers, Workers) else Workers(workers)
    pool.check(plan.on)
    study = create_study(as_space(space), plan, name=name, store=store, functions=functions)
    run_steps(
        Context(study=study, functions=functions, workers=pool, progress=progress or default_progress())
    )
    return study
