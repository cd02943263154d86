"""The command about blocks: which there are, what one is, and whether one of your own keeps its promises."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from foundation.errors import EvaluationFailed, UnknownName
from foundation.registry import nearest
from nas.commands.output import cell, output_console, print_line


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(blocks)


def blocks(
    name: Annotated[
        str | None, typer.Argument(help="One block to explain; without it, a list.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE.py", help="List what this file adds.", show_default=False),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="FILE.py[:NAME]",
            help="Hold the blocks of this file to what every block promises; a line for each.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the blocks that a space can hold, explain one, or check one of your own.

    `nas blocks Mamba2` prints the equation, the paper, the fields and the import. With --check it
    builds the examples of each block in the file, and checks decode against prefill, causality, costs,
    states, gradients, number types, slices of a supernet, and export.
    """
    from search_spaces.blocks.base import blocks as registered

    if check is not None:
        _check(check)
        return
    if source is not None:
        from nas.study.own_blocks import blocks_in

        kinds = blocks_in(source)
    else:
        kinds = sorted(registered.values(), key=lambda kind: (kind.mixes, kind.__name__))
    if name is not None:
        _explain(_named(name, kinds), from_file=source is not None)
        return
    table = Table("block", "mixes", "what it is", box=None, pad_edge=False)
    for kind in kinds:
        table.add_row(*map(cell, (kind.__name__, kind.mixes, _about(kind).splitlines()[0])))
    output_console().print(table)


def _named(name: str, kinds: list[Any]) -> Any:
    """The block of this name, whatever its case."""
    by_name = {kind.__name__: kind for kind in kinds}
    by_lower_case = {known.lower(): known for known in by_name}
    known = name if name in by_name else by_lower_case.get(name.lower())
    if known is None:
        raise UnknownName(f"unknown block {name!r}; {nearest(name, by_name)}")
    return by_name[known]


def _explain(kind: Any, *, from_file: bool) -> None:
    examples = kind.examples()
    lines = [_about(kind), ""]
    if not from_file:
        lines += [f"from {kind.__module__} import {kind.__name__}"]
    lines += [str(examples[0])] if examples else []
    print_line("\n".join(lines))


def _about(kind: Any) -> str:
    """The text of a block's module, or of its class where it has none of its own."""
    module = sys.modules.get(kind.__module__)
    return ((module and module.__doc__) or kind.__doc__ or "").strip() or "no description"


def _check(source: str) -> None:
    """Check the blocks of a file, and print a line for each promise.

    Raises:
        EvaluationFailed: a promise is broken.
    """
    from nas.study.own_blocks import blocks_in
    from search_spaces.block_contract import BrokenPromise, block_checks

    broken = 0
    for kind in blocks_in(source):
        results: dict[str, str] = {}
        try:
            checks = block_checks(kind)
        except BrokenPromise as error:
            print_line(f"BROKEN  {error}")
            broken += 1
            continue
        for check in checks:
            try:
                check()
            except BrokenPromise as error:
                results.setdefault(check.promise.name, str(error))
        names = list(dict.fromkeys(check.promise.name for check in checks))
        for name in names:
            print_line(f"BROKEN  {results[name]}" if name in results else f"ok      {name}")
        print_line(f"{kind.__name__}: {len(names) - len(results)} of {len(names)} promises kept")
        broken += len(results)
    if broken:
        raise EvaluationFailed(f"{broken} promise{'s are' if broken > 1 else ' is'} broken")
