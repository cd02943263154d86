"""Commands that take a network out of a study: export, generate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from foundation.text import harmless
from nas.commands.groups import MODELS
from nas.commands.options import PATH, DraftLine, Force, NetworkName, OfStudy, SourceFile, Store, TrustCode
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_note
from nas.default_paths import DEFAULT_STORE
from search_spaces.network.generation import Generation


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (export, generate):
        app.command(rich_help_panel=MODELS)(command)


def export(
    network: NetworkName,
    trial: OfStudy = None,
    *,
    output: Annotated[str, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    to: Annotated[
        str, typer.Option(metavar="FORMAT[,SETTING=VALUE...]", help="The format; `nas targets` lists them.")
    ] = "nas",
    force: Force = False,
    trust_code: TrustCode = False,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Write a network as config.json and model.safetensors; `nas.load(DIR)` gives a plain nn.Module.

    The source of blocks that the library lacks goes along, in `code`. Other formats (--to) are checked
    against our own model when they are written, and the largest difference of logits is printed.

    Of a study's network, the weights are those of its longest training from scratch, as a finalist or a
    candidate, else the supernet's; where they were not kept, it is trained again, which is told before. A
    folder that was imported, trained further or modified is written in other formats as it is.

    Examples: nas export first best -o winner; nas export parent --to onnx -o shipped
    """
    from nas.progress import Terminal
    from nas.study.export import export as write
    from nas.study.study import open_study
    from nas.training.start import check_named, export_start
    from search_spaces.network.model_files import CODE
    from search_spaces.zoo import PREFIX as ZOO

    check_named(network, trial, store=store)
    if trial is not None and not network.startswith(ZOO):
        folder, about = write(
            open_study(network, store), trial, output, to=to, force=force, space=space, progress=Terminal()
        )
    else:
        folder, about = export_start(network, trial, output, to=to, force=force, trust_code=trust_code)
    which = about.get("digest") or about.get("architecture") or network
    print_line(", ".join((f"{folder}: {which}", *filter(None, [about.get("weights")]))))
    for what, difference in about.get("differences", {}).items():
        print_line(f"largest difference of logits from our own model, {what}: {difference:.2g}")
    if why := about.get("class_of_its_own"):
        print_line(f"its class is Python in the folder, loaded with trust_remote_code=True ({why})")
    if (folder / CODE).is_dir():
        print_line(f"it holds blocks of your own: nas generate {folder} --trust-code")


@with_settings(Generation)
def generate(
    folder: Annotated[Path, typer.Argument(help="An exported model.", show_default=False, **PATH)],
    *,
    settings: Given,
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "def ",
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the blocks of its own that the folder holds as Python.")
    ] = False,
    draft: DraftLine = None,
) -> None:
    """Let an exported model continue a text, in its tokenizer's tokens or byte by byte.

    What it writes appears as it comes, a character when it is whole. It is printed as it is into a file or a
    pipe; on a terminal, control characters are spelled out (`\\x1b`), because they could do there what they
    want. With --draft the text is the same and comes sooner, where the draft foresees it; how often it did
    is told on standard error.
    """
    import torch

    from evaluators.tokens.speech import vocabulary_of
    from foundation.errors import SettingError
    from nas.serving.continuation import continued
    from nas.serving.drafts.base import Draft
    from nas.study.model_code import load

    if not prompt:
        raise SettingError("--prompt must not be empty")
    model, how = load(folder, trust_code=trust_code), Generation(**settings)
    vocabulary = vocabulary_of(folder, model.spec.vocab)
    prompted = vocabulary.prompt(os.fsencode(prompt))  # whatever bytes the shell gave
    if not prompted:
        raise SettingError("--prompt has no tokens in the model's vocabulary")
    dice, stream = torch.Generator().manual_seed(how.seed), vocabulary.stream(prompted)
    told = continued(model, prompted, how, Draft.from_line(draft)) if draft else None
    _write(stream.begun)
    if told is None:
        for token in model.stream(torch.tensor([prompted]), how, dice):
            _write(stream.push(int(token)))
        _write(stream.end() + "\n")
        return
    for number in told.tokens():
        _write(stream.push(number))
    _write(stream.end() + "\n")
    print_note(f"draft {draft}: {told.summary}")


def _write(text: str) -> None:
    """A part of the text, as soon as it is known."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    if text:
        sys.stdout.flush()
