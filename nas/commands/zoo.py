"""The command that shows what is published: `nas zoo`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from foundation.errors import EvaluationFailed, NasError
from foundation.text import number_text
from nas.commands.groups import CATALOGUE
from nas.commands.options import Json
from nas.commands.output import output_console, print_json, print_line


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=CATALOGUE)(zoo)


def zoo(
    name: Annotated[str | None, typer.Argument(help="One architecture to print; without it, a list.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Build, decode and compare with references; one line each.", hidden=True
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Published architectures, expressed as points of one space.

    All of them lie in the ready-made space `hybrid_lm`. `nas zoo jamba` prints the layers, parameters and
    state bytes of one, and a link to its paper.
    """
    from search_spaces.zoo import zoo as architectures

    points = [architectures[name]] if name is not None else list(architectures.values())
    if check:
        _check(points, as_json)
    elif as_json:
        print_json([_plain(point) for point in points])
    elif name is not None:
        _print_one(points[0])
    else:
        _print_list(points)


def _print_list(points: list[Any]) -> None:
    table = Table("architecture", "family", "layers", "params", "state", "paper", box=None, pad_edge=False)
    for point in sorted(points, key=lambda point: (point.family, point.name)):
        numbers = _numbers(point)
        table.add_row(
            point.name,
            point.family,
            str(len(point.spec.layers)),
            number_text("params", numbers["params"]),
            number_text("state_bytes", numbers["state_bytes"]),
            f"{point.paper}, arXiv:{point.arxiv}",
        )
    output_console().print(table)


def _print_one(point: Any) -> None:
    numbers = _numbers(point)
    lines = [
        f"{point.name} ({point.family}): {point.paper}, {point.link}",
        *([point.note] if point.note else []),
        str(point.spec),
        f"{numbers['params']:,} parameters, {numbers['weight_bytes']:,} bytes stored",
        f"decode state {numbers['state_bytes']:,} bytes after {numbers['context']} tokens,"
        f" {numbers['state_bytes_per_token']:,} more for each further one",
    ]
    print_line("\n".join(lines))


def _check(points: list[Any], as_json: bool) -> None:
    """Check every architecture, and print a line for each as soon as it is checked.

    Raises:
        EvaluationFailed: one of them failed.
    """
    # that references have no fused kernels here is what makes them references
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    rows = []
    width = max(len(point.name) for point in points)
    for point in points:
        row, result = _checked(point)
        rows.append(row)
        if not as_json:
            print_line(f"{point.name:{width}}  {result}")
            sys.stdout.flush()
    failed = [row["name"] for row in rows if not row["ok"]]
    if as_json:
        print_json(rows)
    else:
        print_line(f"{len(points) - len(failed)} of {len(points)} architectures ok")
    if failed:
        raise EvaluationFailed(f"these architectures failed: {', '.join(failed)}")


def _checked(point: Any) -> tuple[dict[str, Any], str]:
    """The result of checking one architecture, as plain values and as a line."""
    from search_spaces.parity import TOLERANCE
    from search_spaces.zoo_check import DECODE_TOLERANCE, check

    try:
        result = check(point.spec)
    except NasError as error:
        return {"name": point.name, "ok": False, "error": str(error)}, f"FAILED  {error}"
    good = result.decode <= DECODE_TOLERANCE and (result.parity is None or result.parity <= TOLERANCE)
    parity = "not checked" if result.parity is None else f"{result.parity:.1e}"
    against = f"install {', '.join(result.missing)}" if result.missing else "; ".join(result.sources)
    line = (
        f"{'ok' if good else 'FAILED':6}  {result.params:>9,} params"
        f"  decode-prefill {result.decode:.1e}  parity {parity} ({against})"
    )
    return {"name": point.name, "ok": good, **vars(result)}, line


def _numbers(point: Any) -> dict[str, int]:
    from search_spaces.scenario import Scenario

    scenario = Scenario()
    return {"context": scenario.context, **vars(point.spec.cost(scenario))}


def _plain(point: Any) -> dict[str, Any]:
    from search_spaces.language.serialization import to_plain

    about = {name: getattr(point, name) for name in ("name", "family", "paper", "arxiv", "link", "note")}
    return {**about, **_numbers(point), "spec": to_plain(point.spec)}
