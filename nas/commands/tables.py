"""Commands about latency tables, which carry them between machines: import, export, list, diff, merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid

from foundation.errors import ProfileError
from foundation.text import percent
from nas.commands.options import PATH, Json, Store
from nas.commands.output import cell, output_console, print_json, print_line
from nas.default_paths import DEFAULT_STORE

if TYPE_CHECKING:
    from nas.tables.library import Entry

TableFile = Annotated[
    str, typer.Argument(help="A table's file, or the name of an imported one.", show_default=False)
]


def add_table_commands(profiles: typer.Typer) -> None:
    """Add these commands to `nas profile`."""
    profiles.command(name="import")(import_table)
    profiles.command(name="export")(export_table)
    profiles.command(name="list")(list_tables)
    profiles.command()(diff)
    profiles.command()(merge)


def import_table(
    file: Annotated[
        Path,
        typer.Argument(
            help="A table from this or another machine, or a bundle that was run there.",
            show_default=False,
            **PATH,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What to call it; default: the file's name.")] = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Take a table into the library, so that `nas search --latency-table NAME` can use it here.

    The library is the folder `tables` beside the studies of the store, or that of NAS_TABLES.
    """
    from hw_profiles.bundles.reading import table_of_bundle
    from nas.tables.library import add
    from nas.tables.table_facts import elsewhere

    if file.is_dir():
        made = file / "table.json"
        table_of_bundle(file).save(made)
        entry = add(made, name or file.resolve().name, store=store)
    else:
        entry = add(file, name, store=store)
    difference = elsewhere(entry.table)
    where = f"another machine than this one: {difference}" if difference else "this machine"
    print_line(f"{entry.table}\nimported as {entry.name} ({entry.path}), of {where}")


def export_table(
    name: TableFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where it goes.", show_default=False, **PATH)
    ],
    store: Store = DEFAULT_STORE,
) -> None:
    """Write an imported table to a file, to carry it to another machine."""
    from nas.tables.library import named_table, without_note

    table = without_note(named_table(name, store))
    table.save(output)
    print_line(f"{table}\nwritten to {output}")


def list_tables(as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """List the imported tables: device, scenario, and their error on whole networks."""
    from nas.tables.library import Entry, entries, folder

    found = entries(store)
    if as_json:
        print_json(
            [_row(e) if isinstance(e, Entry) else {"name": e.name, "unreadable": e.why} for e in found]
        )
        return
    if not found:
        print_line(f"no table was imported to {folder(store)}: nas profile import FILE")
        return
    grid = Grid("table", "space", "scenario", "machine", "prefill", "decode", box=None, pad_edge=False)
    for entry in found:
        if isinstance(entry, Entry):
            row = _row(entry)
            errors = [_percent(row.get(reading)) for reading in ("prefill_ms", "decode_ms")]
            machine = f"{row['machine']}{', this one' if row['here'] else ''}"
            grid.add_row(*map(cell, (row["name"], row["space"], row["scenario"], machine, *errors)))
    if grid.row_count:
        output_console().print(grid)
    for entry in found:
        if not isinstance(entry, Entry):
            print_line(f"unreadable: {entry.why}")


def _row(entry: Entry) -> dict[str, Any]:
    """What a reader wants to know of an imported table."""
    from nas.tables.table_facts import elsewhere, machine_of

    return {
        "name": entry.name,
        "space": entry.table.space_name,
        "scenario": str(entry.table.scenario),
        "machine": machine_of(entry.table),
        "here": not elsewhere(entry.table),
        **{reading: accuracy.mape for reading, accuracy in entry.table.accuracies.items()},
    }


def diff(first: TableFile, second: TableFile, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Compare two tables: circumstances, and the ratio of times of the blocks that both have."""
    from hw_profiles.latency.comparison import compare
    from nas.tables.library import named_table

    comparison = compare(named_table(first, store), named_table(second, store))
    if as_json:
        print_json(comparison.to_plain())
    else:
        print_line(str(comparison))


def merge(
    tables: Annotated[
        list[str], typer.Argument(help="Tables of one machine and scenario.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where it goes.", show_default=False, **PATH)
    ],
    store: Store = DEFAULT_STORE,
) -> None:
    """Put tables together; those of different machines, software or scenarios are refused."""
    from hw_profiles.latency.assembly import merged
    from nas.tables.library import named_table

    if len(tables) < 2:
        raise ProfileError("merge takes two tables or more")
    table = merged([named_table(source, store) for source in tables])
    table.save(output)
    print_line(f"{table}\nwritten to {output}")


def _percent(value: float | None) -> str:
    return "unknown" if value is None else percent(value)
