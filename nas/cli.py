"""The command line: commands that call the Python functions, with one clear line for every error.

Exit codes:

    0           done
    1           done, and nothing came of it: every candidate failed, a check failed, a study holds no trial
    2           refused, for a reason that the user can act upon: wrong words or values, a full disk
    128 + N     stopped by signal N in good order: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP
    141         nobody reads standard output any more, as in `nas front x | head -1`

Every module of `nas.commands` that has a function `mount(app)` adds its commands. Those of other packages are
mounted through the entry point group `nas.commands`.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points, version
from pkgutil import iter_modules
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from foundation.errors import ClusterError, EvaluationFailed, NasError
from foundation.text import one_line
from foundation.wording import as_options
from nas import commands
from nas.commands.groups import RESULTS, place
from nas.commands.help import flow_help
from nas.commands.output import print_line
from nas.commands.search import current_study
from nas.commands.words import note_words
from nas.signals import STOPPED, STOPS, is_server
from nas.streams import prepare_streams, reader_has_left

FAILED = 1
"""Exit code where all was done, and nothing came of it."""

REFUSED = 2
"""Exit code for everything that the user can act upon."""

WrongUsage: Any = typer.BadParameter.__mro__[1]
"""What Typer raises about words that it cannot read; it has no public name."""

_received: list[int] = []

AGAIN_SECONDS = 0.05
"""After which a stop that was lost in a finalizer is tried again."""

app = typer.Typer(
    name="nas",
    help="Neural architecture search for language models on a given machine.",
    epilog="Start with: nas search laptop --name first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    if asked:
        print_line(f"nas {version('nas')}")
        raise typer.Exit


@app.callback()
def _options(
    wants_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for file in iter_modules(commands.__path__):
    module = import_module(f"{commands.__name__}.{file.name}")
    if hasattr(module, "mount"):
        module.mount(app)
app.registered_commands.sort(key=lambda command: place(command.rich_help_panel))
flow_help(app)


def mount_plugins(group: str = "nas.commands") -> None:
    """Add the commands that other installed packages offer, which are ways to look at results."""
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            command: Callable[..., Any] = entry.load()
        except ImportError as error:  # one broken package must not take the other commands away
            _print_error(f"no command {entry.name!r}: {error}")
            continue
        app.command(name=entry.name, rich_help_panel=RESULTS)(command)


def main() -> None:
    """Run the command line as a process of its own, which ends when this returns."""
    prepare_streams()
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup, or a shell in the background, wants it
            signal.signal(number, _stop)
    sys.unraisablehook = _unraised
    mount_plugins()
    _leave(run())


def run(words: Sequence[str] | None = None) -> int:
    """Run one command, by default that of this process; its exit code.

    Every error that a user can act upon is one line on standard error.
    """
    try:
        with as_options():
            code = _ended(sys.argv[1:] if words is None else words)
    except KeyboardInterrupt:
        code = STOPPED + signal.SIGINT
    if _received:
        code = STOPPED + _received[0]
    if code > STOPPED and code != STOPPED + signal.SIGPIPE:
        _print_error("stopped" if is_server() else f"stopped; {_how_to_continue()}", title="")
    return code


def _ended(words: Sequence[str]) -> int:
    """Run one command; its exit code, unless it was stopped."""
    try:
        note_words(words)
        command = typer.main.get_command(app)
        with command.make_context("nas", list(words)) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:  # Ctrl-C or the end of input where a question was asked
        return STOPPED + signal.SIGINT
    except WrongUsage as error:
        return _wrong_usage(error)
    except EvaluationFailed as error:
        _print_error(str(error))
        return FAILED
    except ClusterError as error:
        _print_error(f"{error}; {_how_to_continue()}")
        return REFUSED
    except NasError as error:
        _print_error(str(error))
        return REFUSED
    except SystemExit as error:  # a file or a function of the user's own
        _print_error(f"code of your own ended the program, by sys.exit({error.code!r})")
        return FAILED
    except MemoryError:
        _print_error(f"out of memory; {_how_to_continue()}")
        return REFUSED
    except OSError as error:  # a full disk, a folder without permission: the user can fix that
        if isinstance(error, BrokenPipeError) and reader_has_left():
            return STOPPED + signal.SIGPIPE
        where = f": {error.filename}" if error.filename else ""
        what = "the current folder was removed" if _is_nowhere() else error.strerror or error
        _print_error(f"{what}{where}; {_how_to_continue()}")
        return REFUSED
    return 0


def _is_nowhere() -> bool:
    """Whether the folder that this process works in is gone."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _wrong_usage(error: Any) -> int:
    """Say what is wrong with the words; where there are none, the help is printed already."""
    if type(error).__name__ != "NoArgsIsHelpError":
        path = error.ctx.command_path if getattr(error, "ctx", None) else "nas"
        _print_error(f"{error.format_message().removesuffix('.')}. See `{path} --help`.")
    return REFUSED


def _print_error(text: str, title: str = "nas: ") -> None:
    """One line on standard error, where that takes one."""
    with contextlib.suppress(OSError):
        Console(stderr=True, highlight=False, emoji=False).print(
            title + one_line(text), soft_wrap=True, markup=False, style="red"
        )


def _leave(code: int) -> None:
    """Exit at once, with everything printed and stored, without waiting for threads of libraries."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    for store in _stores():
        store.close()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = STOPPED + signal.SIGPIPE
    except OSError as error:
        if code == 0:
            _print_error(f"standard output cannot be written: {error.strerror}")
            code = REFUSED
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop in good order; a second signal stops at once, and the store is intact either way."""
    _received.append(number)
    for other in STOPS:
        signal.signal(other, _stop_at_once)
    raise KeyboardInterrupt


def _unraised(lost: sys.UnraisableHookArgs) -> None:
    """Stop a moment later where the signal came while a finalizer ran, out of which nothing is raised."""
    if not _received or not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    number = signal.Signals(_received[0])
    signal.signal(number, _stop_after_all)
    threading.Timer(
        AGAIN_SECONDS, _thread.interrupt_main, (number,)
    ).start()  # not here: nothing is raised here


def _stop_after_all(number: int, frame: FrameType | None) -> None:
    signal.signal(number, _stop_at_once)
    raise KeyboardInterrupt


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    for store in _stores():
        store.checkpoint()
    os._exit(STOPPED + number)


def _stores() -> list[Any]:
    """The stores that are open, where this command has used any: their package takes long to import."""
    module = sys.modules.get("nas.store.store")
    return module.open_stores() if module else []


def _how_to_continue() -> str:
    name = current_study()
    return f"the study is intact: nas resume {name}" if name else "what was saved is intact"


if __name__ == "__main__":
    main()
