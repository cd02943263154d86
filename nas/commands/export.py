"""Commands that take a network out of a study: export, generate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Store, StudyName, TrialName
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line
from nas.default_paths import DEFAULT_STORE
from search_spaces.network.generation import Generation


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (export, generate):
        app.command()(command)


def export(
    study: StudyName,
    trial: TrialName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace a model exported there before.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Write a network as config.json and model.safetensors; `nas.load(DIR)` gives a plain nn.Module.

    The weights are the best the study has: trained from scratch if it was a finalist, else the supernet's.
    """
    from nas.study.export import export as write
    from nas.study.study import open_study

    folder, about = write(open_study(study, store), trial, output, force=force)
    print_line(f"{folder}: {about['digest']}, {about['weights']}")


@with_settings(Generation)
def generate(
    folder: Annotated[Path, typer.Argument(help="An exported model.", show_default=False)],
    *,
    settings: Given,
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "def ",
) -> None:
    """Let an exported model continue a text, byte by byte."""
    import torch

    from foundation.errors import SettingError
    from search_spaces.network.model_files import load_model

    if not prompt:
        raise SettingError("--prompt must not be empty")
    model, how = load_model(folder), Generation(**settings)
    tokens = torch.tensor([list(prompt.encode())])
    dice = torch.Generator().manual_seed(how.seed)
    written = model.generate(tokens, how.new_tokens, temperature=how.temperature, dice=dice)
    sys.stdout.write(prompt + bytes(written[0].tolist()).decode(errors="replace") + "\n")
