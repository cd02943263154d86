"""The command about blocks: which there are, what one is, and whether one of your own keeps its promises."""

from __future__ import annotations

from typing import Annotated

import typer

from foundation.errors import EvaluationFailed
from nas.commands.catalogue import Catalogue, From, catalogue, first_line, text_of
from nas.commands.groups import CATALOGUE
from nas.commands.output import print_line


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=CATALOGUE)(blocks)


def blocks(
    name: Annotated[
        str | None, typer.Argument(help="One block to explain; without it, a list.", show_default=False)
    ] = None,
    source: From = None,
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
    from nas.study.own_blocks import defined_in
    from search_spaces.blocks.base import blocks as registered

    if check is not None:
        _check(check)
        return
    found = catalogue(registered, source, defined_in)
    if name is not None:
        _explain(found, name)
        return
    by_mixes = sorted(found.things.items(), key=lambda item: (item[1].mixes, item[0]))
    listed = found if source else Catalogue(found.kind, dict(by_mixes))
    listed.print_table(("mixes", "what it is"), lambda kind: (kind.mixes, first_line(kind)))


def _explain(found: Catalogue, name: str) -> None:
    kind = found.named(name)
    examples = kind.examples()
    lines = [text_of(kind), ""]
    if not found.origin:
        lines += [f"from {kind.__module__} import {kind.__name__}"]
    lines += [str(examples[0])] if examples else []
    print_line("\n".join(lines))


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
