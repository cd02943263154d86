"""The command line: commands that call the Python functions, with one clear line for every error.

Exit codes: 0 done, 2 for anything the user can act upon, 130 after Ctrl-C. Every module of `nas.commands`
that has a function `mount(app)` adds its commands. Those of other packages are mounted through the
entry point group `nas.commands`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import FrameType
from typing import Any

import typer
from rich.console import Console

from foundation.errors import NasError
from foundation.wording import as_options
from nas import commands
from nas.commands.search import current_study

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

REFUSED = 2
"""Exit code for everything that the user can act upon."""

_interrupts: list[int] = []

app = typer.Typer(
    name="nas",
    help="Neural architecture search for language models on a given machine.",
    epilog="Start with: nas search laptop --name first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for file in iter_modules(commands.__path__):
    module = import_module(f"{commands.__name__}.{file.name}")
    if hasattr(module, "mount"):
        module.mount(app)


def mount_plugins(group: str = "nas.commands") -> None:
    """Add the commands that other installed packages offer."""
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            command: Callable[..., Any] = entry.load()
        except ImportError as error:  # one broken package must not take the other commands away
            _print_error(f"nas: no command {entry.name!r}: {error}")
            continue
        app.command(name=entry.name)(command)


def main() -> None:
    """Run the command line as a process of its own, which ends when this returns."""
    signal.signal(signal.SIGINT, _first_interrupt)
    mount_plugins()
    _leave(run())


def run(words: Sequence[str] | None = None) -> int:
    """Run one command, by default that of this process; its exit code.

    Every error that a user can act upon is one line on standard error.
    """
    try:
        with as_options():
            app(words)
    except SystemExit as done:  # how Typer ends, after its own messages about wrong usage
        if _interrupts:
            _print_error(f"stopped; {_how_to_continue()}")
        return INTERRUPTED if _interrupts else _code(done)
    except KeyboardInterrupt:
        _print_error(f"stopped; {_how_to_continue()}")
        return INTERRUPTED
    except NasError as error:
        _print_error(f"nas: {error}")
        return REFUSED
    except OSError as error:  # a full disk, a folder without permission: the user can fix that
        _print_error(f"nas: {error.strerror or error}: {error.filename or ''}; {_how_to_continue()}")
        return REFUSED
    return 0


def _print_error(text: str) -> None:
    """One line on standard error."""
    Console(stderr=True, highlight=False).print(text, soft_wrap=True, markup=False, style="red")


def _code(done: SystemExit) -> int:
    return done.code if isinstance(done.code, int) else 0 if done.code is None else 1


def _leave(code: int) -> None:
    """Exit at once, with everything printed, without waiting for threads of libraries."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _first_interrupt(number: int, frame: FrameType | None) -> None:
    """Stop in good order; a second Ctrl-C stops at once, and the store is intact either way."""
    _interrupts.append(number)
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt


def _how_to_continue() -> str:
    name = current_study()
    return f"the study is intact: nas resume {name}" if name else "nothing was lost"


if __name__ == "__main__":
    main()
