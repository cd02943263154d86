"""Commands about devices and their latency tables: profile (import, export, list, diff, merge), devices."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid
from typer.core import TyperGroup

from foundation.errors import ProfileError, SettingError
from nas.commands.described import Given, with_settings
from nas.commands.options import Json, RayAddress, SpaceName
from nas.commands.output import output_console, print_json, print_line
from nas.study.plan import Plan

if TYPE_CHECKING:
    from hw_profiles.latency.table import LatencyTable
    from nas.executors.devices import Device

MEASURE = "measure"

TableFile = Annotated[
    str, typer.Argument(help="A table's file, or the name of an imported one.", show_default=False)
]


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
    help="Measure latency tables, and carry them between machines: nas profile SPACE -o table.json",
)


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    profiles.command(name=MEASURE)(profile)
    profiles.command(name="import")(import_table)
    profiles.command(name="export")(export_table)
    profiles.command(name="list")(list_tables)
    profiles.command()(diff)
    profiles.command()(merge)
    app.add_typer(profiles, name="profile")
    app.command()(devices)


@with_settings(Plan, ("scenarios", "on"))
def profile(
    space: SpaceName,
    *,
    settings: Given,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the table goes.")] = Path(
        "table.json"
    ),
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Time to spend; more gives a smaller error.",
            show_default=f"{Plan.profile_seconds:g}; less with --from",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the networks that check the table.")] = 0,
    similar: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TABLE",
            help="A table of a similar device: a few dozen things are timed here, the rest is carried over.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail if a latency did not settle, or the table is not trusted. It is written anyway.",
        ),
    ] = False,
    ray: RayAddress = None,
) -> None:
    """Measure the latency of the blocks of a space, and the table's error on whole networks.

    With several scenarios there is one table for each, e.g. table.NAME.json. A profile that was stopped is
    continued.
    """
    from hw_profiles.latency.transfer import SECONDS
    from nas.study.space_files import load_space
    from nas.tables.study_tables import table_path

    plan = Plan(**settings)
    _require_measurable(plan, output, ray)
    if seconds is None:
        seconds = plan.profile_seconds if similar is None else SECONDS
    effort = {"seconds": seconds, "seed": seed}
    loaded, doubts = load_space(space), []
    for scenario in plan.scenarios:
        path = table_path(output, scenario, len(plan.scenarios))
        table = _measure(loaded, scenario, path, effort, similar=similar, on=plan.on, address=ray)
        print_line(f"{table}\nwritten to {path}")
        doubts += _doubts(table, path)
    if strict and doubts:
        again = "profile again on a quiet machine, or longer (--seconds)"
        raise ProfileError(f"{'; '.join(doubts)}: {again}")


def _require_measurable(plan: Plan, output: Path, ray: str | None) -> None:
    """Raise at once what would otherwise end a profile after minutes."""
    from hw_profiles.runtimes.base import check_scenario

    if not output.name or output.is_dir():
        raise ProfileError(f"--output {output} is a folder: name a file, e.g. table.json")
    if ray is not None and plan.on is None:
        raise SettingError(f"--ray {ray} is where a device is looked for: name it with --on DEVICE")
    for scenario in plan.scenarios:
        check_scenario(scenario)


def _doubts(table: LatencyTable, path: Path) -> list[str]:
    """Why a table is not good enough for `--strict`."""
    doubts = [f"{table.restless} latencies did not settle"] if table.restless else []
    doubts += [] if table.trusted else ["it is not trusted, see above"]
    return [f"{path}: {' and '.join(doubts)}"] if doubts else []


def import_table(
    file: Annotated[Path, typer.Argument(help="A table from this or another machine.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="What to call it; default: the file's name.")] = None,
) -> None:
    """Take a table into the library, so that `nas search --table NAME` can use it here."""
    from nas.tables.library import add
    from nas.tables.study_tables import elsewhere

    entry = add(file, name)
    difference = elsewhere(entry.table)
    where = f"another machine than this one: {difference}" if difference else "this machine"
    print_line(f"{entry.table}\nimported as {entry.name} ({entry.path}), of {where}")


def export_table(
    name: TableFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where it goes.", show_default=False)],
) -> None:
    """Write an imported table to a file, to carry it to another machine."""
    from nas.tables.library import find, without_note

    table = without_note(_loaded(find(name)))
    table.save(output)
    print_line(f"{table}\nwritten to {output}")


def list_tables(as_json: Json = False) -> None:
    """List the imported tables: device, scenario, and their error on whole networks."""
    from nas.tables.library import entries, folder
    from nas.tables.study_tables import elsewhere, machine_of

    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "space": entry.table.space_name,
            "scenario": str(entry.table.scenario),
            "machine": machine_of(entry.table),
            "here": not elsewhere(entry.table),
            **{reading: found.mape for reading, found in entry.table.accuracies.items()},
        }
        for entry in entries()
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line(f"no table was imported to {folder()}: nas profile import FILE")
        return
    grid = Grid("table", "space", "scenario", "machine", "prefill", "decode", box=None, pad_edge=False)
    for row in rows:
        errors = [_percent(row.get(reading)) for reading in ("prefill_ms", "decode_ms")]
        machine = f"{row['machine']}{', this one' if row['here'] else ''}"
        grid.add_row(row["name"], row["space"], row["scenario"], machine, *errors)
    output_console().print(grid)


def diff(one: TableFile, other: TableFile, as_json: Json = False) -> None:
    """Compare two tables: circumstances, and the ratio of times of the blocks that both have."""
    from hw_profiles.latency.comparison import compare
    from nas.tables.library import find

    found = compare(_loaded(find(one)), _loaded(find(other)))
    print_line(json.dumps(found.to_plain(), indent=2) if as_json else str(found))


def merge(
    tables: Annotated[
        list[str], typer.Argument(help="Tables of one machine and scenario.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where it goes.", show_default=False)],
) -> None:
    """Put tables together; those of different machines, software or scenarios are refused."""
    from hw_profiles.latency.assembly import merged
    from nas.tables.library import find

    if len(tables) < 2:
        raise ProfileError("merge takes two tables or more")
    table = merged([_loaded(find(source)) for source in tables])
    table.save(output)
    print_line(f"{table}\nwritten to {output}")


def devices(
    probe: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Measure the peaks of a device here, e.g. cpu or cuda:0."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the probe.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the probed card to this file.")
    ] = None,
    ray: RayAddress = None,
    as_json: Json = False,
) -> None:
    """List the devices of this machine, and the device cards that latency can be estimated from.

    With --ray also the devices of a cluster: its nodes with a resource 'device:NAME'.
    """
    from hw_profiles.roofline.cards import cards, devices_here
    from hw_profiles.roofline.probe import probe as measure

    if probe is not None:
        card = measure(probe, threads=threads)
        if output is not None:
            card.save(output)
        print_line(json.dumps(card.to_plain(), indent=2) if as_json else str(card))
        return
    if output is not None:
        raise SettingError("--output is where the card of --probe DEVICE goes: say which device")
    here = [{**device, "energy": _energy(device["device"])} for device in devices_here()]
    cluster = _devices_of(ray)
    if as_json:
        plain = {"here": here, "cards": [card.to_plain() for card in cards.values()]}
        if cluster is not None:
            plain["cluster"] = [asdict(device) for device in cluster]
        print_json(plain)
        return
    print_line("this machine:")
    for device in here:
        print_line("  " + _device_line(device))
    if cluster is not None:
        print_line(f"devices of the Ray cluster at {ray} (nas profile --on DEVICE, nas search --on DEVICE):")
        for found in cluster:
            print_line(f"  {found}")
    print_line("device cards, for estimates (nas search --estimate CARD):")
    for card in cards.values():
        print_line(f"  {card}")


def _measure(
    space: Any,
    scenario: Any,
    path: Path,
    effort: dict[str, Any],
    *,
    similar: str | None,
    on: str | None,
    address: str | None,
) -> LatencyTable:
    """The table, which is in its file when this returns."""
    from nas.progress import Terminal
    from nas.tables.library import find
    from nas.tables.study_tables import measured_table

    known = None if similar is None else _loaded(find(similar))
    where = "" if on is None else f" on {on}"
    with Terminal().bar(f"measuring latency{where} ({scenario})", 100) as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.update(100 * done // max(total, 1), what)

        return measured_table(
            space, scenario, path, effort, similar=known, on=on, address=address, progress=progress
        )


def _devices_of(ray: str | None) -> list[Device] | None:
    """The devices of the cluster at an address, where one is given."""
    if ray is None:
        return None
    from nas.executors.devices import devices as devices_of

    return list(devices_of(ray).values())


def _loaded(path: Path) -> LatencyTable:
    from hw_profiles.latency.table import LatencyTable

    return LatencyTable.load(path, allow_other_machine=True)


def _energy(device: str) -> str | None:
    from hw_profiles.energy_counters import counter_of

    counter = counter_of(device)
    return None if counter is None else counter.name


def _device_line(device: dict[str, Any]) -> str:
    size = f", {device['memory_bytes'] / 1e9:.0f} GB" if device["memory_bytes"] else ""
    cores = f", {device['cores']} cores" if "cores" in device else ""
    card = f"card {device['card']}" if device["card"] else f"no card: nas devices --probe {device['device']}"
    energy = device["energy"] or "not counted"
    return f"{device['device']}: {device['name']}{cores}{size}; {card}; energy: {energy}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
