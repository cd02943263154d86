"""The command that takes over models of others: `nas import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.groups import MODELS
from nas.commands.options import PATH, Force
from nas.commands.output import print_line


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(name="import", rich_help_panel=MODELS)(import_model)


def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of transformers (config.json and safetensors), or a file in GGUF.",
            show_default=False,
            **PATH,
        ),
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The folder to write.", show_default=False)
    ] = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Print the largest difference of logits from transformers'.")
    ] = False,
    force: Force = False,
) -> None:
    """Take over a model that others trained, as a network of ours with its weights and its tokenizer.

    What it computes stays the same: --check compares it with transformers, where a prompt is read and token
    by token, with or without writing it. No code in the folder is run, and no pickle is read.
    """
    from foundation.errors import SettingError
    from nas.imports import import_model as read
    from nas.progress import Terminal

    if output is None and not check:
        raise SettingError("say where the model goes (--output), or compare it only (--check)")
    found = read(source, output, check=check, force=force, progress=Terminal())
    print_line(f"{found.family}: {found.parameters:,} parameters\n{found.spec}")
    for note in found.notes:
        print_line(note)
    if found.difference is not None:
        difference = found.difference
        print_line(
            f"{found.family}: largest difference of logits from transformers: {difference.prefill:.1e} in"
            f" prefill, {difference.decode:.1e} in decode, of logits up to {difference.largest:.3g}"
        )
    if output is not None:
        print_line(f"written to {output}")
