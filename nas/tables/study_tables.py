"""The study's latency tables: given, or measured here; or, where a study asks for it, estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.errors import ProfileError
from foundation.wording import argument
from hw_profiles.latency.correction import TRUSTED_MAPE
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.session import ProgressCallback
from hw_profiles.latency.table import LatencyTable
from hw_profiles.latency.transfer import transfer_table
from hw_profiles.roofline.cards import card_named
from hw_profiles.roofline.roofline import Roofline
from hw_profiles.timing.timings import READINGS
from nas.objectives.base import Predictor
from nas.progress import Progress
from nas.serving.figures import FIGURES
from nas.study.facts import TABLES, add_fact
from nas.study.marks import error_words
from nas.study.plan import Plan
from nas.study.plan_objectives import needing_tables
from nas.study.study import Study
from nas.tables.library import is_imported
from nas.tables.serving_ratios import with_serving
from nas.tables.table_facts import (
    elsewhere,
    estimate_fact,
    table_fact,
    warnings_of,
)
from search_spaces.language.space import Space
from search_spaces.scenario import Scenario


def table_for(
    study: Study, scenario: Scenario, progress: Progress, *, address: str | None = None
) -> Predictor:
    """What predicts latency in one of the study's scenarios: the given table, a measured one, an estimate.

    A plan that names a device has it measured there, in the Ray cluster at `address`.

    Raises:
        ProfileError: a given table is of another machine, scenario or space, its error is too large, or the
            plan's device was lost.
    """
    table = _table(study, scenario, progress, address)
    if isinstance(table, LatencyTable):
        _require_trust(table, study.plan)
        for warning in warnings_of(table, study.plan.time_on):
            progress.say(warning)
        if _rough_where_needed(table, study.plan):
            progress.say(_advice())
    else:
        progress.say(str(table))
    _record(study, scenario, table)
    return table


def check_tables(plan: Plan) -> None:
    """Raise at once where a given table or card cannot be used under the plan's scenarios."""
    for path in plan.latency_tables:
        table = load_given(path, plan.time_on)
        if table.scenario not in plan.scenarios:
            asked = "; ".join(map(str, plan.scenarios))
            raise ProfileError(f"{path} was measured for {table.scenario}, not for {asked}")
        _require_trust(table, plan)
    if plan.roofline is not None:
        for scenario in plan.scenarios:
            Roofline(card_named(plan.roofline), scenario)


def scenarios_to_time(plan: Plan) -> list[Scenario]:
    """The scenarios whose latency the study measures by itself.

    Raises:
        ProfileError: a given table cannot be used.
    """
    if plan.roofline is not None:
        return []
    given = [load_given(path, plan.time_on).scenario for path in plan.latency_tables]
    return [scenario for scenario in needing_tables(plan) if scenario not in given]


def load_given(path: str, on: str | None = None) -> LatencyTable:
    """A table that a user names; one of another machine only if it was imported, or is for the device `on`.

    Raises:
        ProfileError: it cannot be used.
    """
    table = LatencyTable.load(Path(path), allow_other_machine=True)
    difference = elsewhere(table)
    if difference and on is None and not is_imported(table):
        raise ProfileError(
            f"{path}: profiled on another machine: {difference}; profile again here, or, to search for that"
            f" machine, first: nas profile import {path}"
        )
    return table


def _table(study: Study, scenario: Scenario, progress: Progress, address: str | None) -> Predictor:
    plan = study.plan
    for source in plan.latency_tables:
        given = load_given(source, plan.time_on)
        if given.scenario == scenario:
            if not given.covers(study.space):
                raise ProfileError(f"{source} lacks blocks of this space: measure one with `nas profile`")
            return given
    if plan.roofline is not None:
        return Roofline(card_named(plan.roofline), scenario)
    path = table_path(study.folder / "table.json", scenario, len(plan.scenarios))
    earlier = _kept(path) if path.exists() else None
    if earlier is not None and plan.time_on is None:
        earlier.require_here(str(path))
    if earlier is not None and earlier.scenario == scenario and earlier.covers(study.space):
        earlier = with_serving(earlier, path) if plan.time_on is None else earlier
        _samples(path).unlink(missing_ok=True)  # of the table that is whole: a kill came before their removal
        if not (plan.strict_table and _rough_where_needed(earlier, plan)):
            return earlier
        progress.say(f"{path} has too large an error: measuring again")
    return _measure(study, scenario, path, progress, address=address)


def _kept(path: Path) -> LatencyTable:
    """The table that the study measured before, of whichever machine.

    Raises:
        ProfileError: its file is damaged.
    """
    try:
        return LatencyTable.load(path, allow_other_machine=True)
    except ProfileError as error:
        raise ProfileError(f"{error}; remove this file, and resuming measures again") from error


def table_path(path: Path, scenario: Scenario, scenarios: int) -> Path:
    """The file of a scenario's table: `path`, or where there are several scenarios `table.chat.json`."""
    return path.with_suffix(f".{scenario.name}.json") if scenarios > 1 else path


def _samples(path: Path) -> Path:
    """Where the samples of a table are kept until it is written."""
    return path.with_suffix(".partial.json")


def _measure(
    study: Study, scenario: Scenario, path: Path, progress: Progress, *, address: str | None
) -> LatencyTable:
    plan = study.plan
    title = "measuring latency" if len(plan.scenarios) == 1 else f"measuring latency ({scenario.name})"
    with progress.bar(title, 100) as bar:
        return measured_table(
            study.space,
            scenario,
            path,
            {"seed": plan.seed, "seconds": plan.profile_seconds},
            readings=asked_readings(plan),
            on=plan.time_on,
            address=address,
            progress=lambda what, done, total: bar.update(100 * done // max(total, 1), what),
        )


def measured_table(
    space: Space,
    scenario: Scenario,
    path: Path,
    effort: Mapping[str, Any],
    *,
    readings: Sequence[str] = READINGS,
    similar: LatencyTable | None = None,
    on: str | None = None,
    address: str | None = None,
    progress: ProgressCallback | None = None,
) -> LatencyTable:
    """Measure a table, here or `on` a device of the Ray cluster at `address`, and write it to `path`.

    `effort` are `seconds` and `seed`; where one of the `readings` errs by more than 10 %, up to as many
    seconds more are spent. With the table of a `similar` device most of it is carried over.

    Raises:
        ProfileError: the device cannot be timed, or was lost.
    """
    partial = _samples(path)
    if on is not None:
        from nas.executors.ray_devices import profile_on  # Ray takes seconds to import

        table = profile_on(
            on,
            space,
            scenario,
            similar=similar,
            address=address,
            progress=progress,
            readings=readings,
            **effort,
        )
        table.save(path)
        return table
    kept: dict[str, Any] = {"partial": partial, "output": path, "progress": progress}
    if similar is not None:
        return with_serving(transfer_table(similar, space, scenario, **kept, **effort), path)
    return with_serving(profile_space(space, scenario, readings=readings, **kept, **effort), path)


def _require_trust(table: LatencyTable, plan: Plan) -> None:
    """Raise `ProfileError` where a strict plan needs what the table errs at by more than 10 %."""
    errors = _rough_where_needed(table, plan)
    if errors and plan.strict_table:
        raise ProfileError(
            f"the latency table for {table.scenario} errs on held-out networks, {errors}, more than"
            f" {100 * TRUSTED_MAPE:.0f} %: {_remedy()}, or use it with marked numbers"
            f" ({argument('strict_table', False)})"
        )


def _rough_where_needed(table: LatencyTable, plan: Plan) -> str:
    """The errors above 10 % of what the plan asks for, in words."""
    asked = asked_readings(plan)
    return error_words({name: mape for name, mape in table.rough.items() if name in asked})


def asked_readings(plan: Plan) -> tuple[str, ...]:
    """The readings of a table that an objective or a constraint of the plan needs."""
    asked = " ".join([*plan.objectives, *plan.constraints])
    if any(figure in asked for figure in FIGURES):
        return READINGS
    return tuple(reading for reading in READINGS if reading in asked)


def _remedy() -> str:
    return f"measure on a quiet machine, or longer ({argument('profile_seconds')})"


def _advice() -> str:
    """What to do about a rough table that is used."""
    return (
        "marked numbers guide the search, and members of the front are measured at the end; for a better"
        f" table start again under another name and {_remedy()};"
        f" {argument('strict_table', True)} refuses a rough one"
    )


def _record(study: Study, scenario: Scenario, table: Predictor) -> None:
    """Put the table's facts on record: of all scenarios under `tables`, of the first under `table`."""
    facts = study.facts
    if scenario.name in facts.get(TABLES, {}):
        return
    on = study.plan.time_on
    fact = table_fact(table, on) if isinstance(table, LatencyTable) else estimate_fact(table)
    add_fact(study, TABLES, {**facts.get(TABLES, {}), scenario.name: fact})
    if "table" not in facts:
        add_fact(study, "table", fact)
