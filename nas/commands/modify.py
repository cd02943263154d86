"""Commands that make another network of a trained one: one for each modifier, and `run` for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.groups import MODELS
from nas.commands.options import Force, NetworkName, OfStudy, Output, SourceFile, Store, TrustCode
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_table
from nas.commands.words import command_line
from nas.default_paths import DEFAULT_STORE
from nas.modifiers.base import Modifier, modifiers
from nas.modifiers.lists import LIST_SUFFIX, read_modifiers
from nas.modifiers.settings import ModificationSettings

if TYPE_CHECKING:
    from nas.modification import Modified


def mount(app: typer.Typer) -> None:
    """Add these commands; a new modifier brings its own."""
    app.command(rich_help_panel=MODELS)(run)
    for kind in modifiers.values():
        app.command(rich_help_panel=MODELS)(_command_of(kind))


Then = Annotated[
    list[str] | None,
    typer.Option(
        "--then",
        metavar="NAME[,SETTING=VALUE...]",
        help="A modifier that follows. Repeat it for several.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what each modifier would do to the size, and run nothing.")
]


@with_settings(ModificationSettings)
def run(
    modifier: Annotated[
        str,
        typer.Argument(
            metavar="NAME[,SETTING=VALUE...]|FILE.json",
            help="A modifier (`nas modifiers` lists them), or a file with a list of them.",
            show_default=False,
        ),
    ],
    network: NetworkName,
    trial: OfStudy = None,
    *,
    settings: Given,
    output: Output = None,
    then: Then = None,
    force: Force = False,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Make another network of a trained one by a list of modifiers, and measure each on the same windows.

    OUT holds the network that comes out, with a record of each modifier. Where a run was stopped, OUT is
    refused by whatever loads it, and the same words go on behind the last modifier that is done. A file holds
    a list in JSON: ["prune,pattern=2:4", "quantize,bits=4"].

    Example: nas run prune,pattern=2:4 winner -o small --then quantize,bits=4
    """
    _check_order(modifier, network, *filter(None, [trial]))
    first = list(read_modifiers(modifier)) if modifier.endswith(LIST_SUFFIX) else [_written(modifier)]
    begin = {"trial": trial, "store": store, "space": space, "trust_code": trust_code}
    words = {"settings": settings, "output": output, "force": force, "dry_run": dry_run}
    _run([*first, *map(_written, then or [])], network, begin, words)


def _check_order(first: str, *others: str) -> None:
    """Raise `SettingError` where a modifier, or a file with some, stands behind the network."""
    from foundation.errors import SettingError

    def is_modifier(word: str) -> bool:
        return word.endswith(LIST_SUFFIX) or word.partition(",")[0].strip() in modifiers

    if not is_modifier(first) and (behind := next(filter(is_modifier, others), None)):
        rest = [word for word in (first, *others) if word is not behind]
        raise SettingError(f"the modifier comes first: nas run {' '.join([behind, *rest])}")


def _written(text: str) -> Modifier:
    """The modifier of a line on a command line, all of whose settings count.

    Raises:
        SettingError: one does not, or is out of range.
    """
    from nas.modifiers.base import modifier_of

    modifier = modifier_of(text)
    modifier.require_read(part.partition("=")[0].partition(".")[0].strip() for part in text.split(",")[1:])
    return modifier


def _command_of(kind: type[Modifier]) -> Any:
    """The command of one modifier, with an option for each of its settings."""

    def command(
        network: NetworkName,
        trial: OfStudy = None,
        *,
        own: Given,
        settings: Given,
        output: Output = None,
        then: Then = None,
        force: Force = False,
        dry_run: DryRun = False,
        trust_code: TrustCode = False,
        space: SourceFile = None,
        store: Store = DEFAULT_STORE,
    ) -> None:
        begin = {"trial": trial, "store": store, "space": space, "trust_code": trust_code}
        words = {"settings": settings, "output": output, "force": force, "dry_run": dry_run}
        first = kind(**own)
        first.require_read(own)
        _run([first, *map(_written, then or [])], network, begin, words)

    words = " ".join(filter(None, (f"nas {kind.name} winner", kind.example)))
    command.__name__ = kind.name
    command.__doc__ = f"{kind.__doc__}\n\n    Example: {words} -o out"
    return with_settings(kind, into="own")(with_settings(ModificationSettings)(command))


def _run(chosen: Sequence[Modifier], what: str, begin: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    """Apply modifiers to the network that `what` and `begin` name, as `start_of` does."""
    from foundation.errors import SettingError
    from foundation.files import real_path
    from nas.modification import estimates, is_begun, modify
    from nas.progress import Terminal
    from nas.training.start import check_named, check_output, start_of

    chosen = [each.located(begin["store"]) for each in chosen]
    check_named(what, begin["trial"], store=begin["store"])
    output = words["output"]
    if output is None and not words["dry_run"]:
        raise SettingError("name the folder to write (--output), or ask what would be done (--dry-run)")
    if begin["trial"] is not None and not words["dry_run"]:
        check_output(output, force=words["force"], is_begun=is_begun)
    settings, dry_run = dict(words["settings"]), words["dry_run"]
    start = start_of(what, **begin, seed=settings.get("seed", 0), shapes_only=dry_run, progress=Terminal())
    if dry_run:
        for modifier, estimate in estimates(start, chosen):
            print_line(f"{modifier.name}: {estimate}")
        return
    if real_path(output) == real_path(what):
        raise SettingError(f"{output} is the network to begin with: name another folder to write")
    known = {name: value for name, value in start.settings.items() if name in KNOWN}
    asked = ModificationSettings(**{**known, **settings})
    again = f"`{command_line()}`"
    done = modify(start, chosen, output, asked, force=words["force"], progress=Terminal(), again=again)
    _print(done, Path(output))


KNOWN = ("task", "data", "window", "validation_windows", "train_on")
"""Settings of a training that those of modifiers begin with."""


def _print(done: Sequence[Modified], folder: Path) -> None:
    """A row for each modifier, figures before and after."""
    if not done:
        return
    name = next(key for key, value in done[0].before.items() if isinstance(value, Mapping))
    rows = [("", f"{done[0].before[name]['value']:.4f}", "", *_sizes(done[0].before))]
    for each in done:
        mean, error = each.difference
        title = f"{each.modifier.name}{' (done before)' if each.resumed else ''}"
        score = f"{each.after[name]['value']:.4f}"
        rows.append((title, score, f"{mean:+.4f} ± {error:.4f}", *_sizes(each.after)))
    print_table(("", name, "change", "parameters", "not zero", "weight bytes"), rows)
    for each in done:
        for what, note in each.notes.items():
            shown = f"{len(note)} parameters" if isinstance(note, list) else note
            print_line(f"{each.modifier.name}: {what}: {shown}")
    print_line(f"written to {folder}")


def _sizes(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{figures['params']:,}", f"{figures['nonzero']:,}", f"{figures['weight_bytes']:,}"
