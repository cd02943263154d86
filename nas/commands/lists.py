"""Commands that list what can be named: spaces, engines, strategies, objectives."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from foundation.settings import Settings
from nas.commands.output import cell, output_console, print_line


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (spaces, engines, strategies, objectives):
        app.command()(command)


def spaces(
    name: Annotated[str | None, typer.Argument(help="A ready-made space, or FILE.py[:NAME].")] = None,
) -> None:
    """List the ready-made spaces, or print one."""
    from nas.study.space_files import load_space
    from search_spaces.spaces import spaces as ready_made

    if name is not None:
        print_line(str(load_space(name)))
        return
    for title, make in ready_made.items():
        print_line(f"{title}: {_first_line(make)}")


def engines(
    name: Annotated[
        str | None, typer.Argument(help="One engine, with its settings.", show_default=False)
    ] = None,
) -> None:
    """List the engines that search shared weights, or explain one and its settings (`--set`)."""
    from nas.engines.base import engines as registered

    if name is None:
        _print_kinds(registered)
        return
    kind = registered[name]
    _explain(kind, kind)
    if kind.asks_strategy:
        print_line("Its settings are those of the strategy (--strategy): nas strategies NAME")


def strategies(
    name: Annotated[
        str | None, typer.Argument(help="One strategy, with its settings.", show_default=False)
    ] = None,
) -> None:
    """List the strategies that propose candidates, or explain one and its settings (`--set`)."""
    from nas.strategies.base import strategies as registered

    if name is None:
        _print_kinds(registered)
        return
    _explain(registered[name], registered[name].settings_kind)


def objectives() -> None:
    """List what can be traded off and bounded, with units."""
    from nas.objectives.base import objectives as registered

    table = Table("objective", "unit", "available", "what it is", box=None, pad_edge=False)
    for objective in registered.values():
        when = "before training" if objective.cheap else "after training"
        table.add_row(*map(cell, (objective.name, objective.unit, when, objective.about)))
    output_console().print(table)


def _print_kinds(kinds: Mapping[str, type[Any]]) -> None:
    for name, kind in kinds.items():
        print_line(f"{name}: {_first_line(inspect.getmodule(kind))}")


def _explain(kind: type[Any], settings: type[Settings]) -> None:
    """What a kind is, from its module, and its settings with help and range."""
    from nas.commands.options_from_settings import settings_lines

    print_line(f"{kind.name}: {inspect.getdoc(inspect.getmodule(kind))}\n\n{inspect.getdoc(kind)}\n")
    for line in settings_lines(settings):
        print_line(line)


def _first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]
