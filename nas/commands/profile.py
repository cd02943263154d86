"""The command that measures a latency table: profile. It is also the group of the commands about tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from foundation.errors import ProfileError, SettingError
from foundation.settings import SEEDS, Settings, setting
from nas.commands import tables
from nas.commands.groups import MACHINES
from nas.commands.options import PATH, RayAddress, SpaceName, Store, Yes
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.study.plan import Plan

if TYPE_CHECKING:
    from hw_profiles.latency.table import LatencyTable
    from search_spaces.language.space import Space
    from search_spaces.scenario import Scenario

MEASURE = "measure"


class _MeasuresByDefault(TyperGroup):
    """`nas profile SPACE` measures; `nas profile import FILE` and its kin are commands of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front where the arguments begin with none."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [MEASURE, *args]
        return super().parse_args(ctx, args)


profiles = typer.Typer(
    cls=_MeasuresByDefault,
    no_args_is_help=True,
    help="Measure latency tables, and carry them between machines: `nas profile SPACE -o table.json` measures"
    " here, `nas profile SPACE --bundle DIR` writes what a phone or a board must run, and `nas profile import"
    " DIR` reads what came of it. All options: `nas profile measure --help`.",
)


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    profiles.command(name=MEASURE)(profile)
    tables.add_table_commands(profiles)
    app.add_typer(profiles, name="profile", rich_help_panel=MACHINES)


@dataclass(frozen=True, kw_only=True)
class Profiling(Settings):
    """How a table is measured, and when it is good enough."""

    profile_seconds: float | None = setting(
        None,
        help="Time to spend on measuring; more gives a smaller error.",
        least=0,
        most=1e7,
        unit="s",
        shown=f"{Plan.profile_seconds:g}; less with --from",
    )
    seed: int = setting(0, help="Random seed of the networks that check the table.", least=0, most=SEEDS)
    similar: str | None = setting(
        None,
        help="A table of a similar device: a few dozen parts are timed here, the rest is carried over.",
        option="from",
        metavar="TABLE",
    )
    strict: bool = setting(
        False, help="Fail if a latency did not settle, or the table is not trusted. It is written anyway."
    )

    @property
    def effort(self) -> dict[str, Any]:
        """The seconds and the random seed of a measurement."""
        from hw_profiles.latency.transfer import SECONDS

        usual = Plan.profile_seconds if self.similar is None else SECONDS
        seconds = usual if self.profile_seconds is None else self.profile_seconds
        return {"seconds": seconds, "seed": self.seed}


@with_settings(Plan, ("scenarios", "time_on"))
@with_settings(Profiling, into="profiling")
def profile(
    space: SpaceName,
    *,
    settings: Given,
    profiling: Given,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the table goes.", **PATH)] = Path(
        "table.json"
    ),
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write what another machine must time, with a script for it, and time nothing here.",
            show_default=False,
        ),
    ] = None,
    ray: RayAddress = None,
    store: Store = DEFAULT_STORE,
    yes: Yes = False,
) -> None:
    """Measure the latency of the blocks of a space, and the table's error on whole networks.

    With several scenarios there is one table for each, e.g. table.NAME.json.

    A profile that was stopped is continued. A machine without this project (a phone, a board) runs what
    --bundle writes, and `nas profile import` reads its result.
    """
    from nas.commands.consent import with_consent
    from nas.study.space_files import load_space
    from nas.tables.library import named_table
    from nas.tables.study_tables import table_path

    plan, how = Plan(**settings), Profiling(**profiling)
    if bundle is not None:
        _write_bundles(space, plan, how, bundle)
        return
    _require_measurable(plan, output, ray)
    similar = None if how.similar is None else named_table(how.similar, store)
    loaded, doubts = load_space(space), []
    with_consent(partial(_require_consent, loaded, plan, how), yes)
    for scenario in plan.scenarios:
        path = table_path(output, scenario, len(plan.scenarios))
        table = _measure(loaded, scenario, path, how, similar=similar, on=plan.time_on, address=ray)
        print_line(f"{table}\nwritten to {path}")
        doubts += _doubts(table, path)
    if how.strict and doubts:
        again = "profile again on a quiet machine, or longer (--profile-seconds)"
        raise ProfileError(f"{'; '.join(doubts)}: {again}")


def _write_bundles(name: str, plan: Plan, how: Profiling, folder: str) -> None:
    """A bundle for each scenario; of several, in folders of their names."""
    from hw_profiles.bundles.writing import check_carried, write_bundle
    from nas.progress import Terminal
    from nas.study.space_files import load_space

    several = len(plan.scenarios) > 1
    places = {Path(folder, s.name) if several else Path(folder): s for s in plan.scenarios}
    for path, scenario in places.items():
        check_carried(scenario, path)
    space, effort = load_space(name), how.effort
    for path, scenario in places.items():
        with Terminal().bar(f"preparing a bundle ({scenario})", 100) as bar:

            def progress(what: str, done: int, total: int) -> None:
                bar.update(100 * done // max(total, 1), what)

            count = write_bundle(space, scenario, path, **effort, progress=progress)
        print_line(
            f"{count} programs written to {path}: on the other machine `sh run.sh` in it, then here"
            f" `nas profile import {path}`"
        )


def _require_consent(space: Space, plan: Plan, how: Profiling, yes: bool) -> None:
    """Raise `ConsentNeeded` where the measurement would take very long, or more memory than there is."""
    from nas.study.forecast import Forecast, largest_of, of_timing

    if plan.time_on is None:
        largest, seconds = largest_of(space), how.effort["seconds"]
        each = [of_timing(largest, scenario, seconds) for scenario in plan.scenarios]
        sum(each, Forecast()).require_consent(yes)


def _require_measurable(plan: Plan, output: Path, ray: str | None) -> None:
    """Raise at once what would otherwise end a profile after minutes."""
    from hw_profiles.runtimes.base import check_scenario, runtime_of

    if not output.name or output.is_dir():
        raise ProfileError(f"--output {output} is a folder: name a file, e.g. table.json")
    if ray is not None and plan.time_on is None:
        raise SettingError(f"--ray {ray} is where a device is looked for: name it with --time-on DEVICE")
    for scenario in plan.scenarios:
        check_scenario(scenario)
        if plan.time_on is None:
            runtime_of(scenario).check_installed()


def _doubts(table: LatencyTable, path: Path) -> list[str]:
    """Why a table is not good enough for `--strict`."""
    doubts = [f"{table.restless} latencies did not settle"] if table.restless else []
    doubts += [] if table.trusted else ["it is not trusted, see above"]
    return [f"{path}: {' and '.join(doubts)}"] if doubts else []


def _measure(
    space: Space,
    scenario: Scenario,
    path: Path,
    how: Profiling,
    *,
    similar: LatencyTable | None,
    on: str | None,
    address: str | None,
) -> LatencyTable:
    """The table, which is in its file when this returns."""
    from nas.progress import Terminal
    from nas.tables.study_tables import measured_table

    if on is not None:
        Workers(address=address).check(on, Terminal().say)
    where = "" if on is None else f" on {on}"
    with Terminal().bar(f"measuring latency{where} ({scenario})", 100) as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.update(100 * done // max(total, 1), what)

        return measured_table(
            space, scenario, path, how.effort, similar=similar, on=on, address=address, progress=progress
        )
